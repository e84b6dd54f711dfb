"""A cell: one run of a sweep, frozen before the sweep starts.

``cell.json`` in the run's folder holds all that the run needs, so that editing ``conf/`` later changes nothing:

    {"id": "9f2c...", "name": "tarnet-scm-nano", "seed": 0, "overrides": ["model=tarnet"], "config": {...},
     "attempts": 1}
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nano_llm.config.identity import to_plain
from nano_llm.config.schema import Config
from nano_llm.config.stored import from_plain
from nano_llm.errors import ConfigError, OutputError
from nano_llm.files import explained_writes, write_json
from nano_llm.identity import identify
from nano_llm.tracking.status import read_object

CELL = "cell.json"


@dataclass(frozen=True)
class Cell:
    """One run of a sweep."""

    id: str
    """Of the arm: a hash of everything that changes the numbers, but the seed."""
    name: str
    seed: int
    overrides: list[str]
    """What its command line would be."""
    config: Config
    path: Path
    """Of the run's folder."""
    attempts: int = 0

    @classmethod
    def of(cls, config: Config, overrides: list[str]) -> "Cell":
        """Locate the run of a configuration.

        Raises:
            ConfigError: The machine lacks what ``trainer`` asks for.
            DataError: A local corpus or prepared folder is missing or unfit.
        """
        located = identify(config)
        return cls(located.run_id, config.name, config.seed, overrides, located.config, located.path)

    @property
    def label(self) -> str:
        """Name of the cell for people: its arm and seed."""
        return f"{self.name}-{self.id[:4]} seed {self.seed}"

    @property
    def folder(self) -> str:
        """Place below the study."""
        return f"{self.path.parent.name}/{self.path.name}"

    def freeze(self) -> "Cell":
        """Write the cell into its folder, keeping the count of its attempts; return it with that count."""
        known = read_object(self.path / CELL) or {}
        frozen = replace(self, attempts=known.get("attempts", 0))
        frozen._write()
        return frozen

    def next_attempt(self) -> "Cell":
        """Count an attempt."""
        again = replace(self, attempts=self.attempts + 1)
        again._write()
        return again

    def _write(self) -> None:
        plain = {**asdict(replace(self, config=to_plain(self.config))), "path": None}
        del plain["path"]
        with explained_writes(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / CELL, plain)


def thaw(path: Path) -> Cell:
    """Read the cell of a run's folder.

    Raises:
        OutputError: There is none, or it is damaged.
        ConfigError: It comes from a version with other settings.
    """
    plain: dict[str, Any] | None = read_object(path / CELL)
    if plain is None:
        raise OutputError(f"No readable {CELL} in {path}; start the sweep again, it writes it anew.")
    config = from_plain(plain["config"])
    return Cell(plain["id"], plain["name"], plain["seed"], plain["overrides"], config, path, plain["attempts"])


def demand_same_run(cell: Cell) -> None:
    """Make sure that a frozen cell is here and now the run that it was.

    Raises:
        ConfigError: The data or the machine have changed since the cell was frozen, so that it would be another run.
    """
    located = identify(cell.config)
    if located.run_id != cell.id or located.path.resolve() != cell.path.resolve():
        raise ConfigError(
            f"The cell {cell.path} was frozen as {cell.id}, but here and now it is {located.run_id} in {located.path}: "
            "its data have changed since, or it was started from another folder. Start the sweep again."
        )
