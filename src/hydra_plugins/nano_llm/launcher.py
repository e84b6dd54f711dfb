"""``hydra/launcher=process``: the shell between Hydra and the processes of `nano_llm.sweep`.

Hydra executes this module in every application of the environment, so it holds nothing and imports nothing heavy.
"""

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ProcessLauncher(Launcher):
    """Runs every job in a process of its own on this machine."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `launch` needs."""
        self.config: DictConfig | None = config
        self.hydra_context: HydraContext | None = hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Carry out jobs, cells of `NanoSweeper` or trials of a search, and return what became of them."""
        from nano_llm.sweep.hydra import launch_jobs

        assert self.config is not None
        assert self.hydra_context is not None
        return launch_jobs(self.config, self.hydra_context.config_loader, job_overrides)
