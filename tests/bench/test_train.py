"""Every model and peer has a row in every precision that is worth one; times are never asserted."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from nano_llm.bench import train
from nano_llm.bench.gpt2 import build_gpt2
from nano_llm.bench.harness import Way
from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Precision

MODELS = ["vanilla", "interblock", "tarnet", "tarnet, no separation", "s_plus", "t_learner", "gpt2", "plain"]


def test_every_model_has_finite_figures_in_both_precisions(
    machine: Way, fake_gpt2: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "build_gpt2", fake_gpt2)
    monkeypatch.setattr(train, "ROWS", 2)
    measured = train.measure(["tiny"], 1, machine)
    assert [row["model"] for row in measured.rows] == MODELS * 2
    assert [row["precision"] for row in measured.rows] == ["fp32"] * len(MODELS) + ["bf16"] * len(MODELS)
    spreads = [value for row in measured.rows for value in row.values() if isinstance(value, dict)]
    assert all(math.isfinite(value) and value > 0 for figure in spreads for value in figure.values())
    of = {(row["model"], row["precision"]): row for row in measured.rows}
    for precision in ("fp32", "bf16"):
        assert of["gpt2", precision]["speed_over_gpt2"]["median"] == 1
        assert of["plain", precision]["speed_over_plain"]["median"] == 1
        assert of["vanilla", precision]["step_over_vanilla"]["median"] == 1
    assert "speed_over_fp32" not in of["tarnet", "fp32"]
    assert "speed_over_fp32" in of["tarnet", "bf16"]
    assert "share_of_product" in of["tarnet", "fp32"]
    assert "share_of_product" not in of["tarnet, no separation", "fp32"]
    assert len(measured.table().splitlines()) == 2 + 2 * len(MODELS)


@pytest.mark.parametrize(
    ("bf16", "expected"),
    [(200.0, [Precision.fp32, Precision.bf16]), (100.0, [Precision.fp32]), (3.0, [Precision.fp32])],
)
def test_bf16_is_measured_where_its_products_are_faster(bf16: float, expected: list[Precision]) -> None:
    ceilings = {"fp32_gigaflops_per_second": 100.0, "bf16_gigaflops_per_second": bf16}
    assert train.precisions_of(ceilings) == expected


@pytest.mark.parametrize(("model", "is_known"), [("vanilla", True), ("tarnet", True), ("s_plus", False)])
def test_the_work_of_a_step_is_known_where_a_model_computes_all_that_it_has(model: str, is_known: bool) -> None:
    step = train.our_step([*train.OURS[model], "scale=tiny"], Precision.fp32)
    assert (step.flops is not None) == is_known


@pytest.mark.parametrize("name", ["tiny", "nano"])
def test_gpt2_has_the_dimensions_of_a_scale(name: str) -> None:
    pytest.importorskip("transformers")
    scale = compose_config([f"scale={name}"]).scale
    model: Any = build_gpt2(scale, train.VOCAB_SIZE, train.WINDOW, train.DROPOUT)
    ours = train.PlainDecoder(scale, train.VOCAB_SIZE, train.WINDOW, train.DROPOUT)
    assert sum(weight.numel() for weight in model.parameters()) == sum(weight.numel() for weight in ours.parameters())
    tokens = train.random_tokens()[:1]
    assert torch.isfinite(model(input_ids=tokens, labels=tokens).loss)
