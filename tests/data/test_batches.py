"""Batches: content, order, resumption."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nano_llm.data.batches import IGNORE, Batch, Cursor, batches, cut, epoch_order, review_batches
from nano_llm.data.windows import Windows

L = 8
TENSORS = [name for name in Batch.__slots__ if name != "num_pairs"]


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
        propensity_W=rng.random(num).astype(np.float32),
    )


def equal(a: Batch, b: Batch) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in TENSORS) and a.num_pairs == b.num_pairs


def test_inputs_and_targets_by_hand() -> None:
    windows = Windows(
        tokens_WL=np.array([[1, 5, 6, 7, 0, 0], [1, 5, 8, 0, 0, 0]], np.uint16),
        length_W=np.array([4, 3], np.int32),
        first_target_W=np.array([1, 2], np.int32),
        prompt_length_W=np.array([2, 2], np.int32),
        review_W=np.array([4, 9], np.int32),
        treatment_W=np.array([0, 1], np.uint8),
        propensity_W=np.array([0.25, 0.5], np.float32),
    )
    batch = cut(windows, np.array([0, 1]))
    assert batch.inputs_BT.tolist() == [[1, 5, 6], [1, 5, 8]]
    assert batch.targets_BT.tolist() == [[5, 6, 7], [IGNORE, 8, IGNORE]]
    assert batch.treatment_B.tolist() == [0, 1]
    assert batch.prompt_length_B.tolist() == [2, 2]
    assert batch.review_B.tolist() == [4, 9]
    assert batch.propensity_B.tolist() == [0.25, 0.5]
    assert {getattr(batch, name).dtype for name in TENSORS if name != "propensity_B"} == {torch.int64}


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


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 12), st.integers(1, 4))
def test_pairs_come_along_and_resume_with_the_windows(num: int, batch_size: int, taken: int, num_pairs: int) -> None:
    windows, pairs = make_windows([3 + row % 5 for row in range(num)]), make_windows([8, 4] * num_pairs, seed=1)
    whole = list(islice(batches(windows, batch_size, seed=3, pairs=pairs), taken + 8))
    plain = islice(batches(windows, batch_size, seed=3), taken + 8)
    for (batch, cursor), (alone, same) in zip(whole, plain, strict=True):
        assert cursor == same
        ordinary, width = batch.ordinary(), alone.inputs_BT.shape[1]
        assert ordinary.inputs_BT[:, :width].tolist() == alone.inputs_BT.tolist()
        assert batch.num_targets == alone.num_targets
        assert batch.num_windows == len(alone)
        assert batch.pairs().treatment_B.tolist() == [0, 1] * batch.num_pairs
    start = whole[taken - 1][1] if taken else Cursor()
    resumed = islice(batches(windows, batch_size, seed=3, start=start, pairs=pairs), 8)
    assert all(equal(batch, again) for (batch, _), (again, _) in zip(whole[taken:], resumed, strict=True))


def test_each_pair_comes_once_in_four_times_as_many_windows() -> None:
    windows, pairs = make_windows([5] * 10), make_windows([6, 7] * 5, seed=1)
    stream = islice(batches(windows, 5, seed=0, pairs=pairs), 8)  # 40 windows: 10 pairs, two rounds of the five
    found = [batch.pairs() for batch, _ in stream if batch.num_pairs]
    reviews = torch.cat([rows.review_B for rows in found]).tolist()
    assert sorted(reviews[:10]) == sorted(reviews[10:]) == sorted(pairs.review_W.tolist())
    assert reviews[::2] == reviews[1::2]
    assert reviews[:10] != reviews[10:]


def test_pairs_and_windows_share_a_width() -> None:
    windows, pairs = make_windows([3] * 4), make_windows([8, 2], seed=1)
    batch, _ = next(batches(windows, 4, seed=0, pairs=pairs))
    assert batch.inputs_BT.shape == (6, 7)
    assert (batch.ordinary().targets_BT[:, 2:] == IGNORE).all()
    fixed, _ = next(batches(windows, 4, seed=0, pairs=pairs, pad_to=7))
    assert equal(fixed, batch)


def test_review_targets_begin_after_the_prompt() -> None:
    windows = replace(make_windows([6, 6]), first_target_W=np.array([1, 4]), prompt_length_W=np.array([3, 2]))
    batch = cut(windows, np.array([0, 1]))
    scored = batch.review_targets_BT != IGNORE  # position t holds target t + 1
    assert scored.tolist() == [[False, False, True, True, True], [False, False, False, True, True]]
    assert torch.equal(batch.review_targets_BT[scored], batch.targets_BT[scored])


def test_evaluation_takes_all_windows_of_the_reviews_asked_for() -> None:
    windows = make_windows([3, 8, 5, 2, 7, 4, 6, 3])  # two windows a review
    found = list(review_batches(windows, 3, reviews=np.array([0, 3, 2])))
    assert [len(batch) for batch in found] == [3, 3]
    assert sorted(torch.cat([batch.review_B for batch in found]).tolist()) == [0, 0, 2, 2, 3, 3]
    everything = list(review_batches(windows, 3))
    assert sum(batch.num_targets for batch in everything) == windows.num_targets
    widths = [batch.inputs_BT.shape[1] for batch in everything]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize("num_pairs", [0, 1, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_shares_hold_every_row_once_and_keep_pairs_together(size: int, num_pairs: int) -> None:
    windows = make_windows([3, 8, 5, 6, 2, 4, 7] + [4, 5] * num_pairs)
    whole = replace(cut(windows, np.arange(len(windows))), num_pairs=num_pairs)
    shares = [whole.share(rank, size) for rank in range(size)]
    for name in TENSORS:
        ordinary = torch.cat([getattr(share.ordinary(), name) for share in shares])
        pairs = torch.cat([getattr(share.pairs(), name) for share in reversed(shares)])
        assert torch.equal(ordinary, getattr(whole.ordinary(), name))
        assert torch.equal(pairs, getattr(whole.pairs(), name))
    for share in shares:
        assert torch.equal(share.pairs().treatment_B, torch.arange(2 * share.num_pairs) % 2 ^ 1)
    for sizes in ([share.num_windows for share in shares], [share.num_pairs for share in shares]):
        assert max(sizes) - min(sizes) <= 1
