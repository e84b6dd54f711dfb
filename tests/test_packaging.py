"""Wheel and sdist: what they hold, that they agree, and that an installed wheel works without a checkout."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from nano_llm import __version__
from wheels import build, contents

ROOT = Path(__file__).resolve().parents[1]
NOT_SOURCE = {"__pycache__"}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="session")
def unpacked_sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build(ROOT, folder, "sdist")) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"nano_llm-{__version__}"


def files_below(folder: Path) -> set[str]:
    paths = [path for path in folder.rglob("*") if path.is_file() and NOT_SOURCE.isdisjoint(path.parts)]
    return {path.relative_to(folder).as_posix() for path in paths}


# ------------------------------------------------------------------------------------------ contents


def test_the_wheel_holds_the_package_its_configuration_and_nothing_else(wheel: Path) -> None:
    about = f"nano_llm-{__version__}.dist-info/"
    found = {name for name in contents(wheel) if not name.startswith(about)}
    conf = {f"nano_llm/conf/{name}" for name in files_below(ROOT / "conf")}
    models = {f"nano_llm/models/{name}" for name in files_below(ROOT / "experiments/models")}
    assert found == files_below(ROOT / "src") | conf | models
    assert {
        "nano_llm/py.typed",
        "nano_llm/conf/config.yaml",
        "nano_llm/generation/redaction.yaml",
        "nano_llm/report/page.html.j2",
        "nano_llm/serving/page/index.html",
        "hydra_plugins/nano_llm/sweeper.py",
    } <= found
    assert not [name for name in found if "test" in Path(name).name]
    assert f"{about}licenses/LICENSE" in contents(wheel)


def test_the_sdist_builds_the_same_wheel(wheel: Path, unpacked_sdist: Path, tmp_path: Path) -> None:
    assert contents(build(unpacked_sdist, tmp_path, "wheel")) == contents(wheel)


def test_the_sdist_holds_what_its_tests_read(unpacked_sdist: Path) -> None:
    for folder in ("src", "conf", "docs", "experiments", "tests", "tools"):
        kept = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z", folder], capture_output=True, text=True, check=False
        )
        if kept.returncode != 0:
            pytest.skip("not in a checkout")
        names = set(filter(None, kept.stdout.split("\0")))
        assert names <= files_below(unpacked_sdist)


# ------------------------------------------------------------------------------------------ installed


class Installed:
    """A wheel in an environment of its own, which borrows the packages of this one, but not its nano_llm."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        self.place, self._bin = folder / "elsewhere", folder / "venv/bin"
        self.place.mkdir()
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
        python = str(self._bin / "python")
        pip = [sys.executable, "-m", "pip", "--isolated", "--quiet", "--python", python]
        subprocess.run([*pip, "install", "--no-index", "--no-deps", str(wheel)], check=True)
        asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        self.site = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
        # A line of a .pth is searched for packages, but its own .pth files, one of which may name a checkout, are not.
        borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        (self.site / "borrowed.pth").write_text("".join(f"{path}\n" for path in borrowed))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("NANO_LLM_", "PYTHON"))}
        kept |= {"HOME": str(self.place), "PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}"}
        self.variables = {**kept, "CUDA_VISIBLE_DEVICES": ""}

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.place, env=self.variables, capture_output=True, text=True, timeout=300, check=False
        )

    def start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=self.place, env=self.variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(wheel, tmp_path_factory.mktemp("installed"))


def test_an_installed_wheel_knows_its_version(installed: Installed) -> None:
    done = installed.run(["nano-llm", "--version"])
    assert (done.stdout, done.stderr) == (f"{__version__}\n", "")


def test_an_installed_wheel_is_in_order_and_not_the_checkout(installed: Installed) -> None:
    done = installed.run(["nano-llm", "doctor", "--json"])
    found = json.loads(done.stdout)
    assert found["problems"] == []
    assert done.returncode == 0
    assert Path(found["code"]) == installed.site / "nano_llm"
    assert found["environment"]["git"] is None


