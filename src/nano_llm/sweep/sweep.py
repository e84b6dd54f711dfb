"""A sweep from its plan to its table."""

import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from rich.console import Console

from nano_llm.config.schema import SweepConfig
from nano_llm.errors import NanoLLMError, OutputError
from nano_llm.interruption import GRACE_SECONDS, Interrupted, Interruption
from nano_llm.report.report import write_report
from nano_llm.session import SESSION_MINUTES
from nano_llm.sweep.cell import Cell
from nano_llm.sweep.forecast import show_forecast
from nano_llm.sweep.manifest import add_cells, add_command, add_seconds, held, wall_seconds
from nano_llm.sweep.plan import Plan, is_finished
from nano_llm.sweep.pool import Pool, slots
from nano_llm.sweep.process import record_failure
from nano_llm.tracking.status import read_status

ORPHAN_SECONDS = GRACE_SECONDS + 5.0
"""What a cell whose sweep was killed may take to end: the grace after which it kills itself, and a margin."""

Launch = Callable[[Plan, Sequence[Cell]], None]
"""Carries out frozen cells, somewhere; what became of each is told by its folder alone."""

Say = Callable[[str], None]


class FailedCellsError(NanoLLMError):
    """Some cells of a sweep have no result."""


def run_sweep(plan: Plan, command: Sequence[str], launch: Launch, console: Console) -> None:
    """Carry out what is missing, and write the sweep's report whatever happens on the way.

    Args:
        plan: All cells.
        command: The overrides as typed, for those who want to do it again.
        launch: Carries out the cells that are not finished.
        console: Shows progress and the table.

    Raises:
        FailedCellsError: At least one cell has no result; the others have theirs.
        SystemExit: Status 130 or 143 after SIGINT or SIGTERM; the same command goes on.
    """
    if plan.settings.dry_run:
        console.print(show_forecast(plan), highlight=False, markup=False, soft_wrap=True)
        return
    say = speaker(console)
    try:
        with held(plan.study), Interruption() as interruption:
            _carry_out(plan, command, launch, interruption, console)
    except Interrupted as interrupted:
        exit_interrupted(interrupted.reason, say)
    demand_results(plan.cells)


def _carry_out(
    plan: Plan, command: Sequence[str], launch: Launch, interruption: Interruption, console: Console
) -> None:
    """Note the call, launch what is not finished, and close the sweep, also after a signal."""
    say = speaker(console)
    began = time.monotonic()
    interruption.patient = True
    add_command(plan.study, command)
    add_cells(plan.study, plan.cells)
    counts, has_work = plan.counts(), bool(plan.open_cells())
    try:
        interruption.patient = False
        interruption.raise_if_requested()
        await_orphans(plan.cells, say)
        counts = plan.counts()
        say(f"{counts}; watch them with: nano-llm status {plan.study}")
        launch(plan, [cell.freeze() for cell in plan.open_cells()])
    finally:
        with interruption.patiently():
            if has_work:
                add_seconds(plan.study, time.monotonic() - began)
            _close(plan, counts, console)


def launch_here(settings: SweepConfig, cells: Sequence[Cell], say: Say) -> None:
    """Carry cells out on this machine.

    Raises:
        Interrupted: A signal came; the cells have saved and stopped, or were killed by a second one.
    """
    with Interruption() as interruption:
        interruption.patient = True
        environments = slots(min(settings.parallel, len(cells)), cells)
        Pool(settings, environments, say, lambda: interruption.reason).run(cells)
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
    raise SystemExit(Interrupted(reason).exit_status)


def await_orphans(cells: Sequence[Cell], say: Say) -> None:
    """Wait for cells that a killed sweep has left behind; they save and stop.

    Raises:
        OutputError: One of them goes on: it belongs to somebody else.
    """
    deadline = time.monotonic() + ORPHAN_SECONDS
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
        FailedCellsError: Naming each cell without a result, why it has none, and its log. One that has stopped at
            ``trainer.session_minutes`` has done what was asked.
    """
    if lines := missing_results(cells):
        raise FailedCellsError("\n".join([f"{len(lines)} of {len(cells)} cells have no result:", *lines]))


def missing_results(cells: Sequence[Cell]) -> list[str]:
    """Return, for each cell whose result is missing against the wish of whoever called, what is known of it."""
    lines = []
    for cell in cells:
        status = read_status(cell.path)
        told = status.details.get("state"), status.details.get("reason")
        if is_finished(cell) or told == ("stopped", SESSION_MINUTES):
            continue
        if status.state == "queued":
            lines.append(f"  - {cell.label}: was not started")
        else:
            why = (
                status.reason if status.state == "failed" else f"{status.state} ({status.reason or 'no reason known'})"
            )
            lines.append(f"  - {cell.label}: {why}\n    see {cell.path / 'console.log'}")
    return lines


def _close(plan: Plan, counts: str, console: Console) -> None:
    """Give every cell that ran a final state, and write and show the report."""
    for cell in plan.cells:
        if read_status(cell.path).state == "finished" and not is_finished(cell):
            record_failure(cell, "its summary or its best checkpoint is missing")
    report = write_report(plan.study)
    minutes = wall_seconds(plan.study) / 60
    console.print(report.text, highlight=False, markup=False, soft_wrap=True)
    closing = f"{counts}. The study has taken {minutes:.1f} minutes so far. The report is {report.page}"
    console.print(closing, highlight=False, markup=False, soft_wrap=True)
