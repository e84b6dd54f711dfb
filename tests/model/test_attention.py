"""Causal attention, and what dropout does to its probabilities."""

import pytest
import torch
from torch import Tensor

from model import oracle
from nano_llm.model.attention import Attention, attend, draw_keep_blocks, query_blocks
from nano_llm.model.dropout import keep_scale
from nano_llm.model.positions import RotaryPositions

LENGTHS = [1, 2, 7, 64, 127, 128, 129, 200, 257]


def heads(num_windows: int, num_heads: int, num_positions: int, width: int = 4) -> list[Tensor]:
    """Queries, keys and values, laid out in memory as the projection leaves them."""
    generator = torch.Generator().manual_seed(num_positions)
    shape = (num_windows, num_positions, 3, num_heads, width)
    joined = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return [part.transpose(1, 2).requires_grad_() for part in joined.unbind(2)]


def values_and_gradients(mixed: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    direction = torch.linspace(-1, 2, mixed.numel(), dtype=torch.float64).view(mixed.shape)
    return mixed.detach(), *torch.autograd.grad((mixed * direction).sum(), inputs)


def drawn_factors(num_windows: int, num_heads: int, num_positions: int, rate: float) -> Tensor:
    """0 or 1 / (kept share) for each probability (B, H, T, T), as the next call of ``attend`` will draw them."""
    keeps = draw_keep_blocks(num_windows * num_heads, num_positions, rate)
    factors = torch.full((num_windows, num_heads, num_positions, num_positions), torch.nan, dtype=torch.float64)
    for (start, end), keep in zip(query_blocks(num_positions), keeps, strict=True):
        factors[:, :, start:end, :end] = keep.view(num_windows, num_heads, end - start, end).double() * keep_scale(rate)
    future = torch.ones(num_positions, num_positions, dtype=torch.bool).triu(1)
    assert not factors[:, :, ~future].isnan().any(), "every probability has its factor"
    return factors.masked_fill(future, 0.0)


@pytest.mark.parametrize("num_positions", LENGTHS)
def test_without_dropout_it_is_softmax_attention(num_positions: int) -> None:
    inputs = heads(2, 2, num_positions)
    ours = values_and_gradients(attend(*inputs, dropout=0.0), inputs)
    theirs = values_and_gradients(oracle.attention(*inputs), inputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("num_windows", "num_heads", "num_positions"), [(2, 2, length) for length in LENGTHS] + [(3, 7, 128), (5, 11, 129)]
)
def test_with_dropout_it_is_softmax_attention_with_those_probabilities_dropped(
    num_windows: int, num_heads: int, num_positions: int
) -> None:
    inputs = heads(num_windows, num_heads, num_positions)
    torch.manual_seed(6)
    ours = values_and_gradients(attend(*inputs, dropout=0.3), inputs)
    torch.manual_seed(6)
    factors = drawn_factors(num_windows, num_heads, num_positions, 0.3)
    theirs = values_and_gradients(oracle.attention(*inputs, factors), inputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_the_share_of_dropped_probabilities_is_the_rate() -> None:
    torch.manual_seed(7)
    factors = drawn_factors(4, 4, 200, 0.3)
    visible = factors[:, :, torch.ones(200, 200, dtype=torch.bool).tril()]
    assert (visible == 0).double().mean().item() == pytest.approx(0.3, abs=0.005)  # 3.6 standard errors at most
    assert visible.mean().item() == pytest.approx(1.0, abs=0.01)


def test_single_precision_stays_near_the_exact_values() -> None:
    exact_inputs = heads(2, 2, 130, width=16)
    inputs = [x.detach().float().requires_grad_() for x in exact_inputs]
    torch.manual_seed(6)
    mixed = attend(*inputs, dropout=0.1)
    grads = torch.autograd.grad(mixed.sum(), inputs)
    torch.manual_seed(6)
    exact = oracle.attention(*exact_inputs, drawn_factors(2, 2, 130, 0.1))
    exact_grads = torch.autograd.grad(exact.sum(), exact_inputs)
    assert (mixed - exact).abs().max() <= 1e-5
    for grad, exact_grad in zip(grads, exact_grads, strict=True):
        assert (grad - exact_grad).norm() <= 1e-5 * exact_grad.norm()


def test_large_scores_stay_finite() -> None:
    inputs = [100 * x.detach() for x in heads(1, 2, 130)]
    for x in inputs:
        x.requires_grad_()
    for result in values_and_gradients(attend(*inputs, dropout=0.1), inputs):
        assert result.isfinite().all()


# ------------------------------------------------------------------------------------------ the module


def attention_of(dropout: float) -> Attention:
    torch.manual_seed(8)
    return Attention(16, 2, dropout, RotaryPositions(8, 300))


@pytest.mark.parametrize("num_positions", [1, 9, 150])
def test_dropout_follows_the_generator_and_ends_with_training(num_positions: int) -> None:
    attention = attention_of(0.5)
    hidden = torch.randn(2, num_positions, 16)
    state = torch.get_rng_state()
    first, second = attention(hidden), attention(hidden)
    torch.set_rng_state(state)
    assert torch.equal(attention(hidden), first)
    assert not torch.equal(second, first)
    attention.eval()
    state = torch.get_rng_state()
    without = attention(hidden)
    assert torch.equal(torch.get_rng_state(), state), "nothing is drawn"
    torch.testing.assert_close(without, attention_of(0.0)(hidden))


def test_gradients_reach_every_parameter_and_the_input() -> None:
    attention = attention_of(0.1)
    hidden = torch.randn(2, 140, 16, requires_grad=True)
    attention(hidden).square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in attention.parameters())
    assert hidden.grad.any()


def test_autocast_keeps_gradients_finite() -> None:
    attention = attention_of(0.1)
    hidden = torch.randn(2, 140, 16, requires_grad=True)
    torch.manual_seed(9)
    exact = attention(hidden).detach()
    torch.manual_seed(9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = attention(hidden)
    mixed.float().square().sum().backward()
    assert hidden.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in attention.parameters())
    assert (mixed - exact).norm() <= 2e-2 * exact.norm()


def test_later_tokens_are_projected_as_within_the_whole() -> None:
    attention, hidden = attention_of(0.0), torch.randn(2, 20, 16)
    position_BT = torch.arange(12, 20).expand(2, -1)
    parts = attention.project(hidden[:, 12:], position_BT)
    for whole, part in zip(attention.project(hidden), parts, strict=True):
        torch.testing.assert_close(part, whole[:, :, 12:], rtol=0, atol=1e-6)


def test_rows_of_the_projection_are_queries_keys_and_values() -> None:
    attention, hidden = attention_of(0.0), torch.randn(1, 1, 16)  # position 0 is not turned
    projected = torch.stack([x[0, :, 0].flatten() for x in attention.project(hidden)])
    weight, bias = attention.query_key_value.weight, attention.query_key_value.bias
    torch.testing.assert_close(projected.flatten(), weight @ hidden[0, 0] + bias)
