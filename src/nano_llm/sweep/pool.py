"""Carry out cells, several at a time, each attempt in a process of its own."""

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from nano_llm.config.schema import Device, SweepConfig
from nano_llm.sweep.cell import Cell
from nano_llm.sweep.process import CellProcess, Outcome

POLL_SECONDS = 0.05


@dataclass
class Turn:
    """A cell that waits or runs, and how often it has failed in this call."""

    cell: Cell
    place: str
    """Of the cell in the call, for people: 3/12."""
    num_failures: int = 0


class Pool:
    """Runs cells in slots until none is left, none may start any more, or somebody asks to stop."""

    def __init__(
        self,
        settings: SweepConfig,
        environments: Sequence[dict[str, str]],
        say: Callable[[str], None],
        stop_reason: Callable[[], str | None],
    ) -> None:
        """Prepare to run.

        Args:
            settings: Retries, time-out, fail_fast.
            environments: Variables of each slot, from `slots`.
            say: Receives a line for each start and each outcome.
            stop_reason: Looked at all the time; once it returns a reason, the cells save and stop. An exception from
                it, such as `Interrupted`, kills them.
        """
        self._settings, self._environments, self._say, self._stop_reason = settings, environments, say, stop_reason
        self._waiting: deque[Turn] = deque()
        self._running: dict[int, tuple[Turn, CellProcess]] = {}
        self._has_failed = False

    def run(self, cells: Sequence[Cell]) -> None:
        """Carry cells out; what became of each is in its folder."""
        self._waiting.extend(Turn(cell, f"{i}/{len(cells)}") for i, cell in enumerate(cells, start=1))
        try:
            while self._running or self._may_start():
                for slot, environment in enumerate(self._environments):
                    if slot not in self._running and self._may_start():
                        self._start(slot, environment)
                if self._stop_reason() is not None:
                    for _, process in self._running.values():
                        process.stop()
                self._collect()
                time.sleep(POLL_SECONDS)
        finally:
            for _, process in self._running.values():
                process.kill()
            for _, process in self._running.values():
                process.wait()

    def _may_start(self) -> bool:
        held = self._has_failed and self._settings.fail_fast
        return bool(self._waiting) and not held and self._stop_reason() is None

    def _start(self, slot: int, environment: dict[str, str]) -> None:
        turn = self._waiting.popleft()
        again = f", retry {turn.num_failures} of {self._settings.retries}" if turn.num_failures else ""
        self._say(f"[{turn.place}] {turn.cell.label} starts{again}")
        turn.cell = turn.cell.next_attempt()
        self._running[slot] = turn, CellProcess(turn.cell, environment, self._settings.timeout_minutes)

    def _collect(self) -> None:
        for slot, (turn, process) in list(self._running.items()):
            outcome = process.poll()
            if outcome is not None:
                del self._running[slot]
                self._settle(turn, outcome, process.seconds)

    def _settle(self, turn: Turn, outcome: Outcome, seconds: float) -> None:
        reason = f": {outcome.reason}" if outcome.reason else ""
        self._say(f"[{turn.place}] {turn.cell.label} {outcome.state} after {seconds:.0f} s{reason}")
        if outcome.state != "failed":
            return
        turn.num_failures += 1
        if outcome.worth_retrying and turn.num_failures <= self._settings.retries:
            self._waiting.appendleft(turn)
        else:
            self._has_failed = True


def slots(number: int, cells: Sequence[Cell]) -> list[dict[str, str]]:
    """Return the variables of each slot: GPUs are given out in turn, else the CPU's threads are shared out.

    Args:
        number: Of cells at a time.
        cells: To be run in the slots.
    """
    if gpus := visible_gpus(cells):
        return [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} for i in range(number)]
    if number > 1 and "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, torch.get_num_threads() // number)
        return [{"OMP_NUM_THREADS": str(threads)} for _ in range(number)]
    return [{} for _ in range(number)]


def visible_gpus(cells: Sequence[Cell]) -> list[str]:
    """Return the GPUs that cells may use, as CUDA_VISIBLE_DEVICES names them."""
    if all(cell.config.trainer.device is Device.cpu for cell in cells):
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named and torch.cuda.is_available() else list(map(str, range(torch.cuda.device_count())))
