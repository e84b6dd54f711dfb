"""A sweep from its command line to its table."""

import time
from collections.abc import Callable, Sequence
from signal import Signals
from typing import NoReturn

from rich.console import Console

from nano_llm.config.schema import SweepConfig
from nano_llm.errors import NanoLLMError, OutputError
from nano_llm.interruption import Interrupted, Interruption
from nano_llm.report.report import write_report
from nano_llm.sweep.cell import Cell
from nano_llm.sweep.expand import Compose
from nano_llm.sweep.forecast import show_forecast
from nano_llm.sweep.manifest import add_cells, held
from nano_llm.sweep.plan import Plan, is_finished, make_plan
from nano_llm.sweep.pool import Pool
from nano_llm.sweep.process import GRACE_SECONDS, record_failure
from nano_llm.tracking.status import read_status

Launch = Callable[[Plan, Sequence[Cell]], None]
"""Carries out frozen cells, somewhere; what became of each is told by its folder alone."""

Say = Callable[[str], None]


class FailedCellsError(NanoLLMError):
    """Some cells of a sweep have no result."""


def run_sweep(overrides: Sequence[str], compose: Compose, launch: Launch, console: Console) -> None:
    """Plan a sweep, carry out what is missing, and write its report whatever happens on the way.

    Args:
        overrides: As typed.
        compose: From overrides without sweeps to a checked configuration.
        launch: Carries out the cells that are not finished.
        console: Shows progress and the table.

    Raises:
        ConfigError: A cell is wrong; none was started.
        FailedCellsError: At least one cell failed; the others have their results.
        SystemExit: Status 130 or 143 after SIGINT or SIGTERM; the same command goes on.
    """
    say = speaker(console)
    plan = make_plan(overrides, compose, say)
    if plan.settings.dry_run:
        console.print(show_forecast(plan))
        return
    reason = None
    with held(plan.study), Interruption():
        await_orphans(plan.cells, say)
        counts = plan.counts()
        say(f"{counts}; watch them with: nano-llm status {plan.study}")
        add_cells(plan.study, overrides, plan.cells)
        try:
            launch(plan, [cell.freeze() for cell in plan.open_cells()])
        except Interrupted as interrupted:
            reason = interrupted.reason
        finally:
            _close(plan, counts, console)
    if reason is not None:
        exit_interrupted(reason, say)
    demand_results(plan.cells)


def launch_here(settings: SweepConfig, cells: Sequence[Cell], say: Say) -> None:
    """Carry cells out on this machine.

    Raises:
        Interrupted: A signal came; the cells have saved and stopped, or were killed by a second one.
    """
    with Interruption() as interruption:
        interruption.patient = True
        Pool(settings, say, lambda: interruption.reason).run(cells)
        interruption.raise_if_requested()


def speaker(console: Console) -> Say:
    """Return a function that shows a line, with the time of day."""
    return lambda line: console.print(
        f"{time.strftime('%H:%M:%S')} {line}", highlight=False, markup=False, soft_wrap=True
    )


def exit_interrupted(reason: str, say: Say) -> NoReturn:
    """End the process as a signal asks for.

    Args:
        reason: Name of the signal.
        say: Tells the user that nothing is lost.
    """
    say(f"Stopped by {reason}; the same command goes on from here.")
    raise SystemExit(128 + Signals[reason].value)


def await_orphans(cells: Sequence[Cell], say: Say) -> None:
    """Wait for cells that a killed sweep has left behind; they save and stop.

    Raises:
        OutputError: One of them goes on: it belongs to somebody else.
    """
    deadline = time.monotonic() + GRACE_SECONDS
    told = False
    while busy := [cell for cell in cells if read_status(cell.path).state == "running"]:
        pid = read_status(busy[0].path).details.get("pid")
        if time.monotonic() > deadline:
            raise OutputError(f"Another process (pid {pid}) is at work in {busy[0].path}. Wait for it or stop it.")
        if not told:
            say(f"Waiting for {busy[0].label}, which is still at work (pid {pid})")
        told = True
        time.sleep(0.1)


def demand_results(cells: Sequence[Cell]) -> None:
    """Make failures known to whoever called.

    Raises:
        FailedCellsError: Naming each cell that failed, its reason and its log.
    """
    lines = []
    for cell in cells:
        status = read_status(cell.path)
        if status.state == "failed":
            lines.append(f"  - {cell.label}: {status.reason}\n    see {cell.path / 'console.log'}")
        elif status.state == "queued":
            lines.append(f"  - {cell.label}: was not started")
    if lines:
        raise FailedCellsError("\n".join([f"{len(lines)} of {len(cells)} cells have no result:", *lines]))


def _close(plan: Plan, counts: str, console: Console) -> None:
    """Give every cell that ran a final state, and write and show the report."""
    for cell in plan.cells:
        if read_status(cell.path).state == "finished" and not is_finished(cell):
            record_failure(cell, "its summary or its best checkpoint is missing")
    report = write_report(plan.study)
    console.print(report.text, highlight=False, markup=False, soft_wrap=True)
    console.print(f"{counts}. The report is {report.page}", highlight=False, markup=False, soft_wrap=True)
