"""The state of a run as its folder tells it to others: nothing is written, no torch, also on a copy of the folder."""

import contextlib
import json
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nano_llm.files import sha256
from nano_llm.tracking.lock import is_held

SILENCE_SECONDS = 600.0
"""A run on another host that has not beaten its heart for so long counts as dead; preparing data takes minutes."""

TAIL_BYTES = 1 << 16


@dataclass(frozen=True)
class RunStatus:
    """What is known of a run."""

    state: str
    """queued, running, finished, failed or stopped."""
    reason: str | None
    """Why it failed or stopped, in one line."""
    details: dict[str, Any]
    """The content of status.json: phase, step, tokens, training_seconds, share, heartbeat, attempt, ..."""


def read_status(folder: Path) -> RunStatus:
    """Judge a run's state: `queued` without a status, `stopped` where the process that ran it is gone."""
    details = read_object(folder / "status.json")
    if details is None:
        return RunStatus("queued", None, {})
    state = str(details.get("state", "queued"))
    if state == "running" and not _alive(folder, details):
        reason = f"its process vanished; last sign of life {details.get('heartbeat', 'unknown')}"
        return RunStatus("stopped", reason, details)
    told = details.get("error") if state == "failed" else details.get("reason") if state == "stopped" else None
    return RunStatus(state, str(told).splitlines()[0] if told else None, details)


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Return the summary of a finished run; None if it is not finished or its summary is not as it was written."""
    details, path = read_object(folder / "status.json") or {}, folder / "summary.json"
    summary = read_object(path) if details.get("state") == "finished" else None
    # A run of an earlier version did not note the hash.
    is_intact = summary is not None and details.get("summary_sha256") in (None, sha256(path))
    return summary if is_intact else None


def read_object(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file; None if there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def last_metrics(folder: Path) -> dict[str, Any]:
    """Return the latest value of each figure in the tail of a run's metrics.jsonl."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return {}
    latest: dict[str, Any] = {}
    for line in lines:
        # The first line may be cut by the seek, the last one by a kill.
        with contextlib.suppress(ValueError):
            latest |= json.loads(line)
    return latest


def heartbeat_age(details: dict[str, Any]) -> float:
    """Return the seconds since a run's last sign of life; infinite when it never gave one."""
    try:
        beat = datetime.fromisoformat(str(details["heartbeat"]))
        return (datetime.now(UTC) - beat).total_seconds()
    except (KeyError, ValueError, TypeError):
        return float("inf")


def _alive(folder: Path, details: dict[str, Any]) -> bool:
    """Tell whether a process is at work: it holds the folder; where another host's locks are unseen, its heart beats.

    A process id would not do: it is given to somebody else once the process has ended.
    """
    elsewhere = details.get("host") != socket.gethostname()
    return is_held(folder) or (elsewhere and heartbeat_age(details) < SILENCE_SECONDS)
