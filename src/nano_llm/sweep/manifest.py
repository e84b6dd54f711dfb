"""``sweep.json``: the cells of a study's sweeps and the commands that asked for them; and who is at work on them.

    {"format": 1, "study": "first",
     "commands": [["model=vanilla,tarnet", "sweep.seeds=3"]],
     "cells": [{"id": "9f2c...", "name": "tarnet-scm-nano", "seed": 0, "folder": "tarnet-scm-nano-9f2c.../seed-0",
                "overrides": ["model=tarnet", "seed=0"]}],
     "wall_seconds": 412.7, "ended": "2026-01-31T12:00:00+00:00"}

A later call adds its cells and never drops any. ``wall_seconds`` is the sum over all calls that had something to do,
and ``ended`` is the end of the last one; a call that was killed tells neither.
"""

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from nano_llm.errors import OutputError
from nano_llm.files import explained_writes, write_json
from nano_llm.sweep.cell import Cell
from nano_llm.tracking.lock import LOCK, take_hold
from nano_llm.tracking.status import read_object

FORMAT = 1
MANIFEST = "sweep.json"


@contextlib.contextmanager
def held(study: Path) -> Iterator[None]:
    """Hold a study's folder against other sweeps; the system lets go when the process ends in any way.

    Raises:
        OutputError: Another sweep holds it, or it cannot be created.
    """
    with explained_writes(study):
        study.mkdir(parents=True, exist_ok=True)
        lock = _take_hold(study)
        # Not buffered: what a full disk does not take would be tried again when the file is closed.
        os.ftruncate(lock.fileno(), 0)
        os.write(lock.fileno(), f"pid {os.getpid()} on {socket.gethostname()}\n".encode())
    with lock:
        yield


def add_command(study: Path, command: Sequence[str]) -> None:
    """Note a call in the study's manifest.

    Args:
        study: Folder of the study.
        command: The overrides as typed, those of Hydra itself included.

    Raises:
        OutputError: The manifest is unreadable, of another format, or cannot be written.
    """
    manifest = _read(study)
    if list(command) not in manifest["commands"]:
        manifest["commands"].append(list(command))
        write_json(study / MANIFEST, manifest)


def add_cells(study: Path, cells: Sequence[Cell]) -> None:
    """Note cells in the study's manifest.

    Raises:
        OutputError: The manifest is unreadable, of another format, or cannot be written.
    """
    manifest = _read(study)
    known = {cell["folder"] for cell in manifest["cells"]}
    manifest["cells"].extend(_entry(cell) for cell in cells if cell.folder not in known)
    write_json(study / MANIFEST, manifest)


def add_seconds(study: Path, seconds: float) -> None:
    """Note that a call ends now, after so many seconds.

    Raises:
        OutputError: The manifest is unreadable, of another format, or cannot be written.
    """
    manifest = _read(study)
    total = round(manifest.get("wall_seconds", 0.0) + seconds, 1)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(study / MANIFEST, {**manifest, "wall_seconds": total, "ended": now})


def wall_seconds(study: Path) -> float:
    """Return the seconds of all calls that have noted them."""
    return float(_read(study).get("wall_seconds", 0.0))


def _take_hold(study: Path) -> IO[str]:
    try:
        return take_hold(study)
    except BlockingIOError:
        holder = (study / LOCK).read_text(encoding="utf-8", errors="replace").strip() or "unknown"
        raise OutputError(
            f"Another sweep ({holder}) is at work in {study}. Wait for it, stop it, or give this one a folder of its "
            "own with study=NAME."
        ) from None


def _read(study: Path) -> dict[str, Any]:
    path = study / MANIFEST
    if not path.exists():
        return {"format": FORMAT, "study": study.name, "commands": [], "cells": []}
    manifest = read_object(path)
    if manifest is None or manifest.get("format") != FORMAT:
        raise OutputError(f"{path} is damaged or of another version; move it away, the runs beside it stay usable.")
    return manifest


def _entry(cell: Cell) -> dict[str, Any]:
    return {
        "id": cell.id,
        "name": cell.name,
        "seed": cell.seed,
        "folder": cell.folder,
        "overrides": cell.overrides,
    }
