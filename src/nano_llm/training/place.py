"""The place of a process among those that a launcher such as ``torchrun`` has started for one run."""

from collections.abc import Mapping
from dataclasses import dataclass

from nano_llm.errors import ConfigError

ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


@dataclass(frozen=True)
class Place:
    """Which process this is; without a launcher the only one."""

    rank: int = 0
    """Of this process; rank 0 decides, prints and writes."""
    size: int = 1
    """Processes of the run, over all machines."""
    local_rank: int = 0
    """Of this process on its machine: the number of its GPU."""

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> "Place":
        """Read the place from the variables that launchers set.

        Args:
            variables: Of the environment. ``RANK`` tells that there is a launcher.

        Raises:
            ConfigError: A variable is missing or makes no sense.
        """
        if "RANK" not in variables:
            return cls()
        try:
            place = cls(*(int(variables[name]) for name in NUMBERS))
            complete = place.size == 1 or all(variables.get(name) for name in ADDRESS)
        except (KeyError, ValueError):
            complete, place = False, cls()
        if not (complete and 0 <= place.rank < place.size and place.local_rank >= 0):
            given = ", ".join(f"{name}={variables.get(name, '(not set)')}" for name in (*NUMBERS, *ADDRESS))
            raise ConfigError(
                f"The environment describes no process of a job: {given}. Start several processes with torchrun, which "
                "sets all five; for a single one, unset RANK."
            )
        return place


SOLE = Place()
"""Of a process without a launcher."""
