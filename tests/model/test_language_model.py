"""The whole model: shapes, causality, learning under every switch, weights that come back; what each learner shares."""

from dataclasses import replace
from itertools import product
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.building import VOCAB_SIZE, build, composed, scatter_parameters, small_scale, some_tokens
from nano_llm.config.schema import (
    DepthPartial,
    DepthSource,
    InterblockTrunkConfig,
    LossAverage,
    ModelConfig,
    QueryInit,
    SingleHeadConfig,
)
from nano_llm.data.batches import Batch
from nano_llm.errors import ConfigError
from nano_llm.model.language_model import Decoder, DecoderPair, LanguageModel, TreatedDecoder, build_language_model
from nano_llm.objective import Objective

ARCHITECTURES = {
    "vanilla": ("model=vanilla",),
    "vanilla, mlp": ("model=vanilla", "model/readout=mlp"),
    "interblock": ("model=interblock",),
    "interblock, paper": ("model=interblock", "model/trunk=interblock_paper"),
    "tarnet": ("model=tarnet",),
    "tarnet, vanilla trunk": ("model=tarnet", "model/trunk=vanilla"),
    "tarnet, symmetric": ("model=tarnet_symmetric",),
    "s_plus": ("model=s_plus",),
    "s_plus, vanilla trunk": ("model=s_plus", "model/trunk=vanilla", "model.position=sinusoidal"),
    "t_learner": ("model=t_learner",),
    "t_learner, mlp": ("model=t_learner", "model/readout=mlp"),
}


