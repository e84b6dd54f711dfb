"""A search with Optuna that a second call continues, up to a total number of trials.

hydra-optuna-sweeper alone would run as many trials again, number them from 0 and, with a seeded sampler, draw the same
points. Here its loop runs only what is missing; each trial is a cell or several (``sweep.seeds``), in processes.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.utils import instantiate
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl
from optuna.trial import TrialState
from rich.console import Console

from nano_llm.config.plugins import LAUNCHER
from nano_llm.errors import ConfigError
from nano_llm.interruption import Interrupted, Interruption
from nano_llm.report.report import write_report
from nano_llm.sweep.manifest import held
from nano_llm.sweep.sweep import FailedCellsError, exit_interrupted, speaker


def search(settings: dict[str, Any], surroundings: dict[str, Any], overrides: Sequence[str]) -> None:
    """Search until ``n_trials`` trials have results, and report.

    Args:
        settings: Of hydra-optuna-sweeper, the sampler not yet built.
        surroundings: What Hydra hands to the ``setup`` of a sweeper.
        overrides: As typed; those that name distributions span the space.

    Raises:
        ConfigError: Another launcher than ours is chosen; it would not know the objective.
        FailedCellsError: No trial has a result.
        SystemExit: Status 130 or 143 after a signal; the same command goes on.
    """
    if surroundings["config"].hydra.launcher._target_ != LAUNCHER["_target_"]:
        raise ConfigError("A search runs on this machine: leave hydra/launcher out and use sweep.parallel instead.")
    for name in ("alembic", "optuna"):
        logging.getLogger(name).setLevel(logging.WARNING)
    folder = Path(surroundings["config"].hydra.sweep.dir)
    console = Console()
    say = speaker(console)
    with held(folder):
        study = optuna.create_study(
            study_name=settings["study_name"],
            storage=settings["storage"],
            direction=settings["direction"],
            load_if_exists=True,
        )
        _release_lost(study)
        finished = study.get_trials(states=(TrialState.COMPLETE,))
        missing = settings["n_trials"] - len(finished)
        say(f"{settings['n_trials']} trials: {len(finished)} have results, {max(0, missing)} to run")
        try:
            with Interruption():
                if missing > 0:
                    _run(study, settings, surroundings, overrides, missing)
        except Interrupted as interrupted:
            exit_interrupted(interrupted.reason, say)
        finally:
            if any(folder.glob("*/seed-*")):
                report = write_report(folder)
                console.print(report.text, highlight=False, markup=False, soft_wrap=True)
    if not study.get_trials(states=(TrialState.COMPLETE,)):
        raise FailedCellsError(f"No trial of the search in {folder} has a result; see the reasons above.")
    best = study.best_trial
    say(f"Best of {len(study.trials)} trials: number {best.number}, {best.value:.4f} with {best.params}")


def _run(
    study: optuna.Study,
    settings: dict[str, Any],
    surroundings: dict[str, Any],
    overrides: Sequence[str],
    missing: int,
) -> None:
    """Run the missing trials, with a sampler that has not drawn the known ones."""
    known = len(study.trials)
    seed = settings["sampler"].get("seed")
    sampler = instantiate(settings["sampler"], **({} if seed is None else {"seed": seed + known}))
    loop = OptunaSweeperImpl(**{**settings, "sampler": sampler, "n_trials": missing})
    loop.setup(**surroundings)
    loop.job_idx = known
    try:
        loop.sweep(list(overrides))
    except ValueError:
        # The loop asks for the best trial at its end, also when every trial has failed; `search` says so.
        if study.get_trials(states=(TrialState.COMPLETE,)):
            raise


def _release_lost(study: optuna.Study) -> None:
    """Close trials that a killed search has left open, and put their points first in line: their cells resume."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params)
