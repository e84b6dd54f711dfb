"""A run of a second: what tests of whole runs share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

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

TIMES = {"training_seconds", "tokens_per_second"}

Run = Callable[..., dict[str, Any] | None]


def only_run(outputs: Path) -> Path:
    """Return the one run folder below an outputs folder."""
    (found,) = outputs.glob("*/*/seed-*")
    return found


def metrics(run_folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics without what the clock says."""
    rows = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def weights(run_folder: Path, which: str = "last") -> dict[str, torch.Tensor]:
    """Return the weights of a run's checkpoint."""
    return load_file(run_folder / "checkpoints" / which / "model.safetensors")


def assert_equal_runs(one: Path, other: Path) -> None:
    """Compare two runs bit for bit: their metrics, their last and their best weights."""
    assert metrics(one) == metrics(other)
    for which in ("last", "best"):
        first, second = weights(one, which), weights(other, which)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


class Killed(BaseException):
    """Stands for a kill -9: nothing of ours may catch it."""


def kill_after(cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make runs save no `last` after a step, and die at their first log row beyond it."""
    from nano_llm.session import Session

    saves, rows = Session.on_save, Session.on_step

    def save(self: Session, state: Any) -> None:
        if state.spent.steps <= cut:
            saves(self, state)

    def kill(self: Session, state: Any, row: Any, share: float) -> None:
        rows(self, state, row, share)
        if state.spent.steps > cut:
            raise Killed

    monkeypatch.setattr(Session, "on_save", save)
    monkeypatch.setattr(Session, "on_step", kill)


def damage(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
