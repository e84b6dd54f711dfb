"""One attempt at a cell in an operating-system process of its own, and what became of it.

The process leads a group of its own, so that a signal meant for the sweep does not reach it twice. Its standard
input is a pipe that nobody writes to: when this process dies, even by ``kill -9``, the pipe ends and the cell saves
and stops.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from nano_llm.errors import OutputError
from nano_llm.files import explained_writes
from nano_llm.interruption import GRACE_SECONDS
from nano_llm.sweep.cell import Cell
from nano_llm.sweep.plan import is_finished
from nano_llm.tracking.run_folder import RunFolder
from nano_llm.tracking.status import RunStatus, read_status

CONFIG_ERROR = 2
INTERRUPTED = (130, 143)


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt."""

    state: str
    """finished, failed or stopped."""
    reason: str | None
    worth_retrying: bool


class CellProcess:
    """The process of one attempt, started at once."""

    def __init__(self, cell: Cell, environment: dict[str, str], timeout_minutes: float | None) -> None:
        """Start the attempt.

        Args:
            cell: Frozen already.
            environment: Added to this process's own variables.
            timeout_minutes: After which the attempt is ended as failed; None: never.
        """
        self.cell = cell
        self._timeout_minutes = timeout_minutes
        self._began = time.monotonic()
        self._stop_by: float | None = None
        self._timed_out = False
        self._console = cell.path / "console.log"
        with explained_writes(self._console), self._console.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nano_llm.sweep.child", str(cell.path)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def stop(self) -> None:
        """Ask the cell to save and end; after a grace it is killed."""
        if self._stop_by is None:
            self._stop_by = time.monotonic() + GRACE_SECONDS
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the cell and everything that it has started."""
        self._signal(signal.SIGKILL)

    def wait(self) -> None:
        """Wait for the end of a cell that was killed, so that its folder tells it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=GRACE_SECONDS)

    def poll(self) -> Outcome | None:
        """Enforce time-out and grace; return the outcome once the process has ended."""
        status = self._process.poll()
        if status is None:
            if self._timeout_minutes is not None and self.seconds > 60 * self._timeout_minutes:
                self._timed_out = True
                self.stop()
            if self._stop_by is not None and time.monotonic() > self._stop_by:
                self.kill()
            return None
        # Whatever the cell had started must not outlive it.
        self.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return self._judge(status)

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def _judge(self, status: int) -> Outcome:
        # Whatever became of its process afterwards, which may have waited for a tracker.
        if is_finished(self.cell):
            return Outcome("finished", None, worth_retrying=False)
        if self._timed_out:
            reason = f"timed out after {self._timeout_minutes:g} minutes (sweep.timeout_minutes)"
            return self._failed(reason, worth_retrying=True)
        told = self._last_words()
        if told is not None and told.state == "failed":
            return Outcome("failed", told.reason, worth_retrying=status != CONFIG_ERROR)
        if status in (0, *INTERRUPTED) and told is not None and told.details.get("state") == "stopped":
            return Outcome("stopped", told.reason, worth_retrying=False)
        # One that was asked to stop while it started had nothing to save or to tell.
        if self._stop_by is not None:
            return Outcome("stopped", told.reason if told else None, worth_retrying=False)
        return self._failed(self._explain(status), worth_retrying=status != CONFIG_ERROR)

    def _last_words(self) -> RunStatus | None:
        """Return the status that this very process has written; None if an earlier attempt's is still there."""
        told = read_status(self.cell.path)
        return told if told.details.get("pid") == self._process.pid else None

    def _explain(self, status: int) -> str:
        """Say how a process ended that could not say it itself."""
        if status < 0:
            cause = " (out of memory?)" if -status == signal.SIGKILL else ""
            return f"killed by {signal.Signals(-status).name}{cause}"
        if status == 0:
            return "ended with exit status 0, but without a result"
        return f"exit status {status}: {last_line(self._console)}"

    def _failed(self, reason: str, *, worth_retrying: bool) -> Outcome:
        record_failure(self.cell, reason)
        return Outcome("failed", reason, worth_retrying)


def record_failure(cell: Cell, reason: str) -> None:
    """Write into a cell's status why it failed, unless another process is at work in it."""
    try:
        folder = RunFolder(cell.path, Console(quiet=True))
    except OutputError:
        return
    with folder:
        folder.fail(reason, details=reason)


def last_line(path: Path) -> str:
    """Return the last line of a text that is not empty."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
