"""Evaluations on disk: ``<name>.json`` with figures and details, ``<name>.parquet`` with a row a review beside it.

Each checkpoint and suite of a run has a folder of its own: ``evaluation`` is the quick suite on the best checkpoint,
``evaluation-full`` the full one, ``evaluation-last`` and ``evaluation-last-full`` those of the checkpoint ``last``.

{"suite": "quick", "step": 300, "data": "1a2b...", "device": "cpu",
"figures": {"cf_kl": {"value": 0.012, "low": 0.010, "high": 0.014, "n": 200, "num_clusters": 200,
"unit": "nats a token", "better": "lower", "meaning": "..."}}, "details": {...}}

The rows of reviews name theirs in the column ``review`` (`nano_llm.data.review.Review.digest`) and, where it is known,
its movie in ``movie``. ``against-<name>.json`` compares with another model on the same reviews:

{"a": {"model": "outputs/...", "suite": "quick", "step": 300, ...}, "b": {...}, "left_out": ["posterior_ece"],
"figures": {"cf_kl": {"a": 0.012, "b": 0.015, "difference": -0.003, "low": -0.004, "high": -0.002, "n": 200, ...}}}
"""

import io
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nano_llm.config.schema import Suite
from nano_llm.evaluation.comparison import Compared
from nano_llm.evaluation.measured import Measured
from nano_llm.files import explained_writes, write_bytes, write_json
from nano_llm.metrics import METRICS


def records_folder(run: Path, checkpoint: str, suite: Suite) -> Path:
    """Return where the records of an evaluation lie: none may take the place of another's.

    Args:
        run: Folder of a run.
        checkpoint: Name of one of its checkpoints, such as ``best``.
        suite: That it went through.
    """
    of_checkpoint = "" if checkpoint == "best" else f"-{checkpoint}"
    return run / f"evaluation{of_checkpoint}{'-full' if suite is Suite.full else ''}"


def write_measured(folder: Path, name: str, measured: Measured, provenance: dict[str, Any]) -> None:
    """Write a group of metrics in the place of an earlier evaluation of the same name.

    Args:
        folder: Made if it is missing.
        name: Of the group.
        measured: Its result.
        provenance: What was evaluated and how, as JSON.

    Raises:
        OutputError: The folder cannot be written.
    """
    with explained_writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not measured.rows.empty:
        rows = io.BytesIO()
        measured.rows.to_parquet(rows, index=False)
        write_bytes(folder / f"{name}.parquet", rows.getvalue())
    figures = {metric: _figure(metric, asdict(interval)) for metric, interval in measured.figures.items()}
    write_json(folder / f"{name}.json", {**provenance, "figures": figures, "details": measured.details})


def write_comparison(path: Path, compared: Mapping[str, Compared], told: dict[str, Any]) -> None:
    """Write figures of two models beside each other, in the place of an earlier record.

    Args:
        path: Of the record, in the folder of the first model's records.
        compared: By name of a metric.
        told: What was compared and how, as JSON.

    Raises:
        OutputError: It cannot be written.
    """
    figures = {}
    for metric, found in compared.items():
        difference = asdict(found.difference)
        both = {"a": found.a, "b": found.b, "difference": difference.pop("value")}
        figures[metric] = _figure(metric, both | difference)
    write_json(path, {**told, "figures": figures})


def _figure(metric: str, numbers: dict[str, float]) -> dict[str, Any]:
    meaning = METRICS[metric]
    described = {"unit": meaning.unit, "better": meaning.better.name, "meaning": meaning.meaning}
    return {key: _finite(value) for key, value in numbers.items()} | described


def _finite(value: float) -> float | None:
    """Return the number; None for one that JSON lacks."""
    return value if math.isfinite(value) else None
