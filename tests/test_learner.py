"""A compiled run: which graph each batch goes through, and the same curve as without the compiler."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny_run import Killed, Run, kill_after, metrics, only_run

pytestmark = pytest.mark.filterwarnings("ignore")  # the compiler's own

TWO_RAGGED_EPOCHS = ("trainer.max_steps=16", "model.dropout=0", "optimizer=adamw", "trainer.compile=true")
"""Seven batches of 8 windows and one of 4, twice; validations after 5, 10, 15 and 16 steps.

AdamW, for what Muon rounds to bf16 parts two curves."""


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_full_and_last_batches_have_a_graph_each_and_validations_none(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[int] = []
    calls: list[int] = []

    def counting(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        assert not [each for each in inputs if isinstance(each, torch.SymInt)]
        (rows,) = {len(each) for each in inputs if isinstance(each, Tensor) and each.dtype == torch.int64}
        graphs.append(rows)

        def called(*given: Any) -> Any:
            calls.append(rows)
            return graph.forward(*given)

        return called

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counting))
    assert run(*TWO_RAGGED_EPOCHS) is not None
    assert graphs == [8, 4]
    assert calls == ([8] * 7 + [4]) * 2


@pytest.mark.slow
def test_a_compiled_run_that_was_killed_has_the_curve_of_a_plain_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies in the second epoch; up to two steps are taken again."""
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("torch.compile needs a C++ compiler")
    run(*TWO_RAGGED_EPOCHS, "trainer.compile=false", outputs="plain")
    often = "trainer.checkpoint_minutes=0"
    with monkeypatch.context() as faulty:
        kill_after(9, faulty)
        with pytest.raises(Killed):
            run(*TWO_RAGGED_EPOCHS, often, outputs="compiled")
    assert run(*TWO_RAGGED_EPOCHS, often, outputs="compiled") is not None
    plain, compiled = (metrics(only_run(tmp_path / name)) for name in ("plain", "compiled"))
    assert len(plain) == 8 + 4
    for row, other in zip(plain, compiled, strict=True):
        assert other.pop("split") == row.pop("split")
        assert other == pytest.approx(row, rel=1e-3)
