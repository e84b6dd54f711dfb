"""A search with Optuna that a second call continues, up to a total number of trials.

hydra-optuna-sweeper alone would run as many trials again, number them from 0 and, with a seeded sampler, draw the same
points. Here its loop runs only what is missing; each trial is a cell or several (``sweep.seeds``), in processes.
"""

import contextlib
import functools
import logging
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.utils import instantiate
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl
from optuna.trial import TrialState
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from nano_llm.config.plugins import LAUNCHER
from nano_llm.errors import ConfigError, OutputError
from nano_llm.interruption import Interrupted, Interruption
from nano_llm.report.report import write_report
from nano_llm.sweep.hydra import composer, expand_home, typed
from nano_llm.sweep.manifest import add_command, add_seconds, held
from nano_llm.sweep.space import Space, read_space
from nano_llm.sweep.sweep import FailedCellsError, exit_interrupted, speaker
from nano_llm.tracking.console import Screen

SQLITE = "sqlite:///"


def search(settings: dict[str, Any], surroundings: dict[str, Any], overrides: Sequence[str]) -> None:
    """Search until ``n_trials`` trials have results, and report.

    Args:
        settings: Of hydra-optuna-sweeper, the sampler not yet built.
        surroundings: What Hydra hands to the ``setup`` of a sweeper.
        overrides: As typed; those that name distributions span the space.

    Raises:
        ConfigError: Another launcher than ours is chosen, which would not know the objective; or the space is wrong.
        OutputError: What is known of the search cannot be read or written.
        FailedCellsError: Fewer trials than asked for have a result.
        SystemExit: Status 130 or 143 after a signal; the same command goes on.
    """
    master = surroundings["config"]
    if master.hydra.launcher._target_ != LAUNCHER["_target_"]:
        raise ConfigError("A search runs on this machine: leave hydra/launcher out and use sweep.parallel instead.")
    for name in ("alembic", "optuna"):
        logging.getLogger(name).setLevel(logging.WARNING)
    expand_home(master)
    space = read_space(settings["params"], overrides)
    plan = space.demand_valid(composer(master, surroundings["hydra_context"].config_loader))
    wanted = {**settings, "storage": master.hydra.sweeper.storage, "n_trials": _total(settings, space)}
    console = Screen()
    with _explained_storage(wanted["storage"]):
        if plan.settings.dry_run:
            console.print("\n".join(_outlook(wanted, space, len(plan.cells))), highlight=False, markup=False)
            return
        folder = Path(master.hydra.sweep.dir)
        try:
            with held(folder), Interruption() as interruption:
                study = _search(wanted, surroundings, space, interruption, console)
        except Interrupted as interrupted:
            exit_interrupted(interrupted.reason, speaker(console))
        _conclude(study, wanted["n_trials"], console)


@contextlib.contextmanager
def _explained_storage(storage: str | None) -> Iterator[None]:
    """Turn what a database says of a failure into one sentence that helps.

    Raises:
        OutputError: The block failed in reading or writing the database.
    """
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        # Of a commit, Optuna tells the database's own words as the cause only, and SQLAlchemy behind its own.
        told = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        reason = str(told).splitlines()[0].rpartition("Original exception was: ")[2]
        # Another address may hold a password.
        is_file = storage is not None and storage.startswith(SQLITE)
        place = str(storage).removeprefix(SQLITE) if is_file else "the database of hydra.sweeper.storage"
        raise OutputError(
            f"The search cannot use {place}: {reason}. Where there is no space or no permission, make some: the same "
            "command goes on. Where the database is damaged, restore it from a copy or move it away: the search begins "
            "again then, and what it draws again need not be trained again."
        ) from error


def _search(
    settings: dict[str, Any],
    surroundings: dict[str, Any],
    space: Space,
    interruption: Interruption,
    console: Console,
) -> optuna.Study:
    """Run what is missing and report, also after a signal."""
    master = surroundings["config"]
    folder = Path(master.hydra.sweep.dir)
    began = time.monotonic()
    missing = 0
    try:
        add_command(folder, typed(master))
        study = optuna.create_study(
            study_name=settings["study_name"],
            storage=settings["storage"],
            direction=settings["direction"],
            load_if_exists=True,
        )
        _release_lost(study)
        missing = max(0, settings["n_trials"] - len(_finished(study)))
        speaker(console)(_counts(settings["n_trials"], missing))
        if missing:
            _run(study, {**settings, "n_trials": missing}, surroundings, space)
    finally:
        with interruption.patiently():
            if missing:
                add_seconds(folder, time.monotonic() - began)
            if any(folder.glob("*/seed-*")):
                report = write_report(folder)
                console.print(report.text, highlight=False, markup=False, soft_wrap=True)
    return study


