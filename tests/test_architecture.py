"""The ground plan holds: imports go one way, and the commands that pages show exist."""

import ast
import re
import shlex
import sys
from pathlib import Path

import pytest

from documented import PAGES, Command, commands, first_values
from nano_llm.config.compose import compose_config
from nano_llm.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src/nano_llm"

MAY_IMPORT = {
    "errors": set(),
    "metrics": set(),
    "files": {"errors"},
    "interruption": set(),
    "config": {"errors"},
    "data": {"config", "errors", "files"},
    "model": {"config", "errors"},
    "objective": {"config", "data"},
    "training": {"config", "data", "errors", "interruption", "objective"},
    "checkpoint": {"config", "data", "errors", "files", "model"},
    "generation": {"checkpoint", "config", "data", "errors", "model"},
    "serving": {"checkpoint", "config", "data", "errors", "files", "generation", "report"},
    "bench": {
        "checkpoint",
        "config",
        "data",
        "errors",
        "generation",
        "model",
        "objective",
        "training",
    },
    "evaluation": {"config", "data", "errors", "files", "generation", "metrics", "model", "objective", "training"},
    "export": {"checkpoint", "config", "data", "errors", "files", "generation", "metrics"},
    "tracking": {"config", "errors", "files", "training"},
    "report": {"errors", "files", "metrics", "tracking"},
    "sweep": {
        "checkpoint",
        "config",
        "data",
        "errors",
        "files",
        "identity",
        "interruption",
        "model",
        "report",
        "session",
        "tracking",
        "training",
    },
    "identity": {"checkpoint", "config", "data", "tracking", "training"},
    "agreement": {"config", "errors", "identity", "training"},
    "learner": {"checkpoint", "config", "data", "errors", "model", "objective", "training"},
    "reference_import": {"checkpoint", "config", "data", "errors", "files", "model"},
}
"""Room -> the rooms that it may import beside itself. Entry points (session, assessment, run, cli) may import all.

A sweep starts sessions and tells their size beforehand; of what a run trains it knows nothing."""

FREE_OF_TORCH = {"errors", "metrics", "files", "interruption", "config", "data", "report"}
TORCH_ALLOWED_IN = {"data/batches.py"}
SHIPPED = PACKAGE / "export/shipped"
"""What is copied beside exported weights, where transformers runs it without us."""


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Return the dotted names that a module imports anywhere, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or path.parent == SHIPPED, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_follow_the_arrows(path: Path) -> None:
    room = room_of(path)
    if room not in MAY_IMPORT:
        assert room in {"session", "assessment", "run", "cli"}, f"{room} needs a place in the ground plan"
        return
    used = {name.split(".")[1] for name in imported(path) if name.startswith("nano_llm.")} - {"__version__"}
    assert used <= MAY_IMPORT[room] | {room}


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_light_rooms_import_no_torch(path: Path) -> None:
    if room_of(path) in FREE_OF_TORCH and path.relative_to(PACKAGE).as_posix() not in TORCH_ALLOWED_IN:
        assert not [name for name in imported(path) if name.split(".")[0] == "torch"]


def test_shipped_code_needs_torch_and_transformers_alone() -> None:
    own = {path.stem for path in SHIPPED.glob("*.py")}
    for path in SHIPPED.glob("*.py"):
        used = {name.split(".")[0] for name in imported(path)} - own
        assert used - sys.stdlib_module_names <= {"torch", "transformers"}


