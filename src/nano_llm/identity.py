"""What a run is called, where it lies, and whether it is finished there."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from nano_llm import checkpoint
from nano_llm.checkpoint import BEST
from nano_llm.config.identity import arm_id
from nano_llm.config.schema import Config
from nano_llm.data.prepare import fingerprint
from nano_llm.tracking.status import read_status, read_summary
from nano_llm.tracking.trackers import demand_installed
from nano_llm.training.machine import Machine, find_machine
from nano_llm.training.place import SOLE, Place

Summary = dict[str, Any]
"""What summary.json holds."""


class Located(NamedTuple):
    """A run and its place."""

    config: Config
    """With every ``auto`` that changes numbers replaced by what it stands for on this machine."""
    machine: Machine
    run_id: str
    path: Path


def identify(config: Config, place: Place = SOLE) -> Located:
    """Find out what a run is called and where it lies, without starting anything.

    Args:
        config: The run. How many processes train it is no part of its identity: that changes figures by rounding and
            by the draws of dropout only.
        place: Of this process among them.

    Raises:
        ConfigError: The machine lacks what ``trainer`` or ``tracker`` asks for.
        DataError: A local corpus or prepared folder is missing or unfit.
    """
    demand_installed(config.tracker)
    machine = find_machine(config.trainer, place)
    # What ``auto`` stands for here changes the numbers, so it belongs to the run's identity.
    config = replace(config, trainer=replace(config.trainer, precision=machine.precision))
    run_id = arm_id(config, fingerprint(config.data, config.protocol, config.model.num_outcomes))
    path = Path(config.paths.outputs).expanduser() / config.study / f"{config.name}-{run_id}" / f"seed-{config.seed}"
    return Located(config, machine, run_id, path)


def finished_summary(run_id: str, path: Path) -> Summary | None:
    """Return the summary of a run that is finished and whole: the figures are its own, its best checkpoint is there."""
    summary = read_summary(path)
    if summary is None or summary.get("id") != run_id or not checkpoint.exists(path / "checkpoints" / BEST):
        return None
    return summary


def starts_anew(path: Path) -> bool:
    """Tell whether a run was finished and has lost its best checkpoint since: its `last` one is of no use either.

    Its summary tells so too: an attempt that ends before the run begins again leaves another status.
    """
    was_finished = read_status(path).state == "finished" or (path / "summary.json").exists()
    return was_finished and not checkpoint.exists(path / "checkpoints" / BEST)
