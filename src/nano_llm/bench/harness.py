"""What all benchmarks share: ways that take turns, what is made of their figures, the machine's ceilings, the table.

A machine has slow moments. All ways go once in every turn, so that such a moment hits them alike; a figure is the
median over the turns with its ends, and a ratio is taken within each turn before the median is.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

Figures = dict[str, float]
Way = Callable[[], Figures]
"""Does its work once and tells the figures of it."""
Key = tuple[str | int, ...]
"""What tells a way from the others."""
Spread = dict[str, float]
"""Median, lowest and highest of a figure over the turns."""
Row = dict[str, Any]
"""One row of a table: a `Spread`, a text or a number in each field; a figure that it has not is left out."""
Columns = Mapping[str, Callable[[Row], str]]
"""Heading of a column -> how a row spells it."""

PRODUCT, NUM_BYTES, TRIES = (4096, 512, 2048), 1 << 30, 3


@dataclass(frozen=True)
class Turn:
    """What the machine gave at a turn's beginning, and what each way told then."""

    ceilings: Figures
    figures: dict[Key, Figures]


@dataclass(frozen=True)
class Measured:
    """What one benchmark has found."""

    settings: dict[str, Any]
    turns: Sequence[Turn]
    rows: Sequence[Row]
    columns: Columns

    def ceilings(self) -> dict[str, Spread]:
        """Sum up the ceilings of all turns."""
        return {name: spread(turn.ceilings[name] for turn in self.turns) for name in self.turns[0].ceilings}

    def table(self) -> str:
        """Write the rows as Markdown."""
        lines = [list(self.columns), ["---"] * len(self.columns)]
        lines += [[spell(row) for spell in self.columns.values()] for row in self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


class Ceilings:
    """The most that a CPU gives at this moment to the threads that PyTorch has: the best of some tries.

    Args:
        product: Rows, inner length and columns of the matrix product.
        num_bytes: Of the buffer that is read and copied; much more than any cache holds.
    """

    def __init__(self, product: tuple[int, int, int] = PRODUCT, num_bytes: int = NUM_BYTES) -> None:
        rows, inner, columns = product
        self._num_operations = 2 * rows * inner * columns
        self._factors = {
            name: (torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype))
            for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
        }
        self._buffer = torch.ones(num_bytes // 4)

    def __call__(self) -> Figures:
        """Measure products in GFLOP/s and memory in GB/s; of a copy, bytes read and bytes written count."""
        to, source = self._buffer.chunk(2)
        return {
            **{
                f"{name}_gigaflops_per_second": self._num_operations / _best(partial(torch.matmul, a, b)) / 1e9
                for name, (a, b) in self._factors.items()
            },
            "read_gigabytes_per_second": self._buffer.nbytes / _best(self._buffer.sum) / 1e9,
            "copy_gigabytes_per_second": self._buffer.nbytes / _best(lambda: to.copy_(source)) / 1e9,
        }


def timed(step: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Way:
    """Return the way that takes a step and tells its ``seconds``."""

    def way() -> Figures:
        began = clock()
        step()
        return {"seconds": clock() - began}

    return way


def take_turns(ways: Mapping[Key, Way], repeats: int, ceilings: Way) -> list[Turn]:
    """Let all ways go once in every turn, in their order, after the ceilings."""
    return [Turn(ceilings(), {key: way() for key, way in ways.items()}) for _ in range(repeats)]


def told(turns: Iterable[Turn], key: Key, figure: str = "seconds") -> list[float]:
    """Return a figure of a way in each turn."""
    return [turn.figures[key][figure] for turn in turns]


def spread(values: Iterable[float]) -> Spread:
    """Sum up a figure over the turns."""
    ordered = sorted(values)
    return {"median": statistics.median(ordered), "lowest": ordered[0], "highest": ordered[-1]}


def ratio(turns: Sequence[Turn], over: Key, under: Key, figure: str = "seconds") -> Spread:
    """Sum up how many times the second way's figure the first way's is, within each turn."""
    pairs = zip(told(turns, over, figure), told(turns, under, figure), strict=True)
    return spread(above / below for above, below in pairs)


def field(name: str, form: str = "") -> Callable[[Row], str]:
    """Return what spells a field, of a `Spread` the median; nothing where a row has no such field."""

    def spell(row: Row) -> str:
        value = row.get(name, "")
        value = value["median"] if isinstance(value, dict) else value
        return format(value, form) if value != "" else ""

    return spell


def ranged(name: str, form: str) -> Callable[[Row], str]:
    """Return what spells a `Spread` with its ends."""

    def spell(row: Row) -> str:
        median, lowest, highest = (format(row[name][end], form) for end in ("median", "lowest", "highest"))
        return f"{median} ({lowest}-{highest})"

    return spell


def _best(step: Callable[[], object]) -> float:
    way = timed(step)
    return min(way()["seconds"] for _ in range(TRIES))
