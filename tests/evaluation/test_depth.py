"""Mean depth weights: the law of the softmax, the targets that count, the names."""

import numpy as np
import pytest
import torch

from model.building import build, composed, scatter_parameters, small_scale
from nano_llm.config.schema import Precision
from nano_llm.data.windows import Windows
from nano_llm.errors import RequestError
from nano_llm.evaluation.depth import depth_profile
from nano_llm.model.language_model import LanguageModel
from nano_llm.training.machine import Machine

CPU = Machine(torch.device("cpu"), Precision.fp32)
TOKENS = [[1, 2, 3, 4, 5, 6], [1, 7, 8, 9, 10, 11]]
PROMPT = 3
"""Tokens of the prompt: the targets after them are at positions 2, 3 and 4."""


def windows(prompt_length: int = PROMPT) -> Windows:
    return Windows(
        tokens_WL=np.array(TOKENS, np.uint16),
        length_W=np.full(2, 6, np.int32),
        first_target_W=np.ones(2, np.int32),
        prompt_length_W=np.full(2, prompt_length, np.int32),
        review_W=np.arange(2, dtype=np.int32),
        treatment_W=np.array([0, 1], np.uint8),
        propensity_W=np.full(2, 0.5, np.float32),
    )


def model(*overrides: str, num_layers: int = 3) -> LanguageModel:
    made = build(composed(*overrides, "model.dropout=0").model, small_scale(num_layers)).eval()
    scatter_parameters(made)
    return made


def test_zero_queries_read_every_source_alike() -> None:
    paper = model("model=interblock", "model/trunk=interblock_paper")
    with torch.no_grad():
        for query in paper.passes[0][0].mixing.queries:
            query.zero_()
    profile = depth_profile(paper, windows(), CPU, batch_size=1)
    sources, sublayers = profile.names
    assert sources == ["embedding", "block 1", "open block"]
    assert sublayers == [f"{i} {kind}" for i in (1, 2, 3) for kind in ("attention", "feed-forward")] + ["final"]
    half, third, unread = 1 / 2, 1 / 3, np.nan
    expected = [
        [1, half, half, half, half, third, third],
        [unread, unread, unread, unread, half, third, third],
        [unread, half, half, half, unread, third, third],
    ]
    np.testing.assert_allclose(profile.weights_SM, expected, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_weights_are_means_over_review_targets(batch_size: int) -> None:
    interblock = model("model=tarnet")
    heard: dict[int, torch.Tensor] = {}
    with torch.inference_mode(), interblock.passes[0][0].mixing.heard(heard.__setitem__):
        interblock(torch.tensor(TOKENS)[:, :-1])
    profile = depth_profile(interblock, windows(), CPU, batch_size=batch_size)
    read = profile.weights_SM[:, 5][~np.isnan(profile.weights_SM[:, 5])]
    np.testing.assert_allclose(read, heard[5][:, :, PROMPT - 1 :].mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(np.nansum(profile.weights_SM, axis=0), 1)


def test_a_capped_trunk_no_longer_reads_what_it_has_dropped() -> None:
    capped = model("model=tarnet", "model.trunk.macro_block_size=1", "model.trunk.max_block_representations=2")
    weights_SM = depth_profile(capped, windows(), CPU, batch_size=2).weights_SM
    assert [np.flatnonzero(~np.isnan(column)).tolist() for column in weights_SM.T] == [
        [0], [0, 3], [0, 1], [0, 1, 3], [0, 2], [0, 2, 3],
    ]  # fmt: skip


def test_no_logits_are_computed() -> None:
    interblock = model("model=tarnet")
    calls: list[object] = []
    interblock.passes[0][1].register_forward_hook(lambda *given: calls.append(given))
    depth_profile(interblock, windows(), CPU, batch_size=2)
    assert not calls


def test_windows_without_a_target_in_a_review_are_refused() -> None:
    with pytest.raises(RequestError, match="no window of the chosen reviews has one, of 2 in all: take more"):
        depth_profile(model("model=tarnet"), windows(prompt_length=len(TOKENS[0])), CPU, batch_size=2)


@pytest.mark.parametrize(("overrides", "told"), [(("model=vanilla",), "has another"), (("model=t_learner",), "two")])
def test_other_models_are_refused(overrides: tuple[str, ...], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        depth_profile(model(*overrides), windows(), CPU, batch_size=2)
