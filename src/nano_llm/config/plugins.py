"""Our sweepers and launcher, and our settings for those of others, in Hydra's registries."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

SWEEPER = {"_target_": "hydra_plugins.nano_llm.sweeper.NanoSweeper"}
LAUNCHER = {"_target_": "hydra_plugins.nano_llm.launcher.ProcessLauncher"}
OPTUNA: dict[str, Any] = {
    "defaults": [{"sampler": "tpe"}, "_self_"],
    "_target_": "hydra_plugins.nano_llm.sweeper.ContinuedOptunaSweeper",
    "_recursive_": False,
    "direction": "minimize",
    "storage": "sqlite:///${hydra.sweep.dir}/search.db",
    "study_name": "${study}",
    "n_trials": 20,
    "n_jobs": "${sweep.parallel}",
    "max_failure_rate": 1.0,
    "search_space": None,
    "custom_search_space": None,
    "params": None,
}
JOBLIB = {
    "_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "n_jobs": "${sweep.parallel}",
}

NODES: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("hydra/sweeper", "nano", SWEEPER, "hydra_plugins.nano_llm"),
    ("hydra/sweeper", "basic", SWEEPER, "hydra_plugins.nano_llm"),
    ("hydra/sweeper", "optuna", OPTUNA, "hydra_plugins.hydra_optuna_sweeper"),
    ("hydra/launcher", "process", LAUNCHER, "hydra_plugins.nano_llm"),
    ("hydra/launcher", "basic", LAUNCHER, "hydra_plugins.nano_llm"),
    ("hydra/launcher", "joblib", JOBLIB, "hydra_plugins.hydra_joblib_launcher"),
)
"""Group, choice, settings, and the package without which there is no such choice.

``basic`` is what Hydra takes when nothing is chosen. It is ours under its own name, since an experiment can choose
another sweeper only where the primary configuration has not chosen one.
"""

EXTRAS = {"hydra/sweeper/optuna": "hpo", "hydra/launcher/joblib": "joblib", "hydra/launcher/submitit": "slurm"}
"""Choice, or its beginning -> the extra of this package that brings it."""


def register_plugins() -> None:
    """Make our classes known to Hydra, and our settings the ones that count.

    Hydra's own search for plugins comes first: it misses ours in some installations, executes plugin modules a second
    time, and stores settings that ours replace.
    """
    plugins = Plugins.instance()
    store = ConfigStore.instance()
    for group, choice, node, package in NODES:
        if find_spec(package) is None:
            continue
        store.store(group=group, name=choice, node=node)
        module, _, name = str(node["_target_"]).rpartition(".")
        if package == "hydra_plugins.nano_llm":
            plugins.register(getattr(import_module(module), name))
    sweeper = import_module("hydra_plugins.nano_llm.sweeper")
    plugins.register(sweeper.ContinuedOptunaSweeper)


def missing_extra(choice: str) -> str | None:
    """Return the extra of this package that would bring a choice such as ``hydra/launcher/joblib``."""
    return next((extra for start, extra in EXTRAS.items() if choice.startswith(start)), None)
