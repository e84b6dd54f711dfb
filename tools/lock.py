"""Write the lock files, constraints.txt and docs/licences.md from pyproject.toml: `make lock`, on Linux.

Locked versions stay unless pyproject.toml forbids them; `make lock ARGS=--upgrade` takes the newest that it allows, and
`ARGS="--upgrade-package NAME"` one of them. Hashes are those of every file of a release, for all Pythons and machines
with Linux or macOS.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from importlib.metadata import PackageMetadata, distributions
from itertools import product
from pathlib import Path

from packaging.markers import Marker

ROOT = Path(__file__).resolve().parents[1]
LOCK, BUILD_LOCK, TORCH_LOCK = (ROOT / f"requirements{part}.lock" for part in ("", "-build", "-torch"))
CONSTRAINTS = ROOT / "constraints.txt"
LICENCES = ROOT / "docs/licences.md"

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OLDEST_PYTHON = PYPROJECT["project"]["requires-python"].removeprefix(">=").split(",")[0]

INSTALLERS = ("pip", "setuptools", "editables")
"""What installs and builds beside [build-system]: sdists name no backend, and an editable wheel needs `editables`."""
OF_TORCH = ("torch", "triton", "nvidia-", "cuda-")
"""Beginnings of the names of torch and of the libraries that only some of its builds need."""
FOR_DEVELOPERS = "dev"
"""The extra that users do not install."""
COPYLEFT = re.compile(r"GPL|MPL|Mozilla|EPL|CDDL|EUPL|GNU", re.IGNORECASE)
SOURCES = ("source", "source code", "repository", "github", "code", "homepage", "home")
"""Labels of the links of a release, the one that leads nearest to its code first."""

WRITTEN = "# Written by `make lock` (tools/lock.py); do not edit.\n"
ABOUT = {
    LOCK: "# What `make` installs, but for torch: versions with the hashes of all their files.\n",
    BUILD_LOCK: "# What installs and builds: `make` installs it first, so that no build fetches anything.\n",
    TORCH_LOCK: "# torch as the public index has it, with the libraries of its CUDA build for Linux. Other builds\n"
    "# have other hashes, so `make` takes torch by version, from the index in use. To have these files and no others:\n"
    "# make TORCH='--require-hashes --requirement requirements-torch.lock'\n",
    CONSTRAINTS: "# The versions of the lock files without hashes, for environments that are installed otherwise.\n",
}

PREFACE = """# Licences

Of nano_llm: MIT. Its package holds its own code, words and page only: no font, script, style or model of others.

Of what it needs: below, as each release states it; `make lock` writes this page from the [locked](../requirements.lock)
files. Installing fetches them; nano_llm contains none of them. *for* says who needs a package: `run` every
installation, `extras` one with an extra for users, `dev` who tests or changes nano_llm, `build` who builds it, `torch`
comes with torch (what is NVIDIA's only with the CUDA build for Linux, under NVIDIA's own terms).

## Copyleft

No package is under the GPL, LGPL or AGPL. The Mozilla Public License 2.0 binds who hands on changed files of these to
publish those files; to use them unchanged beside code of any licence is free:

{copyleft}

Wheels also hold binary libraries, under licences told in their `*.dist-info`. Who hands on such wheels, in a container
say, hands on GCC's runtime too: libgfortran and libgomp (numpy, scipy, scikit-learn, torch; GPL-3.0 with the runtime
exception, which leaves the programs that use them alone) and libquadmath (numpy, scipy; LGPL-2.1, linked dynamically).

## All

