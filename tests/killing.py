"""Commands as a user starts them, killed by ``kill -9`` at a moment of chance."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from leavings import NO_CHECKOUT
from nano_llm.tracking.status import read_object

LOOK_SECONDS = 0.002
SITE = '''
"""Loaded by every Python process below a test: a run tells each change of its phase at once."""
import sys

if "nano_llm.run" in sys.orig_argv and "-m" in sys.orig_argv[1:2]:
    import nano_llm.tracking.run_folder

    nano_llm.tracking.run_folder.HEARTBEAT_SECONDS = 0.0
'''

Stage = Callable[[Path], str]
"""Tells from a folder how far the command in it has come."""


class Command:
    """A command line that is given in one folder after the other."""

    def __init__(self, scratch: Path, *words: str) -> None:
        self._words = words
        site = scratch / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(SITE)
        modules = os.pathsep.join([str(site), *filter(None, sys.path)])
        self._variables = {**os.environ, **NO_CHECKOUT, "PYTHONPATH": modules}

    def start(self, place: Path) -> "subprocess.Popen[bytes]":
        """Start it, as the leader of a group of its own."""
        with log_of(place).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *self._words],
                cwd=place,
                env=self._variables,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, place: Path) -> int:
        """Carry it out and return its exit status."""
        return self.start(place).wait(timeout=600)

    def watch(self, place: Path, stage: Stage) -> dict[str, float]:
        """Carry it out undisturbed and return the seconds from the beginning of each stage to that of the next one."""
        began: dict[str, float] = {}
        process = self.start(place)
        while process.poll() is None:
            began.setdefault(stage(place), time.monotonic())
            time.sleep(LOOK_SECONDS)
        assert process.returncode == 0, log_of(place).read_text()
        ends = [*list(began.values())[1:], time.monotonic()]
        return {name: end - start for (name, start), end in zip(began.items(), ends, strict=True)}


def log_of(place: Path) -> Path:
    """Return the file that keeps what commands have said in a folder."""
    return place.with_name(f"{place.name}.log")


def await_moment(process: "subprocess.Popen[bytes]", place: Path, stage: Stage, wanted: str, seconds: float) -> None:
    """Return so many seconds after the command has come to a stage, or when it has ended."""
    while stage(place) != wanted and process.poll() is None:
        time.sleep(LOOK_SECONDS)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return


def kill_group(process: "subprocess.Popen[bytes]") -> bool:
    """End a command and its group at once; tell whether it was still there to be killed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def moments(rng: random.Random, spans: dict[str, float], num: int) -> list[tuple[str, float]]:
    """Draw moments: stages in turn, each at a time of chance within its span."""
    stages = list(spans)
    return [(name := stages[i % len(stages)], rng.uniform(0, spans[name])) for i in range(num)]


def told(phases: Counter[str]) -> str:
    """Say how often each phase was hit."""
    return ", ".join(f"{number} {name}" for name, number in sorted(phases.items()))


def phase_of_run(place: Path) -> str:
    """Return what the one run below a folder is doing, or was doing when it was killed."""
    if any(place.glob("cache/*.partial")):
        return "preparing data"
    if any(place.glob("outputs/*/*/seed-*/checkpoints/.*")):
        return "writing a checkpoint"
    status = _status(place)
    if status.get("state") == "finished":
        return "ending"
    names = {"data": "starting", "training": "a step", "evaluation": "a validation"}
    phase = names[status["phase"]] if "phase" in status else "starting"
    return "the evaluation" if phase == "a validation" and stage_of_run(place) == "evaluation" else phase


def stage_of_run(place: Path) -> str:
    """Return how far the one run below a folder has come: what it does there is another matter."""
    status = _status(place)
    if status.get("phase") in (None, "data"):
        if any(place.glob("cache/*.partial")):
            return "data"
        return "loading" if any(place.glob("cache/*")) else "start"
    return "training" if status.get("share", 0.0) < 1 else "evaluation"


def _status(place: Path) -> dict[str, object]:
    paths = list(place.glob("outputs/*/*/seed-*/status.json"))
    return (read_object(paths[0]) or {}) if paths else {}
