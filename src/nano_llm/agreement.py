"""Several processes train one model only if each of them was asked to train the same."""

from typing import Any

from nano_llm import __version__
from nano_llm.config.identity import to_plain
from nano_llm.errors import ConfigError
from nano_llm.identity import Located
from nano_llm.training.group import Group


def demand_agreement(located: Located, group: Group) -> None:
    """Make sure that all processes of a group are to train one model, and that there is work for each.

    Raises:
        ConfigError: They are not, or there is not.
    """
    batch_size, size = located.config.trainer.batch_size, group.place.size
    if batch_size < size:
        raise ConfigError(
            f"trainer.batch_size={batch_size}: is shared out over all processes, and {size} of them have less than a "
            f"window each. Take at least trainer.batch_size={size}, or start fewer processes (--nproc-per-node)."
        )
    mine = _agreement(located)
    leaders = group.told(lambda: mine)
    if mine != leaders:
        names = sorted({*mine, *leaders})
        others = [name for name in names if mine.get(name) != leaders.get(name)]
        told = ", ".join(f"{name} {mine.get(name)} (rank 0: {leaders.get(name)})" for name in others)
        raise ConfigError(
            f"Rank {group.place.rank} and rank 0 would not train the same: {told}. All processes need the same "
            "command, the same version of nano_llm, the same data and the same kind of device."
        )


def _agreement(located: Located) -> dict[str, Any]:
    """Return, by name, what all processes of a group must have in common.

    Settings that take no part in a run's id are among it: some decide when the processes speak to each other. What is
    a machine's own is not: paths, what is read from them being known by the run's id, and the number of threads.
    """
    plain = to_plain(located.config)
    del plain["paths"], plain["data"], plain["trainer"]["num_threads"]
    shared = {"nano_llm": __version__, "run": located.run_id, "device": located.machine.device.type}
    return shared | _flat("", plain)


def _flat(prefix: str, plain: dict[str, Any]) -> dict[str, Any]:
    """Return nested settings by their full names."""
    flat: dict[str, Any] = {}
    for name, value in plain.items():
        flat |= _flat(f"{prefix}{name}.", value) if isinstance(value, dict) else {prefix + name: value}
    return flat
