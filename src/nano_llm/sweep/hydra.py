"""What stands between Hydra's plugins and the sweep: compositions, and cells as jobs of a launcher.

A launcher of Hydra receives overrides and composes them where the job runs. So a job of ours is a pointer: where the
frozen cell lies, and how the sweep treats it. `carry_out` follows it, in this process or on another machine.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from nano_llm.config.compose import explain
from nano_llm.config.schema import Command
from nano_llm.config.strict import convert
from nano_llm.errors import ConfigError, NanoLLMError
from nano_llm.session import finished_summary
from nano_llm.sweep.cell import Cell, thaw
from nano_llm.sweep.expand import Compose
from nano_llm.sweep.manifest import add_cells
from nano_llm.sweep.plan import Plan, is_finished, make_plan
from nano_llm.sweep.pool import Pool
from nano_llm.sweep.process import record_failure
from nano_llm.sweep.sweep import FailedCellsError, Say, await_orphans, launch_here, run_sweep, speaker
from nano_llm.tracking.status import read_status


def sweep_with(launcher: Launcher, master: DictConfig, loader: ConfigLoader, overrides: Sequence[str]) -> None:
    """Carry out the sweep of a command line with any launcher of Hydra."""
    run_sweep(overrides, composer(master, loader), lambda plan, cells: _hand_over(launcher, plan, cells), Console())


def composer(master: DictConfig, loader: ConfigLoader) -> Compose:
    """Return a function that composes overrides as Hydra's main would, search path and all, and checks them."""

    def compose(overrides: Sequence[str]) -> Command:
        try:
            composed = loader.load_sweep_config(master, list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(explain(overrides)) from error
        with open_dict(composed):
            del composed["hydra"]
        return convert(composed)

    return compose


def launch_jobs(master: DictConfig, loader: ConfigLoader, jobs: Sequence[Sequence[str]]) -> list[JobReturn]:
    """Carry out jobs on this machine: cells of our sweeper, or trials of a search.

    Raises:
        ConfigError: A trial is wrong.
        Interrupted: A signal came; the cells have stopped.
    """
    compose, say = composer(master, loader), speaker(Console())
    commands = [compose(overrides) for overrides in jobs]
    groups = [
        _trial(overrides, compose, say) if command.sweep.cell is None else [thaw(Path(command.sweep.cell))]
        for overrides, command in zip(jobs, commands, strict=True)
    ]
    open_cells = {cell.path: cell for group in groups for cell in group if not is_finished(cell)}
    launch_here(commands[0].sweep, list(open_cells.values()), say)
    objective = commands[0].sweep.objective
    return [_job_return(group, overrides, objective) for group, overrides in zip(groups, jobs, strict=True)]


def _trial(overrides: Sequence[str], compose: Compose, say: Say) -> list[Cell]:
    """Freeze the cells of one point of a search: its seeds."""
    plan = make_plan(overrides, compose, lambda _: None)
    await_orphans(plan.cells, say)
    add_cells(plan.study, overrides, plan.cells)
    return [cell.freeze() for cell in plan.cells]


def carry_out(command: Command) -> None:
    """Carry out the one cell that a launcher of Hydra points to, wherever this is.

    Signals are the launcher's: when it ends this process, the cell notices, saves and stops.
    """
    cell = thaw(Path(str(command.sweep.cell)))
    Pool(command.sweep, speaker(Console()), lambda: None).run([cell])


def _hand_over(launcher: Launcher, plan: Plan, cells: Sequence[Cell]) -> None:
    """Give cells to a launcher; what an engine raises when a worker dies differs, the folders tell the truth."""
    if not cells:
        return
    try:
        launcher.launch([_pointer(plan, cell) for cell in cells], 0)
    except (NanoLLMError, HydraException):
        raise
    except Exception as error:
        for cell in cells:
            if read_status(cell.path).state in ("queued", "stopped"):
                record_failure(cell, f"lost by its launcher ({type(error).__name__}: {error})")


def _pointer(plan: Plan, cell: Cell) -> list[str]:
    """Return the overrides of a cell's job."""
    kept = ("parallel", "retries", "timeout_minutes", "fail_fast")
    settings = {name: getattr(plan.settings, name) for name in kept}
    return [
        f"sweep.cell={_quoted(cell.path.resolve())}",
        f"study={_quoted(cell.config.study)}",
        f"paths.outputs={_quoted(cell.config.paths.outputs)}",
        *(f"sweep.{name}={_value(value)}" for name, value in settings.items()),
    ]


def _value(value: Any) -> str:
    return "null" if value is None else str(value).lower()


def _quoted(value: object) -> str:
    """Quote a text for Hydra's grammar."""
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _job_return(cells: Sequence[Cell], overrides: Sequence[str], objective: str) -> JobReturn:
    """Return the mean objective over a job's cells, or why there is none."""
    values = []
    for cell in cells:
        figures = (finished_summary(cell.id, cell.path) or {}).get("metrics", {})
        value = figures.get(objective)
        if value is None or not math.isfinite(value):
            status = read_status(cell.path)
            reason = f"{objective} is {value}" if status.state == "finished" else status.reason or status.state
            error = FailedCellsError(f"{cell.label}: {reason}")
            return JobReturn(overrides=overrides, status=JobStatus.FAILED, _return_value=error)
        values.append(float(value))
    return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=sum(values) / len(values))