UNTESTED_ALONE = {
    "errors.py": "names only",
    "bench/gpt2.py": "in bench/test_train and bench/test_decode",
    "bench/preparing.py": "in bench/test_data",
    "cli/extras.py": "in cli/test_serve and cli/test_bench",
    "cli/asking.py": "in cli/test_generate",
    "cli/examining.py": "in cli/test_doctor",
    "cli/live.py": "in cli/test_generate",
    "cli/prepare.py": "in cli/test_main",
    "cli/import_reference.py": "in test_reference_import",
    "cli/status.py": "in tracking/test_status",
    "config/identity.py": "in config/test_compose",
    "config/plugins.py": "in sweep/test_search",
    "config/register.py": "in config/test_compose",
    "config/schema.py": "in config/test_compose",
    "config/strict.py": "in config/test_compose",
    "data/arrays.py": "in data/test_split",
    "data/build.py": "in data/test_prepare",
    "data/delimited.py": "in data/test_local and data/test_cad",
    "data/identity.py": "in data/test_prepare",
    "data/published.py": "in data/test_local",
    "data/review.py": "a record",
    "data/samples.py": "in data/test_windows",
    "data/scm_lexicon.py": "in data/test_scm",
    "export/shipped/configuration_nano_llm.py": "in export/test_settings",
    "model/layers.py": "in model/test_trunk",
    "cli/report.py": "in report/test_report",
    "report/arms.py": "in report/test_report",
    "report/collect.py": "in report/test_report",
    "report/page.py": "in report/test_report",
    "report/table.py": "in report/test_report",
    "report/published.py": "in report/test_report",
    "metrics.py": "in test_assessment",
    "evaluation/suite.py": "in test_assessment",
    "evaluation/subject.py": "in test_assessment",
    "evaluation/corpora.py": "in test_assessment",
    "evaluation/records.py": "in test_assessment",
    "cli/evaluate.py": "in test_assessment",
    "evaluation/measured.py": "records",
    "evaluation/needs.py": "in test_assessment",
    "report/figures/study.py": "in report/test_figures",
    "serving/answer.py": "in serving/test_completions",
    "serving/answering.py": "in serving/test_stream",
    "serving/fields.py": "in serving/test_asked",
    "serving/limits.py": "a record",
    "serving/prompts.py": "in serving/test_asked",
    "serving/responses.py": "in serving/test_documented",
    "serving/service.py": "in serving/test_catalog",
    "sweep/cell.py": "in sweep/test_sweep",
    "sweep/child.py": "in sweep/test_sweep",
    "sweep/hydra.py": "in sweep/test_sweep",
    "sweep/manifest.py": "in sweep/test_sweep",
    "sweep/process.py": "in sweep/test_sweep",
    "tracking/tracker.py": "names only",
    "training/state.py": "in test_session",
}
"""Module -> where its tests are, when they are not in the test file of its name."""


OF_NO_MODULE = {
    "test_architecture",
    "test_docker",
    "test_documented_commands",
    "test_experiments",
    "test_extending",
    "test_faults_of_disk",
    "test_hostile_clients",
    "test_makefile",
    "test_malformed_bodies",
    "test_notebooks",
    "test_packaging",
    "test_reference",
    "test_ship",
    "test_supply",
    "test_table512",
    "test_torture",
    "test_written_pages",
}
"""Tests of the whole, or of several modules at once."""


def test_tests_mirror_the_source() -> None:
    tests = ROOT / "tests"
    for path in tests.rglob("test_*.py"):
        if path.stem in OF_NO_MODULE or path.parent.name == "torture":
            continue
        mirrored = PACKAGE / path.parent.relative_to(tests) / path.name.removeprefix("test_")
        assert mirrored.exists() or mirrored.with_suffix("").is_dir(), f"{path} mirrors nothing"
    for path in modules():
        place = path.relative_to(PACKAGE)
        if place.as_posix() not in UNTESTED_ALONE:
            assert (tests / place.parent / f"test_{place.name}").exists(), f"{place} has no test of its own"


SHOWN = [
    command
    for page in PAGES
    for command in commands(page)
    # What that page adds is not in the tree; tests/test_extending.py carries its commands out.
    if command.language == "bash" and command.page != "docs/extending.md"
]


def test_the_targets_of_make_that_pages_show_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {shlex.split(command.text)[1] for command in SHOWN if command.text.startswith("make ")}
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize(
    "command",
    [found for found in SHOWN if "nano_llm.run" in found.text or "llm run" in found.text],
    ids=lambda x: x.place,
)
def test_the_training_commands_that_pages_show_compose(command: Command) -> None:
    """Those too that cannot be run, for want of several devices say."""
    overrides = first_values(shlex.split(command.text))
    if command.output:  # it shows a mistake
        with pytest.raises(ConfigError):
            compose_config(overrides)
        return
    compose_config(overrides)


def test_the_layout_names_every_room() -> None:
    text = (ROOT / "docs/development.md").read_text(encoding="utf-8")
    for room in {room_of(path) for path in modules()}:
        assert f"{room}/" in text or f"{room}.py" in text, f"{room} is missing from the layout"


@pytest.mark.parametrize("path", sorted((ROOT / "src/hydra_plugins").rglob("*.py")), ids=lambda path: path.name)
def test_plugin_modules_are_thin_shells(path: Path) -> None:
    """Every Hydra application of the environment executes them, before they are in ``sys.modules``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    at_import = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {alias.name for node in at_import if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in at_import if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in modules} <= {"hydra", "omegaconf", "typing", "collections"}