@pytest.fixture(params=ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return replace(composed(*request.param).model, dropout=0.1)


def test_logits_have_one_row_for_each_outcome(config: ModelConfig) -> None:
    model = build(config, small_scale(2))
    assert model(some_tokens(2, 7)).shape == (2, 7, model.num_outcomes, VOCAB_SIZE)
    assert model.num_outcomes == (1 if isinstance(config, SingleHeadConfig) else 2)


TREATMENTS = {"mixed": [1, 0, 0, 1, 1], "all 0": [0, 0, 0], "all 1": [1]}


@pytest.mark.parametrize("treatments", TREATMENTS.values(), ids=TREATMENTS.keys())
@pytest.mark.parametrize("compiling", [False, True], ids=["eager", "of one shape"])
def test_factual_logits_are_those_of_each_windows_own_outcome(
    config: ModelConfig, treatments: list[int], compiling: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so are their gradients; whether or not rows are parted by treatment."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    model = build(config, small_scale(2), dtype=torch.float64).eval()
    scatter_parameters(model)
    treatment_B = torch.tensor(treatments)
    tokens_BT = some_tokens(len(treatments), 7)
    both_BTKV = model(tokens_BT)
    index_B = treatment_B if model.num_outcomes == 2 else torch.zeros_like(treatment_B)
    expected_BTV = both_BTKV[torch.arange(len(treatments)), :, index_B]
    found_BTKV = model(tokens_BT, treatment_B)
    assert found_BTKV.shape == (*tokens_BT.shape, 1, VOCAB_SIZE)
    torch.testing.assert_close(found_BTKV.squeeze(2), expected_BTV, rtol=0, atol=1e-12)
    weight = torch.linspace(-1, 1, VOCAB_SIZE, dtype=torch.float64)
    gradients = [
        torch.autograd.grad((logits * weight).sum(), trained, allow_unused=True, materialize_grads=True)
        for trained in [[parameter for parameter in model.parameters() if parameter.requires_grad]]
        for logits in (expected_BTV, found_BTKV)
    ]
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["model=s_plus", "model=t_learner"])
def test_factual_logits_take_one_pass_a_window(name: str) -> None:
    model = build(composed(name).model, small_scale(2))
    rows = []
    for trunk in {trunk for trunk, _ in model.passes}:
        trunk.final_norm.register_forward_hook(lambda _, given, __: rows.append(len(given[0])))
    model(some_tokens(5, 7), torch.tensor([0, 1, 1, 0, 1]))
    assert sum(rows) == 5


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
    other = build_language_model(config, small_scale(2), VOCAB_SIZE, 40).eval()
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


def test_an_unknown_model_is_refused() -> None:
    base = composed("model=vanilla").model
    config = ModelConfig("mine", base.trunk, base.position, base.dropout, base.embedding_std)
    with pytest.raises(ConfigError, match="ModelConfig is not a model"):
        build(config, small_scale(1))


# ------------------------------------------------------------------------------------------- learners


def scattered(*overrides: str) -> LanguageModel:
    model = build(composed(*overrides).model, small_scale(2), dtype=torch.float64).eval()
    scatter_parameters(model)
    return model


def twin(model: nn.Module) -> Decoder:
    """A one-head decoder on the default trunk with the weights of another model."""
    decoder = build(composed("model=interblock").model, small_scale(2), dtype=torch.float64).eval()
    decoder.load_state_dict({name: model.state_dict()[name] for name in decoder.state_dict()})
    return cast(Decoder, decoder)


def factual_gradients(model: LanguageModel, tokens: Tensor, treatment: Tensor) -> dict[str, Tensor]:
    """Gradients of the summed nats of the factual outcome, by the training objective."""
    objective = Objective(composed("model=vanilla").model, LossAverage.token)
    rows = torch.arange(len(tokens))
    batch = Batch(tokens[:, :-1], tokens[:, 1:], treatment, torch.ones_like(rows), rows, torch.full(rows.shape, 0.5))
    model.zero_grad()
    objective.terms(model(batch.inputs_BT), batch)["ce"].total.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_treatments_without_a_vector_have_equal_outcomes_which_are_the_plain_decoders() -> None:
    model, tokens = scattered("model=s_plus"), some_tokens(2, 7)
    assert isinstance(model, TreatedDecoder)
    nn.init.zeros_(model.treatment_embedding.weight)
    y0, y1 = model(tokens).unbind(2)
    assert torch.equal(y0, y1)
    assert torch.equal(y0, twin(model)(tokens).squeeze(2))


def test_the_vector_of_a_treatment_is_added_to_every_input_of_its_outcome() -> None:
    model, tokens = scattered("model=s_plus"), some_tokens(2, 7)
    assert isinstance(model, TreatedDecoder)
    outcomes = model(tokens).unbind(2)
    for outcome, vector_D in zip(outcomes, model.treatment_embedding.weight.detach(), strict=True):
        plain = twin(model)
        plain.trunk.embedding.register_forward_hook(lambda _, __, output, vector_D=vector_D: output + vector_D)
        torch.testing.assert_close(outcome, plain(tokens).squeeze(2), rtol=0, atol=1e-12)
    assert not torch.allclose(*outcomes)


def test_a_review_teaches_the_vector_of_its_own_treatment_alone() -> None:
    model, tokens = scattered("model=s_plus"), some_tokens(3, 7)
    for treatment in (0, 1):
        gradients = factual_gradients(model, tokens, torch.full((3,), treatment))
        assert gradients["treatment_embedding.weight"][treatment].any()
        assert not gradients["treatment_embedding.weight"][1 - treatment].any()


def test_each_outcome_of_a_pair_is_a_decoder_of_its_own() -> None:
    model, tokens = scattered("model=t_learner"), some_tokens(2, 7)
    assert isinstance(model, DecoderPair)
    for outcome, decoder in zip(model(tokens).unbind(2), model.decoders, strict=True):
        torch.testing.assert_close(outcome, twin(decoder)(tokens).squeeze(2), rtol=0, atol=1e-12)
    pointers = [{p.data_ptr() for p in decoder.parameters()} for decoder in model.decoders]
    assert not pointers[0] & pointers[1]


def test_a_review_teaches_the_decoder_of_its_label_alone() -> None:
    """Each decoder of a pair gets the gradients that it would get by itself from the reviews of its label."""
    model, tokens = scattered("model=t_learner"), some_tokens(5, 7)
    assert isinstance(model, DecoderPair)
    treatment = torch.tensor([1, 0, 1, 1, 0])
    mixed = factual_gradients(model, tokens, treatment)
    for label, decoder in enumerate(model.decoders):
        alone = factual_gradients(twin(decoder), tokens[treatment == label], treatment[treatment == label])
        for name, gradient in alone.items():
            torch.testing.assert_close(mixed[f"decoders.{label}.{name}"], gradient, rtol=1e-9, atol=1e-11)
            assert gradient.any()
        only = factual_gradients(model, tokens, torch.full((5,), label))
        assert not any(only[f"decoders.{1 - label}.{name}"].any() for name in alone)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("name", ["s_plus", "t_learner", "tarnet_symmetric"])
def test_learners_are_traced_in_one_graph(name: str) -> None:
    torch.compiler.reset()
    model, tokens = scattered(f"model={name}", "model/trunk=vanilla"), some_tokens(2, 7)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(tokens), model(tokens), rtol=0, atol=1e-10)
    torch.compiler.reset()
