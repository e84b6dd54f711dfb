"""Train, evaluate and resume one run: ``python -m nano_llm.run model=tarnet data=imdb``.

Run again with the same settings and seed, it resumes, or reports what is done; it never overwrites.
"""

import os
import sys
from collections.abc import Sequence

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from nano_llm.cli.ending import ended, tell
from nano_llm.config.compose import FORESEEN, REFUSALS, problems_of
from nano_llm.config.plugins import register_plugins
from nano_llm.config.register import config_source, register_schemas
from nano_llm.config.strict import convert, report
from nano_llm.errors import ConfigError, GroupError, NanoLLMError
from nano_llm.training.place import SOLE, Place


def main(arguments: Sequence[str] | None = None) -> int:
    """Run Hydra on the command line and turn every expected failure into one message and an exit status.

    A multirun is a sweep: `nano_llm.sweep` plans it, carries out what is missing and tells all failures at the end.

    Under ``torchrun`` all processes train one model; they meet the same mistakes, and rank 0 tells them.

    Returns:
        0 finished, 1 failed, 2 the configuration is wrong, 130 or 143 interrupted and resumable.
    """
    if arguments is not None:
        sys.argv = [sys.argv[0], *arguments]
    return ended(_run)


def _run() -> int:
    failures: list[NanoLLMError] = []
    place, has_begun = SOLE, False

    def task(composed: DictConfig) -> None:
        nonlocal has_begun
        has_begun = True
        try:
            _carry_out(composed, place)
        except NanoLLMError as error:
            failures.append(error)

    # Makes Hydra hand over exceptions instead of printing a shortened one of its own.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    register_schemas()
    register_plugins()
    try:
        place = Place.of(os.environ)
        _demand_single_run(place)
        hydra.main(version_base="1.3", config_path=config_source(), config_name="config")(task)()
    except REFUSALS as error:
        if has_begun:  # what fails in a run is no matter of its overrides
            raise
        failures.append(_refusal(error))
    except NanoLLMError as error:
        failures.append(error)
    told = [failure for failure in failures if place.rank == 0 or isinstance(failure, GroupError)]
    for failure in told:
        tell(failure)
    return max((failure.exit_status for failure in failures), default=0)


def _demand_single_run(place: Place) -> None:
    """Make sure that the processes of a job are not to carry out a sweep, which starts processes of its own.

    Raises:
        ConfigError: They are.
    """
    if place.size == 1:
        return
    given = get_args_parser().parse_args(sys.argv[1:])
    if given.multirun or any(text.startswith(("hydra.mode=MULTIRUN", "sweep.cell=")) for text in given.overrides):
        raise ConfigError(
            f"A job of {place.size} processes (WORLD_SIZE, as set by torchrun) trains one run. For a sweep, start "
            "`nano_llm.run -m` without torchrun; for this run on several devices, leave -m out."
        )


def _carry_out(composed: DictConfig, place: Place) -> None:
    """Check a composed config and carry the run out, or the cell of a sweep that it points to."""
    command = convert(composed)
    if command.sweep.cell is not None:
        from nano_llm.sweep.hydra import carry_out

        carry_out(command)
        return
    if command.sweep.rows or command.sweep.seeds > 1 or command.sweep.dry_run:
        raise ConfigError("This command describes a sweep (sweep.rows, sweep.seeds or sweep.dry_run is set): add -m.")
    # Imported here, so that --help, --cfg and completion never wait for torch.
    from nano_llm.session import run_session
    from nano_llm.tracking.console import Screen
    from nano_llm.training.group import joined

    with joined(place, tell) as group:
        run_session(command.run(), list(HydraConfig.get().overrides.task), Screen(), group)


def _refusal(error: Exception) -> ConfigError:
    """Explain why the configuration does not compose; a failure that it does not explain is a bug, and raised again."""
    given = get_args_parser().parse_args(sys.argv[1:])
    problems = problems_of(given.overrides, multirun=given.multirun)
    if not problems and not isinstance(error, FORESEEN):
        raise error
    return ConfigError(report(problems or [next(iter(str(error).splitlines()), type(error).__name__)]))


if __name__ == "__main__":
    sys.exit(main())
