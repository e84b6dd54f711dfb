"""What a sweep has to do: its cells, and which of them are done already."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from nano_llm import checkpoint
from nano_llm.config.schema import SweepConfig
from nano_llm.errors import CheckpointError, ConfigError
from nano_llm.identity import Summary, finished_summary, starts_anew
from nano_llm.sweep.cell import Cell
from nano_llm.sweep.expand import Compose, expand


class Work(Enum):
    """What a cell still needs."""

    reused = "reused"
    resumed = "resumed"
    computed = "computed"


@dataclass(frozen=True)
class Plan:
    """The cells of one call, each run once, in the order in which they start."""

    study: Path
    settings: SweepConfig
    cells: list[Cell]

    def open_cells(self) -> list[Cell]:
        """Return the cells that are not finished at this moment."""
        return [cell for cell in self.cells if not is_finished(cell)]

    def counts(self) -> str:
        """Say how many cells there are of each kind at this moment."""
        works = [work_of(cell) for cell in self.cells]
        numbers = [f"{works.count(work)} {work.value}" for work in Work]
        return f"{len(self.cells)} {'cell' if len(self.cells) == 1 else 'cells'}: {', '.join(numbers)}"


def make_plan(overrides: Sequence[str], compose: Compose, log: Callable[[str], None]) -> Plan:
    """Compose, check and locate every cell of a command line; nothing is written.

    Raises:
        ConfigError: Any cell is wrong, or the cells do not belong to one sweep.
        DataError: The data of a cell are missing or unfit.
    """
    expanded = expand(overrides, compose)
    log(f"{len(expanded)} {'configuration' if len(expanded) == 1 else 'configurations'} composed and checked")
    cells: dict[Path, Cell] = {}
    for words, command in expanded:
        cell = Cell.of(command.run(), words)
        cells.setdefault(cell.path, cell)
    studies = {path.parent.parent for path in cells}
    if len(studies) > 1:
        names = ", ".join(sorted(map(str, studies)))
        raise ConfigError(f"The cells of one sweep share a study, but these lie in {names}; add study=NAME.")
    settings = [replace(command.sweep, rows=[], seeds=1) for _, command in expanded]
    if any(other != settings[0] for other in settings):
        raise ConfigError("The cells differ in settings of the sweep itself; give sweep.* one value each.")
    return Plan(studies.pop(), settings[0], list(cells.values()))


def work_of(cell: Cell) -> Work:
    """Judge from a cell's folder what it still needs."""
    if is_finished(cell):
        return Work.reused
    try:
        can_resume = checkpoint.can_resume(cell.path / "checkpoints") and not starts_anew(cell.path)
    except CheckpointError:  # as the cell will tell itself
        can_resume = True
    return Work.resumed if can_resume else Work.computed


def is_finished(cell: Cell) -> bool:
    """Tell whether a cell's results are there and are its own."""
    return result_of(cell) is not None


def result_of(cell: Cell) -> Summary | None:
    """Return the summary of a cell that is finished; None too where its folder cannot be looked into.

    The cell itself then fails with the reason, and the others go on.
    """
    try:
        return finished_summary(cell.id, cell.path)
    except CheckpointError:
        return None
