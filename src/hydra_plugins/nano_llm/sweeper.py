"""``hydra/sweeper=nano``: the shell between Hydra's ``-m`` and `nano_llm.sweep`.

Hydra executes this module in every application of the environment, so it holds nothing and imports nothing heavy.
"""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class NanoSweeper(Sweeper):
    """Plans all cells, hands the open ones to the launcher, reports."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `sweep` needs."""
        self.config: DictConfig | None = config
        self.hydra_context: HydraContext | None = hydra_context
        self.launcher: Launcher | None = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Carry out the sweep of a command line."""
        from nano_llm.sweep.hydra import sweep_with

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        sweep_with(self.launcher, self.config, self.hydra_context.config_loader, arguments)


class ContinuedOptunaSweeper(Sweeper):
    """``hydra/sweeper=optuna``: the search of hydra-optuna-sweeper, continued to a total number of trials."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `sweep` needs."""
        self.surroundings = {"hydra_context": hydra_context, "task_function": task_function, "config": config}

    def sweep(self, arguments: list[str]) -> Any:
        """Search until the total number of trials has results."""
        from nano_llm.sweep.search import search

        search(self.settings, self.surroundings, arguments)
