"""The lock files say what the tests ran with, by hash, and docs/licences.md lists the same set."""

import hashlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = {
    name: [Requirement(line) for line in lines] for name, lines in PYPROJECT["project"]["optional-dependencies"].items()
}
OF_ALL = EXTRAS.pop("all")
DIRECT = [Requirement(line) for line in PYPROJECT["project"]["dependencies"]] + [
    requirement for requirements in EXTRAS.values() for requirement in requirements
]
INSTALLED = {canonicalize_name(found.name): found for found in distributions()}


def entries(name: str) -> dict[str, tuple[str, list[str]]]:
    """Return name -> version and what follows it, of a file of pins."""
    lines = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    found: dict[str, tuple[str, list[str]]] = {}
    for line in lines:
        if not line.startswith("#"):
            pin, *rest = line.split()
            package, version = pin.split("==")
            assert package not in found, f"{name} has {package} twice"
            found[package] = (version, [word for word in rest if word.startswith("--")])
    return found


def versions(*names: str) -> dict[str, str]:
    return {package: version for name in names for package, (version, _) in entries(name).items()}


def needed_here() -> set[str]:
    """Return the installed packages that nano_llm needs with all its extras, and what these need."""
    found: set[str] = set()
    waiting = [(one.name, one.extras) for one in DIRECT]
    asked: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = canonicalize_name((one := waiting.pop())[0]), frozenset(one[1])
        if name not in INSTALLED or (name, extras) in asked:
            continue
        asked.add((name, extras))
        found.add(name)
        for line in INSTALLED[name].requires or ():
            need = Requirement(line)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras | {""}):
                waiting.append((need.name, need.extras))
    return found


def test_the_extra_all_is_what_users_can_have() -> None:
    [ours] = OF_ALL
    assert ours.name == PYPROJECT["project"]["name"]
    assert ours.extras == EXTRAS.keys() - {"dev"}


def test_the_lock_files_are_the_three_that_make_installs() -> None:
    assert LOCKS == ["requirements-build.lock", "requirements-torch.lock", "requirements.lock"]


@pytest.mark.parametrize("name", LOCKS)
def test_every_entry_has_hashes_and_nothing_else(name: str) -> None:
    for package, (_, options) in entries(name).items():
        assert options, f"{package} in {name} has no hash"
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", option) for option in options), f"{package} in {name}"


def test_the_environment_of_the_tests_is_the_locked_one() -> None:
    locked = versions(*LOCKS)
    installed = {name: Version(INSTALLED[name].version).public for name in needed_here()}
    assert {"numpy", "torch", "pytest", "jinja2", "markupsafe"} <= set(installed)
    unlike = {name: (version, locked.get(name)) for name, version in installed.items() if locked.get(name) != version}
    assert not unlike, f"installed and locked versions differ (`make lock` writes the lock files): {unlike}"


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_what_pyproject_asks_for_is_locked(requirement: Requirement) -> None:
    version = versions(*LOCKS)[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version), f"{requirement} is locked as {version}: `make lock`"


def test_lock_files_and_constraints_agree() -> None:
    main, build, torch = (entries(f"requirements{part}.lock") for part in ("", "-build", "-torch"))
    assert {name: build[name] for name in build.keys() & main.keys()} == {
        name: main[name] for name in build.keys() & main.keys()
    }
    assert not torch.keys() & (main.keys() | build.keys())
    wanted = versions("requirements.lock", "requirements-build.lock") | {"torch": torch["torch"][0]}
    assert versions("constraints.txt") == wanted


def test_what_builds_the_package_is_locked() -> None:
    locked = versions("requirements-build.lock")
    for line in PYPROJECT["build-system"]["requires"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(locked[requirement.name])


def test_make_installs_by_hash_what_is_not_torch_or_ours() -> None:
    command = ["make", "--dry-run", "--always-make", "--no-print-directory", ".venv/.installed"]
    asked = {name: value for name, value in os.environ.items() if name not in ("TORCH", "MAKEFLAGS")}
    told = subprocess.run(command, cwd=ROOT, env=asked, capture_output=True, text=True, check=True).stdout
    installs = [line.partition(" install ")[2] for line in told.splitlines() if " install " in line]
    assert installs[-2:] == ["--constraint constraints.txt torch", "--no-deps --no-build-isolation --editable ."]
    for line, lock in zip(installs[:-2], ("requirements-build.lock", "requirements.lock"), strict=True):
        assert line.startswith("--require-hashes ")
        assert line.endswith(f" --requirement {lock}")
        assert "--only-binary :all:" in line or "--no-build-isolation" in line, (
            "a build fetches what it needs, unchecked"
        )


def install_forged(folder: Path, digest: str) -> subprocess.CompletedProcess[str]:
    """Offer a wheel of our own making as the locked `mdurl`, whose entry has one hash replaced; let pip try."""
    version, [_, *others] = entries("requirements.lock")["mdurl"]
    (folder / "mdurl.lock").write_text(" ".join([f"mdurl=={version}", f"--hash=sha256:{digest}", *others]))
    command = [sys.executable, "-m", "pip", "--isolated", "install", "--dry-run", "--ignore-installed", "--no-index"]
    command += ["--require-hashes", "--find-links", str(folder), "--requirement", str(folder / "mdurl.lock")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_file_that_is_not_the_locked_one_is_refused(tmp_path: Path) -> None:
    version, [first, *_] = entries("requirements.lock")["mdurl"]
    forged = tmp_path / f"mdurl-{version}-py3-none-any.whl"
    with zipfile.ZipFile(forged, "w") as wheel:
        about = f"mdurl-{version}.dist-info"
        wheel.writestr("mdurl/__init__.py", "print('let in')")
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: mdurl\nVersion: {version}\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    refused = install_forged(tmp_path, first.removeprefix("--hash=sha256:"))
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    taken = install_forged(tmp_path, hashlib.sha256(forged.read_bytes()).hexdigest())
    assert taken.returncode == 0, taken.stderr


def licence_rows() -> list[list[str]]:
    lines = (ROOT / "docs/licences.md").read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")][1:]


def test_licences_list_exactly_the_locked_set() -> None:
    assert {name: version for name, version, *_ in licence_rows()} == versions(*LOCKS)
    assert len(licence_rows()) == len(versions(*LOCKS))
    assert all(licence for _, _, licence, *_ in licence_rows())


def test_copyleft_is_told_apart() -> None:
    page = (ROOT / "docs/licences.md").read_text(encoding="utf-8")
    assert not [row for row in licence_rows() if "GPL" in row[2] or "GNU" in row[2]], "the page says that there is none"
    for name, _, licence, part, _ in licence_rows():
        told = f"- {name} ({licence}), for `{part}`" in page
        assert told == ("MPL" in licence or "Mozilla" in licence), name


def test_nothing_names_a_registry_or_a_folder_of_a_machine() -> None:
    for name in [*LOCKS, "constraints.txt", "docs/licences.md", "tools/lock.py"]:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"--(extra-)?index-url|--find-links|file://|/simple\b|://pypi", text), name
