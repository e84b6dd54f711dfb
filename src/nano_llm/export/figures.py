"""What a checkpoint was measured at, from the records that evaluations have left."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nano_llm.errors import OutputError
from nano_llm.metrics import Better, Metric


@dataclass(frozen=True)
class Figure:
    """A figure as a table shows it."""

    title: str
    value: str
    interval: str
    """At 95 %; a dash where there is none."""
    n: str
    is_clustered: bool
    """Whether the interval is over movies rather than reviews."""
    unit: str
    meaning: str
    suite: str


def read_figures(folders: Iterable[Path], step: int | None) -> list[Figure]:
    """Return the figures of a checkpoint, those of a later folder in the place of the same ones of an earlier one.

    Args:
        folders: Of records (`nano_llm.evaluation.records`); those that do not exist have none. JSON files in them that
            name no suite or no figures, such as comparisons, are passed over.
        step: Of the checkpoint; records of another one are not its own.

    Raises:
        OutputError: A record is damaged.
    """
    figures: dict[str, Figure] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.json")):
            try:
                figures |= _figures_in(path, step)
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                raise OutputError(
                    f"{path} is a damaged record of an evaluation ({type(error).__name__}: {error}). Evaluate again "
                    "with `nano-llm evaluate`, which replaces it, or move it away."
                ) from error
    return list(figures.values())


def _figures_in(path: Path, step: int | None) -> dict[str, Figure]:
    """Return the figures of a record by their names; none of a file that is no record, or one of another step."""
    record = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict) or not {"suite", "figures"} <= record.keys() or record["step"] != step:
        return {}
    told = {name: figure for name, figure in record["figures"].items() if figure["value"] is not None}
    return {name: _figure(name, figure, str(record["suite"])) for name, figure in told.items()}


def _figure(name: str, told: dict[str, Any], suite: str) -> Figure:
    metric = Metric(told["unit"], Better[told["better"]], told["meaning"])
    low, high = told["low"], told["high"]
    return Figure(
        title=metric.title(name),
        value=f"{told['value']:.4f}",
        interval="-" if low is None or high is None else f"[{low:.4f}, {high:.4f}]",
        n=f"{told['n']:,}",
        is_clustered=told["num_clusters"] < told["n"],
        unit=_cell(metric.unit),
        meaning=_cell(metric.meaning),
        suite=suite,
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