| package | version | licence | for | source |
|---|---|---|---|---|
"""


def main(options: Sequence[str]) -> None:
    """Write all five files, or none if a version cannot be found or a file has another hash."""
    users = [extra for extra in PYPROJECT["project"]["optional-dependencies"] if extra != FOR_DEVELOPERS]
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch, "whole.lock")
        whole.write_text(LOCK.read_text(encoding="utf-8") + TORCH_LOCK.read_text(encoding="utf-8"), encoding="utf-8")
        entries = compile_lock(whole, "pyproject.toml", "--all-extras", *options)
        building = Path(scratch, "build.in")
        building.write_text("\n".join([*PYPROJECT["build-system"]["requires"], *INSTALLERS]), encoding="utf-8")
        built = Path(scratch, "build.lock")
        built.write_text(BUILD_LOCK.read_text(encoding="utf-8"), encoding="utf-8")
        build = compile_lock(built, str(building), "--constraint", str(whole), *options)
        run = compile_lock(Path(scratch, "run"), "pyproject.toml", "--constraint", str(whole))
        extras = [f"--extra={extra}" for extra in users]
        used = compile_lock(Path(scratch, "used"), "pyproject.toml", *extras, "--constraint", str(whole))
        metadata = fetch_metadata(entries | build, Path(scratch))
    torch = {name for name in entries if name.startswith(OF_TORCH)}
    files = {
        LOCK: [entries[name] for name in entries if name not in torch],
        BUILD_LOCK: build.values(),
        TORCH_LOCK: [entries[name] for name in sorted(torch)],
        CONSTRAINTS: [pin(entry) for name, entry in sorted((entries | build).items()) if name not in torch - {"torch"}],
    }
    for path, lines in files.items():
        path.write_text(WRITTEN + ABOUT[path] + "\n".join(lines) + "\n", encoding="utf-8")
    parts = [("torch", torch), ("run", run), ("extras", used), ("dev", entries), ("build", build)]
    needed_for = {name: next(part for part, names in parts if name in names) for name in metadata}
    LICENCES.write_text(licences_page(metadata, needed_for), encoding="utf-8")


def compile_lock(target: Path, *arguments: str) -> dict[str, str]:
    """Let uv write the lock `target`, keeping its versions; return its entries, hashes and all, by name."""
    command = [Path(sys.executable).with_name("uv"), "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
    command += ["--no-header", "--no-annotate", "--python-version", OLDEST_PYTHON, "--output-file", target, *arguments]
    subprocess.run(command, cwd=ROOT, check=True)
    entries = re.split(r"\n(?=\S)", target.read_text(encoding="utf-8").strip())
    return {entry.split("==")[0]: entry for entry in entries if for_us(entry)}


def for_us(entry: str) -> bool:
    """Return whether Linux or macOS needs the entry; uv also locks for Windows, PyPy and the browser."""
    _, _, marker = entry.split(" \\\n")[0].partition(" ; ")
    places = product(("linux", "darwin"), ("x86_64", "arm64", "aarch64"))
    return not marker or any(
        Marker(marker).evaluate({"sys_platform": system, "platform_machine": machine, "implementation_name": "cpython"})
        for system, machine in places
    )


def pin(entry: str) -> str:
    """Return the `name==version` of an entry, without marker and hashes."""
    return entry.split()[0]


def fetch_metadata(entries: dict[str, str], scratch: Path) -> dict[str, PackageMetadata]:
    """Fetch a file of every release, checked by its hash, and return the metadata inside, by name."""
    asked = scratch / "asked.lock"
    everywhere = [re.sub(r" ;.*? \\", r" \\", entry) for entry in entries.values()]
    asked.write_text("\n".join(everywhere), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--require-hashes", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", scratch / "wheels", "--requirement", asked], check=True)
    found = {}
    for wheel in (scratch / "wheels").iterdir():
        for distribution in distributions(path=[str(wheel)]):
            found[normal(distribution.name)] = distribution.metadata
    return {name: found[name] for name in sorted(entries)}


def normal(name: str) -> str:
    """Return the one spelling of a name that lock files use (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licences_page(metadata: dict[str, PackageMetadata], needed_for: dict[str, str]) -> str:
    """Return docs/licences.md."""
    rows = [
        f"| {name} | {of['Version']} | {licence(of)} | {needed_for[name]} | {source(of)} |"
        for name, of in metadata.items()
    ]
    copyleft = [
        f"- {name} ({licence(of)}), for `{needed_for[name]}`"
        for name, of in metadata.items()
        if COPYLEFT.search(licence(of))
    ]
    return PREFACE.format(copyleft="\n".join(copyleft)) + "\n".join(rows) + "\n"


def licence(metadata: PackageMetadata) -> str:
    """Return the SPDX expression, else the licence named in short, else the classifiers of a release."""
    told = metadata.get("License-Expression") or metadata.get("License") or ""
    if (told and told != "UNKNOWN" and len(told) <= 60) or "License-Expression" in metadata:
        return told
    classifiers = [part.split(" :: ") for part in metadata.get_all("Classifier", [])]
    named = [parts[-1] for parts in classifiers if parts[0] == "License" and len(parts) > 2]
    return ", ".join(named) or "not stated"


def source(metadata: PackageMetadata) -> str:
    """Return where a release says that its code is, or the nearest to it that it states."""
    urls = dict(url.split(", ", 1) for url in metadata.get_all("Project-URL", []))
    labelled = {label.lower(): url for label, url in urls.items()}
    stated = [*(labelled[label] for label in SOURCES if label in labelled), metadata.get("Home-page")]
    return stated[0] or "not stated"


if __name__ == "__main__":
    main(sys.argv[1:])
