"""Readouts: where logits come from, and the shape of each head."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from model.building import VOCAB_SIZE, build, composed, scatter_parameters, small_scale, some_tokens
from nano_llm.config.schema import (
    HeadConfig,
    MlpReadoutConfig,
    OneOutcomeReadoutConfig,
    SingleHeadConfig,
    SymmetricReadoutConfig,
    TwoHeadConfig,
    TwoHeadReadoutConfig,
)
from nano_llm.errors import ConfigError
from nano_llm.model.readout import (
    MlpReadout,
    Perceptron,
    SymmetricReadout,
    TiedReadout,
    TwoHeadReadout,
    build_readout,
)

EMBEDDING = torch.zeros(VOCAB_SIZE, 8)
"""For readouts that do not read it."""


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(22))


def shapes(module: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(parameter.shape) for parameter in module.parameters()]


def two_heads(
    shared: tuple[int, int | None], delta0: tuple[int, int | None], delta1: tuple[int, int | None]
) -> TwoHeadReadoutConfig:
    heads = [HeadConfig(hidden_layers=layers, hidden_width=width) for layers, width in (shared, delta0, delta1)]
    return TwoHeadReadoutConfig("two_head", 2, None, *heads)


def test_a_tied_readout_has_no_parameter_of_its_own() -> None:
    model = build(composed("model=vanilla").model, small_scale(1))
    assert not list(model.readout.parameters())
    assert not [name for name in model.state_dict() if name.startswith("readout")]


def test_a_tied_readout_follows_the_embedding_and_its_gradient_reaches_it() -> None:
    model = build(composed("model=vanilla", "model.dropout=0").model, small_scale(1))
    tokens, embedding = some_tokens(2, 5), model.trunk.embedding.weight
    model(tokens).square().sum().backward()
    unread = sorted(set(range(VOCAB_SIZE)) - set(tokens.flatten().tolist()))
    assert unread
    assert embedding.grad[unread].any(-1).all(), "tokens that are not in the input learn as outputs"
    hidden = model.trunk(tokens)
    with torch.no_grad():
        embedding[unread[0]] *= 3
    torch.testing.assert_close(model(tokens)[:, :, 0], hidden @ embedding.T)


def test_logits_of_a_perceptron_by_hand() -> None:
    """No biases, exact GELU."""
    readout = MlpReadout(MlpReadoutConfig("mlp", hidden_layers=2, hidden_width=6), 8, VOCAB_SIZE, dropout=0.0)
    hidden = drawn(2, 3, 8)
    first, second, output = readout.parameters()
    x = hidden
    for weight in (first, second):
        x = x @ weight.T
        x = x * 0.5 * (1 + torch.erf(x / 2**0.5))
    torch.testing.assert_close(readout(hidden, EMBEDDING), (x @ output.T).unsqueeze(2))


@pytest.mark.parametrize(
    ("hidden_layers", "hidden_width", "expected"),
    [
        (0, None, [(VOCAB_SIZE, 8)]),
        (0, 5, [(VOCAB_SIZE, 8)]),
        (1, None, [(8, 8), (VOCAB_SIZE, 8)]),
        (2, 5, [(5, 8), (5, 5), (VOCAB_SIZE, 5)]),
        (3, 6, [(6, 8), (6, 6), (6, 6), (VOCAB_SIZE, 6)]),
    ],
)
def test_shapes_of_a_perceptron(hidden_layers: int, hidden_width: int | None, expected: list[tuple[int, int]]) -> None:
    head = HeadConfig(hidden_layers=hidden_layers, hidden_width=hidden_width)
    perceptron = Perceptron(head, 8, VOCAB_SIZE, dropout=0.1)
    assert shapes(perceptron) == expected
    assert perceptron(drawn(2, 3, 8)).shape == (2, 3, VOCAB_SIZE)


def test_without_hidden_layers_a_perceptron_is_a_linear_map() -> None:
    perceptron = Perceptron(HeadConfig(hidden_layers=0, hidden_width=None), 8, VOCAB_SIZE, dropout=0.5)
    hidden = drawn(2, 3, 8)
    torch.testing.assert_close(perceptron(hidden), hidden @ perceptron.output.weight.T)


def test_hidden_units_are_dropped_in_training_only() -> None:
    perceptron = Perceptron(HeadConfig(hidden_layers=1, hidden_width=400), 8, VOCAB_SIZE, dropout=0.5)
    hidden = drawn(2, 3, 8)
    assert not torch.equal(perceptron(hidden), perceptron(hidden))
    perceptron.eval()
    assert torch.equal(perceptron(hidden), perceptron(hidden))


def test_each_of_two_heads_has_its_own_depth_and_width() -> None:
    readout = TwoHeadReadout(two_heads((2, None), (1, 5), (0, 7)), 8, VOCAB_SIZE, dropout=0.0)
    assert shapes(readout.shared) == [(8, 8), (8, 8), (VOCAB_SIZE, 8)]
    assert shapes(readout.deltas[0]) == [(5, 8), (VOCAB_SIZE, 5)]
    assert shapes(readout.deltas[1]) == [(VOCAB_SIZE, 8)]


def test_an_outcome_is_the_shared_logits_and_its_delta() -> None:
    readout = TwoHeadReadout(two_heads((2, None), (1, 5), (0, None)), 8, VOCAB_SIZE, dropout=0.0)
    scatter_parameters(readout)
    hidden = drawn(2, 3, 8)
    logits = readout(hidden, EMBEDDING)
    assert logits.shape == (2, 3, 2, VOCAB_SIZE)
    for outcome in (0, 1):
        torch.testing.assert_close(logits[:, :, outcome], readout.shared(hidden) + readout.deltas[outcome](hidden))


def test_both_outcomes_read_one_shared_pass_also_under_dropout() -> None:
    """Outcomes differ by their deltas alone, not by the shared perceptron's masks."""
    readout = TwoHeadReadout(two_heads((2, 50), (1, 5), (1, 5)), 8, VOCAB_SIZE, dropout=0.5)
    for delta in readout.deltas:
        nn.init.zeros_(delta.output.weight)
    y0, y1 = readout(drawn(2, 3, 8), EMBEDDING).unbind(2)
    assert torch.equal(y0, y1)


