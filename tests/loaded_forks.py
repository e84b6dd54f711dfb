"""Processes forked from one that has loaded torch, and all else that commands import."""

import multiprocessing
import os
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["commands_loaded"])


def settle(place: Path, log: Path) -> None:
    """Let this process work in a folder and say all into a file."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(place)
