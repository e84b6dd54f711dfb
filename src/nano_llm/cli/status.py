"""``nano-llm status``: the runs of a study, live."""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nano_llm.errors import OutputError
from nano_llm.tracking.lock import is_held
from nano_llm.tracking.status import RunStatus, heartbeat_age, last_metrics, read_object, read_status

REFRESH_SECONDS = 2.0


def main(arguments: Sequence[str]) -> int:
    """Show the state of every run; on a terminal until neither a sweep nor a run is at work."""
    parser = argparse.ArgumentParser(
        prog="nano-llm status",
        description="Show state, step, loss, time left and errors of every run in a study.",
        epilog="example: nano-llm status outputs/quick_table",
    )
    parser.add_argument("study", type=Path, help="folder of the study, such as outputs/runs")
    parser.add_argument("--once", action="store_true", help="show it once, also on a terminal")
    given = parser.parse_args(arguments)
    console = Console()
    runs = study_runs(given.study)
    if given.once or not console.is_terminal:
        console.print(overview(given.study, runs))
        return 0
    with Live(console=console, auto_refresh=False) as live:
        while True:
            # Between two cells no run is at work, but their sweep is. Asked first, so that the last look shows its end.
            sweeping = is_held(given.study)
            runs = study_runs(given.study)
            live.update(overview(given.study, runs), refresh=True)
            if not sweeping and not any(status.state == "running" for status in runs.values()):
                return 0
            time.sleep(REFRESH_SECONDS)


def study_runs(study: Path) -> dict[str, RunStatus]:
    """Return the status of every run below a study, those of its sweep that have not started included.

    Raises:
        OutputError: There is no such study, or nothing in it.
    """
    manifest = read_object(study / "sweep.json") or {}
    folders = [str(cell["folder"]) for cell in manifest.get("cells", [])]
    folders += sorted(f"{path.parent.name}/{path.name}" for path in study.glob("*/seed-*"))
    if not folders:
        raise OutputError(f"No runs in {study}; name the folder of a study, such as outputs/runs.")
    return {folder: read_status(study / folder) for folder in folders}


def overview(study: Path, runs: dict[str, RunStatus]) -> Group:
    """Return a table with a line a run, the reasons of those that failed or stopped, and the counts of the states."""
    labels = {folder: _label(folder) for folder in runs}
    table = Table(box=None, pad_edge=False)
    table.add_column("run", min_width=max(map(len, labels.values())))
    table.add_column("state")
    for column in ("step", "loss", "left", "heartbeat"):
        table.add_column(column, justify="right")
    for folder, status in runs.items():
        table.add_row(labels[folder], status.state, *_progress(study / folder, status))
    reasons = [Text(f"{labels[folder]}: {status.reason}") for folder, status in runs.items() if status.reason]
    counts = Counter(status.state for status in runs.values())
    return Group(
        table, *reasons, f"{len(runs)} runs: " + ", ".join(f"{number} {state}" for state, number in counts.items())
    )


def _label(folder: str) -> str:
    """Shorten <arm>-<id>/seed-<n>, so that a line has room for more."""
    arm, _, seed = folder.partition("/seed-")
    name, _, run_id = arm.rpartition("-")
    return f"{name}-{run_id[:4]} seed {seed}"


def _progress(folder: Path, status: RunStatus) -> tuple[str, str, str, str]:
    details = status.details
    step = str(details.get("step", ""))
    losses = last_metrics(folder)
    loss = next((f"{name} {losses[name]:.4f}" for name in ("val_bpb", "val_ce", "train_ce") if name in losses), "")
    if status.state != "running":
        return step, loss, "", ""
    share, seconds = float(details.get("share", 0)), float(details.get("training_seconds", 0))
    left = f"{seconds * (1 - share) / share / 60:.1f} min" if share > 0 else str(details.get("phase", ""))
    return step, loss, left, f"{heartbeat_age(details):.0f} s"
