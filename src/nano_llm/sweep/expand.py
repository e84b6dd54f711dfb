"""From a command line to the overrides of each cell: grid x rows x seeds."""

import contextlib
import itertools
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from typing import get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from omegaconf import DictConfig

from nano_llm.config.compose import NO_VALUES, REFUSALS
from nano_llm.config.schema import Command
from nano_llm.config.strict import convert
from nano_llm.errors import ConfigError

Compose = Callable[[Sequence[str]], DictConfig]
"""Composes overrides without sweeps, not yet checked by `convert`; raises ConfigError if they do not compose."""

VALUES = {name for name, hint in get_type_hints(Command).items() if not is_dataclass(hint)}
"""Settings beside the groups, such as ``seed``."""


def expand(overrides: Sequence[str], compose: Compose) -> list[tuple[list[str], Command]]:
    """Return the overrides of every cell and what they compose to, all seeds of the first seed's rank first.

    An override with several values (``model=vanilla,tarnet``, ``seed=range(0,3)``) spans a grid. At each point of it,
    each of ``sweep.rows`` is one more command line, which may sweep too; what is typed wins over the row. Each of
    these is repeated for ``sweep.seeds`` seeds, counted up from its own.

    Raises:
        ConfigError: Everything that is wrong with any cell, in one message.
    """
    problems: dict[str, int] = {}
    found: list[list[tuple[list[str], Command]]] = []
    for line in _lines(overrides, compose, problems):
        with _counting(problems):
            first = convert(compose(line))
            found.append([(line, first), *_further_seeds(line, first, compose)])
    if problems:
        lines = [f"{line}{f' ({number} cells)' if number > 1 else ''}" for line, number in problems.items()]
        raise ConfigError("\n".join(["The sweep does not start; its configuration has problems:", *lines]))
    ranks = itertools.zip_longest(*found)
    return [cell for rank in ranks for cell in rank if cell is not None]


def _lines(overrides: Sequence[str], compose: Compose, problems: dict[str, int]) -> Iterator[list[str]]:
    """Yield the command line of each point and row; a row that yields none is counted as a problem."""
    known: dict[tuple[str, ...], list[str]] = {}
    for point in _grid(overrides):
        with _counting(problems):
            choosing = tuple(filter(_may_choose_rows, point))
            if choosing not in known:
                known[choosing] = list(compose(choosing).sweep.rows)
            for row in known[choosing] or [""]:
                with _counting(problems):
                    yield from _row_points(row, point)


def _may_choose_rows(override: str) -> bool:
    """Tell whether an override may say what the rows are. The others need not fit anything but their row."""
    key = _key(override)
    return key.startswith("sweep.") or not ("." in key or "/" in key or key in VALUES)


def _further_seeds(line: list[str], first: Command, compose: Compose) -> Iterator[tuple[list[str], Command]]:
    """Yield the cells of a row after its first."""
    for seed in range(first.seed + 1, first.seed + first.sweep.seeds):
        overrides = [*_without(line, {"seed"}), f"seed={seed}"]
        yield overrides, convert(compose(overrides))


def _row_points(row: str, typed: list[str]) -> Iterator[list[str]]:
    """Yield the command lines of a row, with what was typed in the place of what the row says of the same setting."""
    keys = {_key(text) for text in typed}
    try:
        words = shlex.split(row)
    except ValueError as error:
        raise ConfigError(f"sweep.rows: {row}: cannot be split into overrides ({error}); mind its quotes") from error
    for point in _grid(words):
        yield [*_without(point, keys), *typed]


def _grid(overrides: Sequence[str]) -> Iterator[list[str]]:
    """Yield every combination of the values of overrides that sweep."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except REFUSALS as error:
        raise ConfigError(f"{' '.join(overrides)}: not overrides of the form key=value ({error})") from error
    return map(list, itertools.product(*(_values(override) for override in parsed)))


def _values(override: Override) -> list[str]:
    if override.is_interval_sweep() or override.value_type is ValueType.GLOB_CHOICE_SWEEP:
        raise ConfigError(f"{override.input_line}: {NO_VALUES}")
    if override.is_sweep_override():
        return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    assert override.input_line is not None
    return [override.input_line]


def _without(overrides: list[str], keys: set[str]) -> list[str]:
    return [text for text in overrides if _key(text) not in keys]


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~")


@contextlib.contextmanager
def _counting(problems: dict[str, int]) -> Iterator[None]:
    """Count the problems of an error, each of which has a line of its own, and go on after the block."""
    try:
        yield
    except ConfigError as error:
        listed = [line for line in str(error).splitlines() if line.startswith("  - ")]
        for line in listed or [f"  - {error}"]:
            problems[line] = problems.get(line, 0) + 1