@pytest.mark.slow
def test_an_installed_wheel_trains_and_writes_without_a_checkout(installed: Installed) -> None:
    tiny = ["data=scm", "data.num_train=40", "data.num_validation=8", "data.num_test=8", "data.num_pairs=4"]
    tiny += ["scale=tiny", "trainer.max_epochs=null", "trainer.max_steps=2", "trainer.evaluation=none"]
    done = installed.run(["nano-llm", "run", "model=tarnet", *tiny])
    assert done.returncode == 0, done.stderr
    assert len(list(installed.place.glob("outputs/runs/*/seed-0/summary.json"))) == 1
    # Each of these needs a file of the package that is no code.
    done = installed.run(["nano-llm", "generate", "latest", "--tokens", "3", "--html", "page.html"])
    assert done.returncode == 0, done.stderr
    assert "<html" in (installed.place / "page.html").read_text()


def test_an_installed_wheel_writes_with_the_model_that_comes_with_it(installed: Installed) -> None:
    done = installed.run(["nano-llm", "generate", "imdb-mini", "--tokens", "3", "--device", "cpu"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("[...]") == 2  # Y0 and Y1, cut


@pytest.mark.slow
def test_an_installed_wheel_serves_the_model_that_comes_with_it(installed: Installed) -> None:
    pytest.importorskip("fastapi")
    with installed.start(["nano-llm", "serve", "imdb-mini", "--port", "0", "--device", "cpu"]) as server:
        try:
            assert server.stdout is not None
            name, _, address, *_ = server.stdout.readline().split()
            assert name == "imdb-mini"
            done = installed.run(
                ["nano-llm", "ask", "The film", "--tokens", "3", "--outcome", "both", "--url", address]
            )
            assert done.returncode == 0, done.stderr
            assert {"Y0", "Y1"} <= set(done.stdout.split())
            server.terminate()
            assert server.wait(timeout=60) == 0
        finally:
            server.kill()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nano-llm doc", {"doctor"}),
        ("nano-llm run model=tarnet data=s", {"data=scm"}),
        ("nano-llm run experiment=dem", {"experiment=demo"}),
    ],
)
def test_bash_completes_the_commands_of_an_installed_wheel(line: str, expected: set[str], installed: Installed) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash here")
    # What bash does when the tab key is pressed, by the function that it was told to call.
    script = (
        'set -e; eval "$(nano-llm -sc install=bash)"; '
        '[[ "$(complete -p nano-llm)" == *"-F hydra_bash_completion nano-llm" ]]; '
        "COMP_LINE=$1; COMP_POINT=${#1}; COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); "
        'hydra_bash_completion; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = installed.run([bash, "--norc", "-c", script, "bash", line])
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == expected


# ------------------------------------------------------------------------------------ version, citation


def test_the_version_is_told_once_and_told_alike() -> None:
    told = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(\d[^]]*)\]", told, re.MULTILINE)[0] == __version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == __version__
    for name in ("pyproject.toml", "Dockerfile", "compose.yaml", "compose.gpu.yaml"):
        path = ROOT / name
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        assert __version__ not in re.findall(r"(?<![\d.])\d+\.\d+\.\d+(?![\d.])", text), f"{name} tells it again"
    wheels = re.findall(r"nano_llm-(\d[\d.]*)-py3", (ROOT / "docs/installation.md").read_text(encoding="utf-8"))
    assert set(wheels) == {__version__}


def test_changes_are_told_as_keep_a_changelog_has_it() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heads = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - (\d{4}-\d\d-\d\d|unreleased)", head) for head in heads), heads
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known limits"}
    assert set(re.findall(r"^### (.*)", text, re.MULTILINE)) <= kinds


def test_the_citation_names_the_papers_and_invents_no_author() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version", "license", "type"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == [{"name": "nano_llm contributors"}]
    for reference in citation["references"]:
        assert {"type", "title", "authors", "year", "url"} <= reference.keys()
        for author in reference["authors"]:
            assert author.keys() in ({"name"}, {"given-names", "family-names"})
            assert all(isinstance(value, str) and value for value in author.values())
    cited = {reference["url"]: len(reference["authors"]) for reference in citation["references"]}
    assert cited == {
        "https://arxiv.org/abs/2603.15031": 37,
        "https://arxiv.org/abs/1606.03976": 3,
        "https://aclanthology.org/P11-1015": 6,
    }


def test_the_page_on_installation_lists_the_extras_of_users() -> None:
    page = (ROOT / "docs/installation.md").read_text(encoding="utf-8")
    from importlib.metadata import metadata

    extras = set(metadata("nano-llm").get_all("Provides-Extra") or [])
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert extras - {"dev"} <= set(re.findall(r"`(\w+)`", " ".join(rows)))
