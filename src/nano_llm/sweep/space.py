"""The space of a search: settings that take their values from distributions, and those that stay as typed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra_plugins.hydra_optuna_sweeper._impl import create_optuna_distribution_from_override
from optuna.distributions import BaseDistribution, CategoricalDistribution

from nano_llm.errors import ConfigError
from nano_llm.sweep.expand import Compose
from nano_llm.sweep.plan import Plan, make_plan


@dataclass(frozen=True)
class Space:
    """What a search varies."""

    searched: dict[str, BaseDistribution]
    words: dict[str, str]
    """What spans each distribution, as it was written: ``interval(0.0,0.2)``."""
    fixed: list[str]
    """Overrides of every trial."""

    def overrides(self) -> list[str]:
        """Return the command line that spans the space, each setting once."""
        return [*self.fixed, *(f"{name}={words}" for name, words in self.words.items())]

    def corners(self) -> list[list[str]]:
        """Return the overrides of the points where every setting has its first or lowest, and its last or highest."""
        ends = {name: _ends(distribution) for name, distribution in self.searched.items()}
        return [[*self.fixed, *(f"{name}={end[i]}" for name, end in ends.items())] for i in (0, 1)]

    def demand_valid(self, compose: Compose) -> Plan:
        """Return the plan of a valid corner. A search may meet invalid points, but not everywhere.

        Raises:
            ConfigError: Both corners are wrong: a name is mistyped, or no value fits.
        """
        first, last = self.corners()
        try:
            return make_plan(first, compose, lambda _: None)
        except ConfigError as error:
            try:
                return make_plan(last, compose, lambda _: None)
            except ConfigError:
                raise error from None


def read_space(params: Mapping[str, Any] | None, overrides: Sequence[str]) -> Space:
    """Read the space of a search; what is typed wins over ``hydra.sweeper.params``.

    Args:
        params: Of the sweeper: setting -> distribution, such as ``interval(0.0,0.2)``.
        overrides: As typed.

    Raises:
        ConfigError: Something is no override, or spans no space.
    """
    searched: dict[str, BaseDistribution] = {}
    words: dict[str, str] = {}
    fixed: dict[str, str] = {}
    for text in [*(f"{name}={value}" for name, value in (params or {}).items()), *overrides]:
        try:
            override = OverridesParser.create().parse_override(text)
            value = create_optuna_distribution_from_override(override)
        except (HydraException, ValueError, AssertionError, NotImplementedError) as error:
            raise ConfigError(f"{text}: spans no space to search ({error})") from error
        name = override.get_key_element()
        for known in (searched, words, fixed):
            known.pop(name, None)
        if isinstance(value, BaseDistribution):
            searched[name], words[name] = value, text.partition("=")[2]
        else:
            fixed[name] = text
    return Space(searched, words, list(fixed.values()))


def _ends(distribution: BaseDistribution) -> tuple[Any, Any]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0], distribution.choices[-1]
    bounds: Any = distribution
    return bounds.low, bounds.high