def symmetric(shared: tuple[int, int | None], delta: tuple[int, int | None], dropout: float = 0.0) -> SymmetricReadout:
    heads = [HeadConfig(hidden_layers=layers, hidden_width=width) for layers, width in (shared, delta)]
    return SymmetricReadout(SymmetricReadoutConfig("symmetric", 2, None, *heads), 8, VOCAB_SIZE, dropout)


def test_shared_logits_are_the_mean_of_symmetric_outcomes_and_the_delta_half_their_difference() -> None:
    readout, hidden = symmetric((2, None), (1, 5)), drawn(2, 3, 8)
    scatter_parameters(readout)
    y0, y1 = readout(hidden, EMBEDDING).unbind(2)
    torch.testing.assert_close((y0 + y1) / 2, readout.shared(hidden))
    torch.testing.assert_close((y1 - y0) / 2, readout.delta(hidden))
    assert shapes(readout) == [(8, 8), (8, 8), (VOCAB_SIZE, 8), (5, 8), (VOCAB_SIZE, 5)]


def test_symmetric_outcomes_are_two_heads_with_opposite_deltas() -> None:
    readout, hidden = symmetric((2, None), (1, 5)), drawn(2, 3, 8)
    scatter_parameters(readout)
    free = TwoHeadReadout(two_heads((2, None), (1, 5), (1, 5)), 8, VOCAB_SIZE, dropout=0.0)
    free.shared.load_state_dict(readout.shared.state_dict())
    for delta in free.deltas:
        delta.load_state_dict(readout.delta.state_dict())
    with torch.no_grad():
        free.deltas[0].output.weight.neg_()
    torch.testing.assert_close(readout(hidden, EMBEDDING), free(hidden, EMBEDDING))


def test_symmetric_outcomes_stay_symmetric_under_dropout() -> None:
    """The shared perceptron and the delta are dropped out once, not once an outcome."""
    readout = symmetric((2, 50), (1, 50), dropout=0.5)
    nn.init.zeros_(readout.shared.output.weight)
    y0, y1 = readout(drawn(2, 3, 8), EMBEDDING).unbind(2)
    assert torch.equal(y0, -y1)
    assert y1.any()


def test_widths_and_depths_follow_the_config() -> None:
    config = composed("model=tarnet", "model.readout.hidden_width=6", "model.readout.delta1.hidden_layers=0").model
    assert isinstance(config, TwoHeadConfig)
    readout = build_readout(config, 8, VOCAB_SIZE)
    assert isinstance(readout, TwoHeadReadout)
    assert shapes(readout.shared) == shapes(readout.deltas[0]) == [(6, 8), (6, 6), (VOCAB_SIZE, 6)]
    assert shapes(readout.deltas[1]) == [(VOCAB_SIZE, 8)]


@pytest.mark.parametrize(
    ("overrides", "kind", "num_outcomes"),
    [
        (("model=vanilla",), TiedReadout, 1),
        (("model=vanilla", "model/readout=mlp"), MlpReadout, 1),
        (("model=tarnet",), TwoHeadReadout, 2),
        (("model=tarnet_symmetric",), SymmetricReadout, 2),
        (("model=s_plus",), TiedReadout, 1),
        (("model=t_learner", "model/readout=mlp"), MlpReadout, 1),
    ],
)
def test_the_config_names_the_readout(overrides: tuple[str, ...], kind: type, num_outcomes: int) -> None:
    readout = build_readout(composed(*overrides).model, 8, VOCAB_SIZE)
    assert type(readout) is kind
    assert readout.num_outcomes == num_outcomes


def test_an_unknown_readout_is_refused() -> None:
    config = composed("model=vanilla").model
    assert isinstance(config, SingleHeadConfig)
    with pytest.raises(ConfigError, match="OneOutcomeReadoutConfig is not a readout"):
        build_readout(replace(config, readout=OneOutcomeReadoutConfig(name="mine")), 8, VOCAB_SIZE)
