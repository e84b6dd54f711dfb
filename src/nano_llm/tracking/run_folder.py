"""The folder of a run: everything that it leaves behind, written whole, never overwritten by another run.

outputs/<study>/<arm>-<id>/seed-<n>/
  config.yaml  overrides.yaml  environment.json  data.json
  metrics.jsonl  status.json  run.log  summary.json
  checkpoints/{best,last}/ (and previous/ until it is finished)   evaluation/<name>.json
  tensorboard/  wandb/ (of trackers that were asked for)
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from omegaconf import OmegaConf
from rich.console import Console

from nano_llm.config.identity import to_plain
from nano_llm.config.schema import Config
from nano_llm.errors import OutputError
from nano_llm.files import GrowingFile, explained_writes, sha256, write_json, write_text
from nano_llm.tracking.environment import environment
from nano_llm.tracking.lock import take_hold
from nano_llm.tracking.status import read_object, read_summary

HEARTBEAT_SECONDS = 10.0
EVALUATION = "evaluation"
_POSITION = ("step", "tokens", "training_seconds", "share")


class RunFolder:
    """One run's folder, held by one process at a time; use as a context."""

    def __init__(self, path: Path, console: Console) -> None:
        """Create the folder if needed and take hold of it.

        Args:
            path: Of the folder.
            console: Shows what `say` keeps.

        Raises:
            OutputError: It cannot be created, or another process holds it.
        """
        self.path = path
        self._console = console
        with explained_writes(path):
            path.mkdir(parents=True, exist_ok=True)
            self._lock = self._take_hold()
        self._metrics: GrowingFile | None = None
        # A run that was cut keeps its position until its next session says more.
        self._details = {name: value for name, value in self.status().items() if name in _POSITION}
        self._beat_at = 0.0

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        if self._metrics is not None:
            self._metrics.close()
        self._lock.close()

    def _take_hold(self) -> IO[str]:
        try:
            return take_hold(self.path)
        except BlockingIOError:
            holder = self.status().get("pid", "unknown")
            raise OutputError(
                f"Another process (pid {holder}) is at work in {self.path}. Wait for it or stop it; "
                "a run with another seed or configuration has a folder of its own."
            ) from None

    def status(self) -> dict[str, Any]:
        """Return what status.json says; empty when there is none yet or it is unreadable."""
        return read_object(self.path / "status.json") or {}

    def summary(self) -> dict[str, Any] | None:
        """Return the summary of a finished run; None if it is not finished or its summary is not as it was written."""
        return read_summary(self.path)

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the summary and mark the run as finished."""
        path = self.path / "summary.json"
        write_json(path, summary)
        self.set_status("finished", phase="done", summary_sha256=sha256(path))

    def set_status(self, state: str, **details: Any) -> None:
        """Write the state of the run and what is known of its position.

        Args:
            state: running, finished, failed or stopped.
            details: Such as phase, step, reason; a session's details stay known until they are renewed.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        started = self.status().get("started", now)
        self._details |= details
        facts = {"state": state, "pid": os.getpid(), "host": socket.gethostname(), "started": started}
        write_json(self.path / "status.json", {**facts, "heartbeat": now, **self._details})
        self._beat_at = time.monotonic()

    def beat(self, phase: str, **details: Any) -> None:
        """Note position and phase, and write them when the heartbeat is due."""
        self._details |= {"phase": phase, **details}
        if time.monotonic() - self._beat_at >= HEARTBEAT_SECONDS:
            self.set_status("running")

    def fail(self, message: str, details: str) -> None:
        """Say in status.json and in run.log why the run failed."""
        # On a full disk this cannot be written down either; the error itself still reaches the user.
        with contextlib.suppress(OutputError):
            self.set_status("failed", error=message)
            self.log(details)

    def describe(
        self, config: Config, overrides: Sequence[str], run_id: str, data: dict[str, Any], num_processes: int = 1
    ) -> None:
        """Write down what is run, on what, from what, by how many processes."""
        plain = {"id": run_id, **to_plain(config)}
        write_text(self.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain)))
        write_text(self.path / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(list(overrides))))
        write_json(self.path / "environment.json", {**environment(), "num_processes": num_processes})
        write_json(self.path / "data.json", data)

    def logged_step(self) -> int | None:
        """Return the step of the latest row of metrics.jsonl; None where there is none."""
        return max((step for _, step, _ in self._rows()), default=None)

    def open_metrics(self, last_step: int, untold: Collection[str] = ()) -> None:
        """Open metrics.jsonl, dropping the rows that will be written again.

        Args:
            last_step: That is not taken again.
            untold: Splits whose row of that step is written again nevertheless.
        """
        path = self.path / "metrics.jsonl"
        kept = [
            line
            for line, step, split in self._rows()
            if step < last_step or (step == last_step and split not in untold)
        ]
        write_text(path, "".join(line + "\n" for line in kept))
        self._metrics = GrowingFile(path)

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add one row to metrics.jsonl and hand it to the operating system."""
        assert self._metrics is not None, "open_metrics comes first"
        self._metrics.add(json.dumps(row, allow_nan=False))

    def sync_metrics(self) -> None:
        """Wait until the disk has all rows: those before a checkpoint are not written again."""
        assert self._metrics is not None, "open_metrics comes first"
        self._metrics.sync()

    def say(self, text: str) -> None:
        """Tell the user and run.log."""
        self.log(text)
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def log(self, text: str) -> None:
        """Add lines to run.log, each with the time."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with GrowingFile(self.path / "run.log") as file:
            file.add(*(f"{now} {line}" for line in text.splitlines()))

    def write_evaluation(self, name: str, record: dict[str, Any]) -> None:
        """Write one evaluation's record."""
        folder = self.path / EVALUATION
        with explained_writes(folder):
            folder.mkdir(exist_ok=True)
        write_json(folder / f"{name}.json", record)

    def _rows(self) -> list[tuple[str, int, str | None]]:
        """Return the lines of metrics.jsonl with step and split, without those that a kill or a fault has damaged."""
        path = self.path / "metrics.jsonl"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        rows = []
        for line in text.splitlines():
            try:
                row = json.loads(line)
                step, split = row["step"], row.get("split")
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            if isinstance(step, int):
                rows.append((line, step, split))
        return rows
