"""Positions: rotations that only distances survive, and waves of known values."""

import math

import pytest
import torch

from model import oracle
from nano_llm.model.positions import RotaryPositions, SinusoidalPositions


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(21))


def test_scores_depend_on_the_distance_only() -> None:
    rotary, query, key = RotaryPositions(16, 600), drawn(16), drawn(16) * 2
    queries, keys = (rotary.rotate(x.expand(1, 1, 600, 16))[0, 0].double() for x in (query, key))
    scores = queries @ keys.T
    for distance in (0, 1, 7, 300):
        same_distance = scores.diagonal(-distance)
        torch.testing.assert_close(same_distance, same_distance[0].expand_as(same_distance), rtol=0, atol=2e-4)
    assert (scores[0] - scores[0, 0]).abs().max() > 1, "and they do depend on it"


def test_rotations_keep_norms_and_the_first_position() -> None:
    rotary, heads = RotaryPositions(16, 50), drawn(2, 3, 50, 16)
    turned = rotary.rotate(heads)
    pairs, turned_pairs = heads.unflatten(-1, (8, 2)), turned.unflatten(-1, (8, 2))
    torch.testing.assert_close(turned_pairs.norm(dim=-1), pairs.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], heads[:, :, 0])


def test_neighbouring_units_turn_together() -> None:
    heads = drawn(2, 3, 50, 16)
    turned = RotaryPositions(16, 50).rotate(heads)
    expected = oracle.rotated(heads.double())
    torch.testing.assert_close(turned.double(), expected, rtol=0, atol=1e-6)


def test_a_quarter_turn_by_hand() -> None:
    """Two units turn by one radian a position."""
    turned = RotaryPositions(2, 3).rotate(torch.tensor([[1.0, 0.0]] * 3).view(1, 1, 3, 2))
    expected = torch.tensor([[math.cos(t), math.sin(t)] for t in range(3)])
    torch.testing.assert_close(turned.view(3, 2), expected)


def test_rows_with_positions_of_their_own_are_marked_as_within_the_whole() -> None:
    heads, hidden = drawn(2, 3, 40, 16), drawn(2, 40, 10)
    rotary, waves = RotaryPositions(16, 40), SinusoidalPositions(10, 40)
    whole_heads, whole_hidden = rotary.rotate(heads), waves.embed(hidden)
    position_BT = torch.tensor([[0, 1, 2], [37, 5, 39]])
    for row, places in enumerate(position_BT):
        part_heads = rotary.rotate(heads[:, :, places], position_BT)
        torch.testing.assert_close(part_heads[row], whole_heads[row][:, places])
        assert torch.equal(waves.embed(hidden[:, places], position_BT)[row], whole_hidden[row, places])


def test_compiled_arithmetic_equals_the_complex_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rotary, heads = RotaryPositions(16, 50), drawn(2, 3, 50, 16).requires_grad_()
    eager = rotary.rotate(heads)
    eager_grad = torch.autograd.grad((eager * drawn(16)).sum(), heads)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    compiled = rotary.rotate(heads)
    compiled_grad = torch.autograd.grad((compiled * drawn(16)).sum(), heads)
    torch.testing.assert_close(compiled, eager, rtol=0, atol=1e-6)
    torch.testing.assert_close(compiled_grad, eager_grad, rtol=0, atol=1e-6)


def test_half_precision_is_turned_in_single_precision() -> None:
    rotary, heads = RotaryPositions(16, 600), drawn(1, 1, 600, 16).bfloat16()
    turned = rotary.rotate(heads)
    assert turned.dtype is torch.bfloat16
    assert torch.equal(turned, rotary.rotate(heads.float()).bfloat16())


@pytest.mark.parametrize("width", [2, 7, 10])
def test_waves_have_their_values_and_are_added(width: int) -> None:
    hidden = drawn(2, 30, width)
    marked = SinusoidalPositions(width, 30).embed(hidden)
    torch.testing.assert_close(marked - hidden, oracle.waves(30, width).float().expand_as(hidden), rtol=0, atol=1e-6)


def test_waves_by_hand() -> None:
    table = SinusoidalPositions(4, 3).embed(torch.zeros(1, 3, 4))[0]
    expected = [[math.sin(t), math.cos(t), math.sin(t / 100), math.cos(t / 100)] for t in range(3)]
    torch.testing.assert_close(table, torch.tensor(expected))


def test_each_kind_leaves_the_other_place_alone() -> None:
    heads, hidden = drawn(2, 3, 5, 4), drawn(2, 5, 12)
    assert torch.equal(RotaryPositions(4, 5).embed(hidden), hidden)
    assert torch.equal(SinusoidalPositions(12, 5).rotate(heads), heads)


def test_tables_are_not_part_of_a_checkpoint() -> None:
    assert not RotaryPositions(4, 5).state_dict()
    assert not SinusoidalPositions(4, 5).state_dict()
