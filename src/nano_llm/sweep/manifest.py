"""``sweep.json``: the cells of a study's sweeps and the commands that asked for them; and who is at work on them.

    {"format": 1, "study": "first",
     "commands": [["model=vanilla,tarnet", "sweep.seeds=3"]],
     "cells": [{"id": "9f2c...", "name": "tarnet-scm-nano", "seed": 0, "folder": "tarnet-scm-nano-9f2c.../seed-0",
                "overrides": ["model=tarnet", "seed=0"]}]}

A later call adds its cells and never drops any.
"""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nano_llm.errors import OutputError
from nano_llm.files import explained_writes, write_json
from nano_llm.sweep.cell import Cell
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
        lock = (study / ".lock").open("a+")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise OutputError(
                f"Another sweep ({lock.read().strip() or 'unknown'}) is at work in {study}. Wait for it, stop it, or "
                "give this one a folder of its own with study=NAME."
            ) from None
        lock.truncate(0)
        lock.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        yield


def add_cells(study: Path, overrides: Sequence[str], cells: Sequence[Cell]) -> None:
    """Note a call and its cells in the study's manifest.

    Raises:
        OutputError: The manifest is unreadable, of another format, or cannot be written.
    """
    manifest = _read(study)
    if list(overrides) not in manifest["commands"]:
        manifest["commands"].append(list(overrides))
    known = {cell["folder"] for cell in manifest["cells"]}
    manifest["cells"].extend(_entry(cell) for cell in cells if cell.folder not in known)
    write_json(study / MANIFEST, manifest)


def read_cells(study: Path) -> list[dict[str, Any]]:
    """Return what the manifest says of each cell; none without a manifest."""
    cells: list[dict[str, Any]] = _read(study)["cells"]
    return cells


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
