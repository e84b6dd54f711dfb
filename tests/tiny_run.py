"""A run of a second: what tests of whole runs share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

TINY_RUN = (
    "data=scm",
    "optimizer=muon",
    "data.num_train=60",
    "data.num_validation=12",
    "data.num_test=12",
    "data.num_pairs=7",
    "scale=tiny",
    "model.dropout=0.1",
    "trainer.batch_size=8",
    "trainer.max_epochs=null",
    "trainer.max_steps=12",
    "trainer.eval_every=5",
    "trainer.log_every=2",
    "trainer.device=cpu",
    "trainer.evaluation=none",
    "schedule.warmup_steps=3",
)
"""Overrides of a run that takes a second: 8 steps an epoch, dropout on, validation inside and after epochs."""

Run = Callable[..., dict[str, Any] | None]


def only_run(outputs: Path) -> Path:
    """Return the one run folder below an outputs folder."""
    (found,) = outputs.glob("*/*/seed-*")
    return found
