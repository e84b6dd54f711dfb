"""The whole model: shapes, causality, learning under every switch, and weights that come back."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch.nn import functional as F

from model.building import VOCAB_SIZE, build, composed, scatter_parameters, small_scale, some_tokens
from nano_llm.config.schema import DepthPartial, DepthSource, InterblockTrunkConfig, ModelConfig, QueryInit
from nano_llm.model.language_model import LanguageModel

ARCHITECTURES = {
    "vanilla": ("model=vanilla",),
    "vanilla, mlp": ("model=vanilla", "model/readout=mlp"),
    "interblock": ("model=interblock",),
    "interblock, paper": ("model=interblock", "model/trunk=interblock_paper"),
    "tarnet": ("model=tarnet",),
    "tarnet, vanilla trunk": ("model=tarnet", "model/trunk=vanilla"),
}


@pytest.fixture(params=ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return replace(composed(*request.param).model, dropout=0.1)


def test_logits_have_one_row_for_each_outcome(config: ModelConfig) -> None:
    model = build(config, small_scale(2))
    assert model(some_tokens(2, 7)).shape == (2, 7, model.num_outcomes, VOCAB_SIZE)
    assert model.num_outcomes == (2 if config.name == "tarnet" else 1)


def test_future_tokens_do_not_change_earlier_logits(config: ModelConfig) -> None:
    model = build(config, small_scale(2), dtype=torch.float64).eval()
    scatter_parameters(model)
    tokens = some_tokens(2, 9)
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % VOCAB_SIZE
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(after[:, :5], before[:, :5], rtol=0, atol=1e-12)
    assert ((after - before)[:, 5:].abs().amax((-1, -2)) > 1e-6).all()


def test_a_shorter_window_has_the_same_logits(config: ModelConfig) -> None:
    model = build(config, small_scale(2), dtype=torch.float64).eval()
    tokens = some_tokens(2, 9)
    torch.testing.assert_close(model(tokens[:, :4]), model(tokens)[:, :4], rtol=0, atol=1e-12)


def test_saved_weights_give_the_same_logits_in_another_model(config: ModelConfig) -> None:
    model = build(config, small_scale(2)).eval()
    scatter_parameters(model)
    other = LanguageModel(config, small_scale(2), VOCAB_SIZE, 40).eval()
    other.load_state_dict(model.state_dict())
    tokens = some_tokens(2, 7)
    assert torch.equal(other(tokens), model(tokens))


def test_checkpoints_hold_parameters_only(config: ModelConfig) -> None:
    model = build(config, small_scale(2))
    assert model.state_dict().keys() == dict(model.named_parameters()).keys()


def test_dropout_follows_the_generator_and_ends_with_training(config: ModelConfig) -> None:
    model, tokens = build(config, small_scale(2)), some_tokens(2, 7)
    state = torch.get_rng_state()
    first, second = model(tokens), model(tokens)
    torch.set_rng_state(state)
    assert torch.equal(model(tokens), first)
    assert not torch.equal(second, first)
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


SWITCHES = list(product(DepthSource, DepthPartial, QueryInit, [False, True]))


@pytest.mark.parametrize(
    ("source", "partial", "query_init", "final_mix"),
    SWITCHES,
    ids=["-".join(str(getattr(x, "name", x)) for x in switches) for switches in SWITCHES],
)
def test_every_switch_of_depth_mixing_learns(
    source: DepthSource, partial: DepthPartial, query_init: QueryInit, final_mix: bool
) -> None:
    base = composed("model=interblock").model
    assert isinstance(base.trunk, InterblockTrunkConfig)
    trunk = replace(base.trunk, source=source, partial=partial, query_init=query_init, final_mix=final_mix)
    assert_learns(replace(base, trunk=trunk, dropout=0.1))


def test_every_architecture_learns(config: ModelConfig) -> None:
    assert_learns(config)


def assert_learns(config: ModelConfig) -> None:
    """Twenty steps on one batch, each outcome asked for other tokens, take a fifth off the loss at least."""
    model = build(config, small_scale(3, d_model=16, d_ff=24))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    tokens = some_tokens(4, 11)
    targets = torch.stack([(tokens[:, 1:] + k) % VOCAB_SIZE for k in range(model.num_outcomes)], dim=2)
    losses = []
    for _ in range(20):
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 2), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
