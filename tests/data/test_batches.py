"""Batches: content, order, resumption."""

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nano_llm.data.batches import IGNORE, Batch, Cursor, batches, cut, epoch_order, review_batches
from nano_llm.data.windows import Windows

L = 8


def make_windows(lengths: list[int], seed: int = 0) -> Windows:
    rng = np.random.default_rng(seed)
    num = len(lengths)
    tokens_WL = rng.integers(1, 500, (num, L)).astype(np.uint16)
    length_W = np.array(lengths, np.int32)
    tokens_WL[np.arange(L) >= length_W[:, None]] = 0
    return Windows(
        tokens_WL=tokens_WL,
        length_W=length_W,
        first_target_W=rng.integers(1, length_W).astype(np.int32),
        prompt_length_W=np.ones(num, np.int32),
        review_W=(np.arange(num) // 2).astype(np.int32),
        treatment_W=(np.arange(num) % 2).astype(np.uint8),
    )


def equal(a: Batch, b: Batch) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in Batch.__slots__)


def test_inputs_and_targets_by_hand() -> None:
    windows = Windows(
        tokens_WL=np.array([[1, 5, 6, 7, 0, 0], [1, 5, 8, 0, 0, 0]], np.uint16),
        length_W=np.array([4, 3], np.int32),
        first_target_W=np.array([1, 2], np.int32),
        prompt_length_W=np.array([2, 2], np.int32),
        review_W=np.array([4, 9], np.int32),
        treatment_W=np.array([0, 1], np.uint8),
    )
    batch = cut(windows, np.array([0, 1]))
    assert batch.inputs_BT.tolist() == [[1, 5, 6], [1, 5, 8]]
    assert batch.targets_BT.tolist() == [[5, 6, 7], [IGNORE, 8, IGNORE]]
    assert batch.treatment_B.tolist() == [0, 1]
    assert batch.prompt_length_B.tolist() == [2, 2]
    assert batch.review_B.tolist() == [4, 9]
    assert {getattr(batch, name).dtype for name in Batch.__slots__} == {torch.int64}


@pytest.mark.parametrize("pad_to", [4, 7])
def test_a_fixed_width_adds_positions_that_are_not_scored(pad_to: int) -> None:
    windows = make_windows([3, 5])
    batch, padded = cut(windows, np.array([0, 1])), cut(windows, np.array([0, 1]), pad_to)
    assert padded.inputs_BT.shape == (2, pad_to)
    assert torch.equal(padded.targets_BT[:, :4], batch.targets_BT)
    assert (padded.targets_BT[:, 4:] == IGNORE).all()
    assert (padded.inputs_BT[:, 5:] == 0).all()


def test_targets_count_as_many_as_the_windows_say() -> None:
    windows = make_windows([3, 8, 5, 2, 7])
    batch = cut(windows, np.arange(5))
    assert batch.num_targets == int((batch.targets_BT != IGNORE).sum()) == windows.num_targets
    assert equal(batch.to(torch.device("cpu")), batch)


def test_an_epoch_takes_each_window_once_in_an_order_of_its_own() -> None:
    orders = [epoch_order(50, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert np.array_equal(orders[1], epoch_order(50, 0, 1))
    assert list(epoch_order(6, 0, 0)) == [0, 3, 5, 1, 2, 4]  # the order of a seed must never change


def test_the_last_batch_of_an_epoch_is_kept() -> None:
    taken = list(islice(batches(make_windows([4] * 7), 3, seed=0), 6))
    assert [len(batch) for batch, _ in taken] == [3, 3, 1, 3, 3, 1]
    assert [cursor for _, cursor in taken] == [
        Cursor(0, 3),
        Cursor(0, 6),
        Cursor(1, 0),
        Cursor(1, 3),
        Cursor(1, 6),
        Cursor(2, 0),
    ]


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 12))
def test_training_resumes_at_any_cursor(num: int, batch_size: int, taken: int) -> None:
    windows = make_windows([3 + row % 5 for row in range(num)])
    whole = list(islice(batches(windows, batch_size, seed=3), taken + 8))
    start = whole[taken - 1][1] if taken else Cursor()
    resumed = list(islice(batches(windows, batch_size, seed=3, start=start), 8))
    for (batch, cursor), (again, cursor_again) in zip(whole[taken:], resumed, strict=True):
        assert equal(batch, again)
        assert cursor == cursor_again


def test_evaluation_takes_all_windows_of_the_reviews_asked_for() -> None:
    windows = make_windows([3, 8, 5, 2, 7, 4, 6, 3])  # two windows a review
    found = list(review_batches(windows, 3, reviews=np.array([0, 3, 2])))
    assert [len(batch) for batch in found] == [3, 3]
    assert sorted(torch.cat([batch.review_B for batch in found]).tolist()) == [0, 0, 2, 2, 3, 3]
    everything = list(review_batches(windows, 3))
    assert sum(batch.num_targets for batch in everything) == windows.num_targets
    widths = [batch.inputs_BT.shape[1] for batch in everything]
    assert widths == sorted(widths, reverse=True)
