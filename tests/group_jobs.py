"""What each process of a job does in the tests of groups: ``python group_jobs.py JOB ARGUMENTS``."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console

from nano_llm import run, session
from nano_llm.cli.ending import tell
from nano_llm.config.compose import compose_config
from nano_llm.errors import DataError, GroupError
from nano_llm.interruption import Interrupted
from nano_llm.session import Session, run_session
from nano_llm.training import group as groups
from nano_llm.training import loop
from nano_llm.training.group import Group, joined
from nano_llm.training.place import Place
from tiny_run import TINY_RUN

RANK = int(os.environ["RANK"])


def together(folder: str, *sessions: str) -> None:
    """Speak in every way there is, then carry out runs, one after the other.

    Args:
        folder: Receives what each process has heard.
        sessions: JSON of overrides, and of the step after which to stop or null.
    """
    with joined(Place.of(os.environ), tell) as group:
        heard = {**speak(group, Path(folder)), "parameters": []}
        for text in sessions:
            overrides, until = json.loads(text)
            stop_after(until)
            chosen = [*TINY_RUN, *overrides]
            run_session(compose_config(chosen), chosen, Console(quiet=True), group)
    (Path(folder) / f"heard-{RANK}.json").write_text(json.dumps(heard))


def stop_after(until: int | None) -> None:
    """Make rank 0 stop, resumable, once so many steps have been taken."""

    def stop_reason(self: Session) -> str | None:
        return "session_minutes" if until is not None and self._training.state.spent.steps >= until else None

    Session.stop_reason = stop_reason  # type: ignore[method-assign]


def speak(group: Group, folder: Path) -> dict[str, object]:
    """Return what this process hears of the others."""

    def interrupted() -> None:
        raise Interrupted("SIGTERM")

    def prepared() -> str:
        """Find the work done unless it is for this process to do."""
        if RANK:
            return (folder / "prepared").read_text()
        (folder / "prepared").write_text("by rank 0")
        return "by itself"

    everywhere, here, nowhere = (torch.zeros(2, 3, requires_grad=True) for _ in range(3))
    everywhere.grad = torch.full((2, 3), 1.0 + RANK)
    if RANK:
        here.grad = torch.arange(6.0).view(2, 3)
    measured = torch.tensor([10.0, 20.0]) * (1 + RANK)
    group.add_up([everywhere, here, nowhere], measured)
    assert everywhere.grad is not None
    assert here.grad is not None
    heard: dict[str, object] = {
        "told": group.told(lambda: [RANK, None, 0.1]),
        "told_much": group.told(lambda: "é" * 5000),
        "handed_out": {k: v.tolist() for k, v in group.handed_out({"a": torch.full((3000,), float(RANK))}).items()},
        "collected": [part["state"].tolist() for part in group.collected({"state": torch.tensor([RANK, 7])})],
        "prepared": group.first_here(prepared),
        "gradients": [everywhere.grad.tolist(), here.grad.tolist(), nowhere.grad],
        "measured": measured.tolist(),
    }
    try:
        group.told(interrupted)
    except Interrupted as error:
        heard["interrupted"] = error.reason
    return heard


def die() -> None:
    """Be killed by ``kill -9``, having told when."""
    print(f"killed at {time.time()}", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def killed(rank: str, step: str, *overrides: str) -> int:
    """Run the command, but kill a process by ``kill -9`` in a step."""
    real, count = loop.train_step, 0

    def take(*arguments: object) -> torch.Tensor:
        nonlocal count
        count += 1
        if (RANK, count) == (int(rank), int(step)):
            die()
        return real(*arguments)  # type: ignore[arg-type]

    loop.train_step = take  # type: ignore[assignment]
    return run.main(overrides)


def without_data(*overrides: str) -> int:
    """Run the command, but rank 1 finds no data on its machine."""

    def refuse(*_: object) -> None:
        raise DataError("data.path=/data: no such folder on this machine")

    if RANK == 1:
        session._prepare = refuse  # type: ignore[assignment]
    return run.main(overrides)


def stuck() -> int:
    """Rank 1 is killed while rank 0 waits for something that never comes, deaf to signals."""
    groups.RELEASE_SECONDS = 0.5
    with joined(Place.of(os.environ), tell) as group:
        group.told(lambda: None)
        if RANK:
            die()
        threading.Event().wait()
    return 0


def stuck_in_a_step(*overrides: str) -> int:
    """Run the command, but rank 1 is killed in a step in which rank 0 waits for something that never comes."""
    groups.RELEASE_SECONDS = 0.5
    real, count = loop.train_step, 0

    def take(*arguments: object) -> torch.Tensor:
        nonlocal count
        count += 1
        if count == 4:
            if RANK:
                die()
            threading.Event().wait()
        return real(*arguments)  # type: ignore[arg-type]

    loop.train_step = take  # type: ignore[assignment]
    return run.main(overrides)


def failing() -> int:
    """Rank 0 fails while rank 1 waits for its word; print which threads that speak to the others are left of it."""

    def fail() -> None:
        raise DataError("no data")

    before = None
    try:
        with joined(Place.of(os.environ), tell) as group:
            group.told(lambda: None)
            before = threads_that_speak()
            group.told(fail)
    except (DataError, SystemExit):
        del group
    print(json.dumps([before, threads_that_speak()]))
    return 0


def threads_that_speak() -> int:
    """Count the threads that carry out what PyTorch's gloo groups are asked."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return names.count("pt_gloo_runloop")


def alone() -> int:
    """Try to meet a process that does not exist."""
    from datetime import timedelta

    groups.MEETING = timedelta(seconds=1)
    try:
        with joined(Place.of(os.environ), tell):
            return 0
    except GroupError as error:
        print(error)
        return 1


JOBS: dict[str, Callable[..., int | None]] = {
    job.__name__: job for job in (together, killed, without_data, stuck, stuck_in_a_step, failing, alone)
}

if __name__ == "__main__":
    sys.exit(JOBS[sys.argv[1]](*sys.argv[2:]))
