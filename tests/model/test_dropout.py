"""Dropout: the rate, the mean, the gradient, and masks that follow PyTorch's generator."""

import pytest
import torch
from torch import Tensor

from nano_llm.model.dropout import (
    Dropout,
    ReluDropoutLinear,
    draw_keep_mask,
    keep_scale,
    num_dropped_levels,
)
from nano_llm.model.layers import FeedForward

RATES = [0.0001, 0.02, 0.1, 0.5, 0.9, 0.9999]


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(10), dtype=dtype)


# -------------------------------------------------------------------------------------------- the mask


@pytest.mark.parametrize("rate", RATES)
def test_share_of_dropped_flags_is_the_rate(rate: float) -> None:
    torch.manual_seed(11)
    keep = draw_keep_mask((1000, 1000), rate)
    assert set(keep.unique().tolist()) <= {0, 1}
    assert keep.dtype is torch.int8
    tolerance = 5 * (rate * (1 - rate) / 1e6) ** 0.5 + 0.5 / 65536  # chance, and the rounding of the rate
    assert 1 - keep.double().mean().item() == pytest.approx(rate, abs=tolerance)


@pytest.mark.parametrize("rate", RATES)
def test_the_scale_keeps_the_mean(rate: float) -> None:
    """Exactly: the rounded rate is what is scaled for."""
    kept_share = 1 - num_dropped_levels(rate) / 65536
    assert kept_share * keep_scale(rate) == pytest.approx(1, abs=1e-12)
    assert num_dropped_levels(rate) / 65536 == pytest.approx(rate, abs=0.5 / 65536)


def test_extreme_rates() -> None:
    assert draw_keep_mask((100,), 0.0).all()
    assert num_dropped_levels(1 - 1e-9) == 65535, "a rate below 1 keeps something"


def test_the_four_flags_of_a_word_are_independent() -> None:
    """Flags are cut out of 64-bit words: each place has the rate, and places do not know each other."""
    torch.manual_seed(12)
    dropped = 1 - draw_keep_mask((400_000, 4), 0.25).double()
    torch.testing.assert_close(dropped.mean(0), torch.full((4,), 0.25, dtype=torch.float64), rtol=0, atol=4e-3)
    correlation = torch.corrcoef(dropped.T) - torch.eye(4)
    assert correlation.abs().max() < 8e-3  # five standard errors
    following = torch.corrcoef(torch.stack((dropped[:-1].flatten(), dropped[1:].flatten())))[0, 1]
    assert abs(following) < 4e-3


@pytest.mark.parametrize("shape", [(1,), (5,), (3, 7), (2, 3, 11), (0, 4)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    assert draw_keep_mask(shape, 0.5).shape == shape


def test_masks_follow_the_generator() -> None:
    torch.manual_seed(13)
    first, second = draw_keep_mask((64, 65), 0.5), draw_keep_mask((64, 65), 0.5)
    torch.manual_seed(13)
    assert torch.equal(draw_keep_mask((64, 65), 0.5), first)
    state = torch.get_rng_state()
    assert torch.equal(draw_keep_mask((64, 65), 0.5), second)
    torch.set_rng_state(state)
    assert torch.equal(draw_keep_mask((64, 65), 0.5), second)
    torch.manual_seed(14)
    assert not torch.equal(draw_keep_mask((64, 65), 0.5), first)


# ------------------------------------------------------------------------------------------ the module


def test_outputs_are_zero_or_scaled_and_the_gradient_uses_the_same_mask() -> None:
    torch.manual_seed(15)
    x = torch.ones(200, 333, requires_grad=True)
    y = Dropout(0.3)(x)
    y.backward(torch.full_like(y, 2.0))
    assert y.detach().unique().tolist() == [0.0, pytest.approx(keep_scale(0.3))]
    torch.testing.assert_close(x.grad, 2 * y.detach())
    assert y.mean().item() == pytest.approx(1, abs=0.02)


def test_dropout_leaves_its_input_alone() -> None:
    x = drawn(4, 5)
    Dropout(0.5)(x)
    assert torch.equal(x, drawn(4, 5))


def test_same_state_same_mask() -> None:
    dropout, x = Dropout(0.5), drawn(8, 31)
    state = torch.get_rng_state()
    first, second = dropout(x), dropout(x)
    torch.set_rng_state(state)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(second, first)


@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.0, True), (0.0, False)])
def test_without_training_or_without_a_rate_nothing_happens(rate: float, training: bool) -> None:
    dropout, x = Dropout(rate).train(training), drawn(8, 31)
    state = torch.get_rng_state()
    assert torch.equal(dropout(x), x)
    assert torch.equal(torch.get_rng_state(), state)


