"""What stands between Hydra's plugins and the sweep: compositions, and cells as jobs of a launcher.

A launcher of Hydra receives overrides and composes them where the job runs. So a job of ours is a pointer: where the
frozen cell lies, and how the sweep treats it. `carry_out` follows it, in this process or on another machine.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, open_dict, read_write

from nano_llm.config.compose import REFUSALS, explain
from nano_llm.config.plugins import JOBLIB
from nano_llm.config.schema import Command
from nano_llm.config.strict import convert
from nano_llm.errors import ConfigError, NanoLLMError
from nano_llm.sweep.cell import Cell, thaw
from nano_llm.sweep.expand import Compose
from nano_llm.sweep.manifest import add_cells
from nano_llm.sweep.plan import Plan, make_plan, result_of
from nano_llm.sweep.pool import Pool, slots, visible_gpus
from nano_llm.sweep.sweep import (
    FailedCellsError,
    Say,
    await_orphans,
    launch_here,
    missing_results,
    run_sweep,
    speaker,
)
from nano_llm.tracking.console import Screen
from nano_llm.tracking.status import read_status


def sweep_with(launcher: Launcher, master: DictConfig, loader: ConfigLoader, overrides: Sequence[str]) -> None:
    """Carry out the sweep of a command line with any launcher of Hydra.

    Raises:
        ConfigError: A cell is wrong, or the launcher does not fit; none was started.
        FailedCellsError: At least one cell has no result.
        SystemExit: Status 130 or 143 after SIGINT or SIGTERM; the same command goes on.
    """
    console = Screen()
    expand_home(master)
    plan = make_plan(overrides, composer(master, loader), speaker(console))
    demand_own_gpus(str(master.hydra.launcher._target_), plan)
    run_sweep(plan, typed(master), lambda plan, cells: _hand_over(launcher, plan, cells), console)


def composer(master: DictConfig, loader: ConfigLoader) -> Compose:
    """Return a function that composes overrides as Hydra's main would, search path and all."""

    def compose(overrides: Sequence[str]) -> DictConfig:
        try:
            composed = loader.load_sweep_config(master, list(overrides))
        except REFUSALS as error:
            raise ConfigError(explain(overrides)) from error
        with open_dict(composed):
            del composed["hydra"]
        return composed

    return compose


def typed(master: DictConfig) -> list[str]:
    """Return the overrides of a command line, those of Hydra itself last."""
    given = master.hydra.overrides
    return [*given.task, *(text for text in given.hydra if text != "hydra.mode=MULTIRUN")]


def expand_home(master: DictConfig) -> None:
    """Let ``~`` in ``paths.outputs`` mean to Hydra's own folder what it means to those of runs."""
    with read_write(master.hydra):
        master.hydra.sweep.dir = str(Path(master.hydra.sweep.dir).expanduser())


def demand_own_gpus(target: str, plan: Plan) -> None:
    """Make sure that cells at work at a time do not share a GPU while another one idles.

    Args:
        target: Class of the launcher.
        plan: Of the sweep.

    Raises:
        ConfigError: The launcher's workers do not know which GPU is free.
    """
    gpus = visible_gpus(plan.cells)
    if target == JOBLIB["_target_"] and plan.settings.parallel > 1 and len(gpus) > 1:
        raise ConfigError(
            f"hydra/launcher=joblib cannot give {len(gpus)} GPUs out to cells. Leave hydra/launcher out, then "
            f"sweep.parallel={plan.settings.parallel} does so; or let the sweep see one GPU with CUDA_VISIBLE_DEVICES."
        )


def launch_jobs(master: DictConfig, loader: ConfigLoader, jobs: Sequence[Sequence[str]]) -> list[JobReturn]:
    """Carry out jobs on this machine: cells of our sweeper, or trials of a search. A job that is wrong has failed.

    Raises:
        Interrupted: A signal came; the cells have stopped.
    """
    compose, say = composer(master, loader), speaker(Screen())
    plans: list[Plan | ConfigError] = []
    for overrides in jobs:
        try:
            plans.append(_plan_job(overrides, compose, say))
        except ConfigError as error:
            say(f"{' '.join(overrides)} cannot be run. {error}")
            plans.append(error)
    sound = [plan for plan in plans if isinstance(plan, Plan)]
    if sound:
        open_cells = {cell.path: cell for plan in sound for cell in plan.open_cells()}
        launch_here(sound[0].settings, list(open_cells.values()), say)
    return [_job_return(plan, overrides) for plan, overrides in zip(plans, jobs, strict=True)]


def _plan_job(overrides: Sequence[str], compose: Compose, say: Say) -> Plan:
    """Return the one frozen cell that a job points to, or freeze those of a point of a search: its seeds.

    Raises:
        ConfigError: The point is wrong.
    """
    settings = convert(compose(overrides)).sweep
    if settings.cell is not None:
        cell = thaw(Path(settings.cell))
        return Plan(cell.path.parent.parent, settings, [cell])
    plan = make_plan(overrides, compose, lambda _: None)
    await_orphans(plan.cells, say)
    add_cells(plan.study, plan.cells)
    return replace(plan, cells=[cell.freeze() for cell in plan.cells])


def carry_out(command: Command) -> None:
    """Carry out the one cell that a launcher of Hydra points to, wherever this is.

    Signals are the launcher's: when it ends this process, the cell notices, saves and stops.
    """
    cell = thaw(Path(str(command.sweep.cell)))
    environment = slots(command.sweep.parallel, [cell])[0]
    Pool(command.sweep, [environment], speaker(Screen()), lambda: None).run([cell])


def _hand_over(launcher: Launcher, plan: Plan, cells: Sequence[Cell]) -> None:
    """Give cells to a launcher; what an engine raises when a worker dies differs, the folders tell the truth.

    Raises:
        FailedCellsError: The launcher gave up while cells had no result. Some may be in its queue still, so nothing is
            said in their folders.
    """
    if not cells:
        return
    try:
        launcher.launch([_pointer(plan, cell, len(cells)) for cell in cells], 0)
    except (NanoLLMError, HydraException):
        raise
    except Exception as error:
        if lines := missing_results(plan.cells):
            raise FailedCellsError(
                "\n".join(
                    [
                        f"The launcher gave up ({type(error).__name__}: {error}).",
                        f"{len(lines)} of {len(plan.cells)} cells have no result; those that have not failed may still "
                        "wait or run in its queue. Once none does, the same command goes on:",
                        *lines,
                    ]
                )
            ) from error


def _pointer(plan: Plan, cell: Cell, num_cells: int) -> list[str]:
    """Return the overrides of the job of one of so many cells."""
    kept = ("retries", "timeout_minutes", "fail_fast")
    settings = {name: getattr(plan.settings, name) for name in kept}
    settings["parallel"] = min(plan.settings.parallel, num_cells)
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


def _job_return(plan: Plan | ConfigError, overrides: Sequence[str]) -> JobReturn:
    """Return the mean objective over a job's cells, or why there is none."""
    if isinstance(plan, ConfigError):
        return JobReturn(overrides=overrides, status=JobStatus.FAILED, _return_value=plan)
    objective = plan.settings.objective
    values = []
    for cell in plan.cells:
        figures = (result_of(cell) or {}).get("metrics", {})
        value = figures.get(objective)
        if value is None or not math.isfinite(value):
            status = read_status(cell.path)
            reason = f"{objective} is {value}" if status.state == "finished" else status.reason or status.state
            error = FailedCellsError(f"{cell.label}: {reason}")
            return JobReturn(overrides=overrides, status=JobStatus.FAILED, _return_value=error)
        values.append(float(value))
    return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=sum(values) / len(values))
