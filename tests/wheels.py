"""Wheels and sdists, built as the project tells to."""

import subprocess
import sys
import zipfile
from pathlib import Path


def build(source: Path, target: Path, kind: str) -> Path:
    """Build with the locked hatchling, and nothing from elsewhere."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