def test_half_precision_keeps_its_type() -> None:
    x = drawn(40, 50).bfloat16().requires_grad_()
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert y.dtype is x.grad.dtype is torch.bfloat16
    assert torch.equal(y != 0, x.grad != 0)


def test_inside_the_compiler_pytorchs_own_dropout_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.manual_seed(16)
    ours = Dropout(0.3)(drawn(9, 9))
    torch.manual_seed(16)
    assert torch.equal(ours, torch.nn.functional.dropout(drawn(9, 9), 0.3))


# ----------------------------------------------------------------------- rectified, dropped, projected


def linear_of(rate: float, fan_in: int = 13) -> ReluDropoutLinear:
    torch.manual_seed(17)
    return ReluDropoutLinear(fan_in, 5, rate).double()


@pytest.mark.parametrize("shape", [(1, 13), (6, 13), (2, 3, 13)])
def test_rectified_dropped_out_and_projected(shape: tuple[int, ...]) -> None:
    """Values and gradients of the composition, with the mask that the same state draws."""
    rate = 0.3
    linear, x = linear_of(rate), drawn(*shape, dtype=torch.float64).requires_grad_()
    torch.manual_seed(18)
    y = linear(x * 1)  # the input may be overwritten
    torch.manual_seed(18)
    keep = draw_keep_mask(x.reshape(-1, 13).shape, rate).view(shape)
    expected = (x.clamp(min=0) * keep * keep_scale(rate)) @ linear.weight.T + linear.bias
    assert y.shape == (*shape[:-1], 5)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    direction = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).view_as(y)
    inputs = [x, linear.weight, linear.bias]
    ours = torch.autograd.grad((y * direction).sum(), inputs)
    theirs = torch.autograd.grad((expected * direction).sum(), inputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.0, True)])
def test_without_dropout_it_is_a_linear_map_of_the_rectified(rate: float, training: bool) -> None:
    linear, x = linear_of(rate).train(training), drawn(2, 3, 13, dtype=torch.float64)
    state = torch.get_rng_state()
    y = linear(x.clone())
    torch.testing.assert_close(y, torch.nn.functional.linear(x.relu(), linear.weight, linear.bias))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_feed_forward_drops_hidden_and_output_units() -> None:
    torch.manual_seed(19)
    block, x = FeedForward(6, 10, 0.4).double(), drawn(2, 3, 6, dtype=torch.float64).requires_grad_()
    torch.manual_seed(20)
    y = block(x)
    torch.manual_seed(20)
    hidden_keep, output_keep = draw_keep_mask((6, 10), 0.4).view(2, 3, 10), draw_keep_mask((2, 3, 6), 0.4)
    hidden = block.up(x).relu() * hidden_keep * keep_scale(0.4)
    expected = (hidden @ block.down.weight.T + block.down.bias) * output_keep * keep_scale(0.4)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    parameters = [x, *block.parameters()]
    ours = torch.autograd.grad(y.square().sum(), parameters)
    theirs = torch.autograd.grad(expected.square().sum(), parameters)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_feed_forward_under_autocast_has_finite_gradients_near_fp32() -> None:
    torch.manual_seed(19)
    block, x = FeedForward(32, 64, 0.1), drawn(2, 30, 32)
    results = []
    for enabled in (False, True):
        block.zero_grad()
        torch.manual_seed(20)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            y = block(x)
        assert y.dtype is (torch.bfloat16 if enabled else torch.float32)
        y.float().square().sum().backward()
        results.append([y.detach().float(), *(p.grad.clone() for p in block.parameters())])
    for exact, half in zip(*results, strict=True):
        assert (half - exact).norm() <= 4e-2 * exact.norm()