def _run(study: optuna.Study, settings: dict[str, Any], surroundings: dict[str, Any], space: Space) -> None:
    """Run the missing trials, with a sampler that has not drawn the known ones."""
    known = len(study.trials)
    seed = settings["sampler"].get("seed")
    sampler = instantiate(settings["sampler"], **({} if seed is None else {"seed": seed + known}))
    num_ended = len(_ended(study))
    # The loop lets a fixed value win over a distribution, wherever they come from; the space has settled that already.
    loop = OptunaSweeperImpl(**{**settings, "sampler": sampler, "params": None})
    loop.setup(**surroundings)
    loop.job_idx = known
    try:
        loop.sweep(space.overrides())
    except (ValueError, RuntimeError):
        # At its end the loop asks for the best trial, also when every trial has failed, and a grid stops the study when
        # its last point has failed. All trials have been told by then; `_conclude` says what became of them.
        if len(_ended(study)) - num_ended < loop.n_trials:
            raise


def _conclude(study: optuna.Study, total: int, console: Console) -> None:
    """Tell the best trial.

    Raises:
        FailedCellsError: Fewer trials than asked for have a result.
    """
    finished = _finished(study)
    if finished:
        best = study.best_trial
        speaker(console)(f"Best of {len(finished)} trials: number {best.number}, {best.value:.4f} with {best.params}")
    if len(finished) < total:
        raise FailedCellsError(
            f"{total - len(finished)} of {total} trials of the search have no result; see the reasons above. The same "
            "command tries as many further points."
        )


def _outlook(settings: dict[str, Any], space: Space, num_cells: int) -> list[str]:
    """Say what a search would do."""
    missing = max(0, settings["n_trials"] - len(_known(settings)))
    cells = "one cell" if num_cells == 1 else f"{num_cells} cells"
    return [
        f"{_counts(settings['n_trials'], missing)}, each of {cells}; searched are",
        *(f"  {name}: {words}" for name, words in space.words.items()),
        "Nothing was started: sweep.dry_run=true",
    ]


def _counts(total: int, missing: int) -> str:
    return f"{total} trials: {total - missing} have results, {missing} to run"


def _known(settings: dict[str, Any]) -> list[optuna.trial.FrozenTrial]:
    """Return the trials of a search that have results; none, and nothing is created, where it has not begun."""
    storage = settings["storage"]
    if storage is None or (storage.startswith(SQLITE) and not Path(storage.removeprefix(SQLITE)).exists()):
        return []
    try:
        return _finished(optuna.load_study(study_name=settings["study_name"], storage=storage))
    except KeyError:
        return []


def _total(settings: dict[str, Any], space: Space) -> int:
    """Return how many results end a search: ``n_trials``, or all points of a grid if they are fewer."""
    sampler = instantiate(settings["sampler"])
    if not isinstance(sampler, functools.partial):
        return int(settings["n_trials"])
    grid = OptunaSweeperImpl(**{**settings, "sampler": sampler})
    try:
        points = math.prod(len(grid._to_grid_sampler_choices(values)) for values in space.searched.values())
    except ValueError as error:
        raise ConfigError(f"hydra/sweeper/sampler=grid: {error} Write choice(...) for each setting.") from error
    return min(int(settings["n_trials"]), points)


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return list(study.get_trials(states=(TrialState.COMPLETE,)))


def _ended(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return list(study.get_trials(states=(TrialState.COMPLETE, TrialState.FAIL)))


def _release_lost(study: optuna.Study) -> None:
    """Close trials that a killed search has left open, and put their points first in line: their cells resume."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            with warnings.catch_warnings():
                # The pinned Optuna calls queues experimental; the pin is what we rely on.
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.enqueue_trial(trial.params)
