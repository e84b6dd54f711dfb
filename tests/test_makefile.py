"""The Makefile: every target has its line of help, does what it says, and makes first what it needs."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from nano_llm.cli.main import COMMANDS
from nano_llm.config.compose import compose_config, problems_of

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "Makefile").read_text(encoding="utf-8")
ASKED_FOR = {
    "help", "build", "train", "resume", "train-imdb", "sweep", "table", "generate", "chat", "serve", "test", "test-cov",
    "test-all", "lint", "format", "docs", "clean",
}  # fmt: skip
TARGETS = re.findall(r"^([a-z0-9-]+):", TEXT, re.MULTILINE)
BIN = ".venv/bin/"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


def told(target: str, *options: str, outputs: Path = Path("/nowhere"), check: bool = True) -> list[str]:
    """Return the lines of a shell that make would carry out for a target, were nothing installed."""
    asked = {name: value for name, value in os.environ.items() if name not in ("ARGS", "MAKEFLAGS", "RUN", "TORCH")}
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "--no-print-directory", target, *options],
        cwd=ROOT,
        env={**asked, "NANO_LLM_OUTPUTS": str(outputs)},
        capture_output=True,
        text=True,
        check=check,
    )
    return done.stdout.replace("\\\n", " ").splitlines()


def commands(target: str, *options: str, outputs: Path = Path("/nowhere")) -> list[str]:
    """Return what make would carry out for a target in the environment, once that is there."""
    lines = told(target, *options, outputs=outputs)
    return [line.strip() for line in lines if BIN in line and "-m pip" not in line]


def training_line() -> str:
    [line] = commands("train")
    return line


def test_the_targets_that_were_asked_for_are_there() -> None:
    assert set(TARGETS) >= ASKED_FOR
    assert len(set(TARGETS)) == len(TARGETS)


def test_help_comes_first_and_tells_of_every_target_on_one_line() -> None:
    done = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = [line.split(None, 1) for line in done.stdout.splitlines()]
    assert [name for name, _ in listed] == TARGETS
    assert all(len(line) <= 120 for line in done.stdout.splitlines())


def test_no_target_is_the_name_of_a_file() -> None:
    [phony] = re.findall(r"^\.PHONY:(.*)$", TEXT.replace("\\\n", " "), re.MULTILINE)
    assert set(phony.split()) == {*TARGETS, ".trained", ".swept"}


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_lines_that_a_shell_can_read(target: str) -> None:
    lines = told(target)
    assert lines
    subprocess.run(["sh", "-n"], input="\n".join(lines), text=True, check=True)


@pytest.mark.parametrize("target", sorted({*TARGETS} - {"help", "clean"}))
def test_a_target_makes_the_environment_first(target: str) -> None:
    first, *_ = told(target)
    assert first.endswith("-m venv .venv")
    assert commands(target)


@pytest.mark.parametrize("target", sorted({*TARGETS} - {"help", "clean"}))
def test_commands_of_a_target_exist(target: str) -> None:
    for line in commands(target):
        words = [word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)]
        program, *arguments = words
        match program.removeprefix(BIN), arguments:
            case "nano-llm", ["run", "-m", *overrides]:
                assert not problems_of(overrides, multirun=True)
            case "nano-llm", ["run", *overrides]:
                compose_config(overrides)
            case "nano-llm", [name, *_]:
                assert name in COMMANDS
            case "python", ["-m", module, *rest]:
                assert module in ("pytest", "hatchling")
                assert all((ROOT / word).exists() for word in rest if word.startswith("tests/"))
            case "python", [script]:
                assert (ROOT / script).is_file()
            case tool, _:
                assert tool in ("ruff", "mypy")


def test_resuming_is_the_same_command_again() -> None:
    assert commands("resume", "ARGS=seed=3") == commands("train", "ARGS=seed=3") == [f"{training_line()} seed=3"]


def test_what_is_given_wins_over_what_a_target_says() -> None:
    [line] = commands("train", "ARGS=model=vanilla data=tags trainer.max_minutes=5")
    config = compose_config(shlex.split(line)[2:])
    assert (config.model.name, config.data.name, config.trainer.max_minutes) == ("vanilla", "tags", 5)


@pytest.mark.parametrize("target", ["generate", "chat", "serve"])
def test_a_run_is_trained_first_only_if_there_is_none(target: str, tmp_path: Path) -> None:
    asking = f"{BIN}nano-llm {target} latest --device cpu"
    assert commands(target, "ARGS=--device cpu", outputs=tmp_path) == [training_line(), asking]

    best = tmp_path / "runs/tarnet-0/seed-0/checkpoints/best"
    best.mkdir(parents=True)
    assert len(commands(target, outputs=tmp_path)) == 2, "it has no checkpoint yet"
    (best / "manifest.json").write_text("{}")
    assert commands(target, "ARGS=--device cpu", outputs=tmp_path) == [asking]


@pytest.mark.parametrize("target", ["generate", "chat", "serve"])
def test_a_run_that_is_named_is_taken_as_it_is(target: str, tmp_path: Path) -> None:
    assert commands(target, "RUN=a/run", outputs=tmp_path) == [f"{BIN}nano-llm {target} a/run"]


def test_a_table_is_of_the_experiment_that_was_swept(tmp_path: Path) -> None:
    [sweep] = commands("sweep", "EXPERIMENT=demo")
    report = f"{BIN}nano-llm report {tmp_path}/demo --baseline vanilla"
    table = ("table", "EXPERIMENT=demo", "ARGS=--baseline vanilla")
    assert commands(*table, outputs=tmp_path) == [sweep, report]
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/sweep.json").write_text("{}")
    assert commands(*table, outputs=tmp_path) == [report]


def test_the_study_of_a_sweep_has_the_name_of_its_experiment() -> None:
    """So that `table` finds it."""
    for path in (ROOT / "conf/experiment").glob("*.yaml"):
        experiment = yaml.safe_load(path.read_text(encoding="utf-8"))
        if "sweep" in experiment:
            assert experiment["study"] == path.stem


def test_what_was_built_and_measured_is_cleaned_away_but_no_run() -> None:
    [line] = told("clean")
    removed = shlex.split(line)[2:]
    assert {".venv", "dist", ".coverage"} <= set(removed)
    assert "outputs" not in removed
    ignored = {name.rstrip("/") for name in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()}
    assert set(removed) <= ignored
