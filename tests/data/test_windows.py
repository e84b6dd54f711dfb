"""Windows: what is scored, where they start, what they carry."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_llm.data.arrays import BoolArray, IntArray
from nano_llm.data.samples import Samples
from nano_llm.data.windows import Windows, num_reference_windows
from nano_llm.errors import DataError

PAD = 0
VOCAB = 1000


def make_samples(prompts: list[int], bodies: list[int], dtype: type[np.unsignedinteger[Any]] = np.uint16) -> Samples:
    """Samples whose tokens are all distinct, 1 and upwards, so that a token names its position."""
    length_R = np.array(prompts, np.int64) + np.array(bodies, np.int64)
    offset_R1 = np.concatenate(([0], np.cumsum(length_R)))
    return Samples(
        tokens_N=np.arange(1, offset_R1[-1] + 1).astype(dtype),
        offset_R1=offset_R1,
        prompt_length_R=np.array(prompts, np.int32),
        treatment_R=(np.arange(len(prompts)) % 2).astype(np.uint8),
        propensity_R=np.linspace(0.1, 0.9, len(prompts), dtype=np.float32),
    )


def scored(windows: Windows) -> list[int]:
    return [
        int(token)
        for tokens_L, first, length in zip(windows.tokens_WL, windows.first_target_W, windows.length_W, strict=True)
        for token in tokens_L[first:length]
    ]


def every_second(vocab: int = VOCAB) -> BoolArray:
    return np.arange(vocab) % 2 == 0


@st.composite
def cases(draw: st.DrawFn, least_body: int = 1) -> tuple[Samples, int]:
    window_length = draw(st.integers(4, 24))
    num = draw(st.integers(1, 6))
    prompts = draw(st.lists(st.integers(1, window_length - 2), min_size=num, max_size=num))
    bodies = draw(st.lists(st.integers(least_body, 100), min_size=num, max_size=num))
    return make_samples(prompts, bodies), window_length


@given(cases(), st.sampled_from([1, 2]), st.sampled_from(["none", "all", "few", "never"]))
def test_each_token_but_the_first_is_a_target_exactly_once(
    case: tuple[Samples, int], num_views: int, starts: str
) -> None:
    samples, window_length = case
    tables = {
        "none": None,
        "all": np.ones(VOCAB, np.bool_),
        "few": np.arange(VOCAB) % 5 == 0,
        "never": np.zeros(VOCAB, np.bool_),
    }
    windows = Windows.covering(samples, window_length, PAD, num_views=num_views, is_word_start_V=tables[starts])
    firsts = samples.tokens_N[samples.offset_R1[:-1]]
    assert scored(windows) == [int(token) for token in samples.tokens_N if token not in firsts]
    assert windows.num_targets == len(scored(windows))


@given(cases(least_body=0), st.integers(1, 5), st.integers(0, 9999))
def test_any_number_of_views_and_any_word_starts_score_each_token_once(
    case: tuple[Samples, int], num_views: int, seed: int
) -> None:
    samples, window_length = case
    starts = np.random.default_rng(seed).random(VOCAB) < 0.3
    windows = Windows.covering(samples, window_length, PAD, num_views=num_views, is_word_start_V=starts)
    firsts = samples.tokens_N[samples.offset_R1[:-1]]
    assert scored(windows) == [int(token) for token in samples.tokens_N if token not in firsts]
    assert (windows.length_W <= window_length).all()
    assert (windows.first_target_W >= 1).all()


@given(cases(least_body=0), st.data())
def test_reference_windows_are_those_of_the_definition(case: tuple[Samples, int], data: st.DataObject) -> None:
    """Window k of a review: the prefix, then token k * (L - p) of the rest on; as many as are full, or one."""
    samples, window_length = case
    prefix = [data.draw(st.integers(1, min(int(n), window_length - 2))) for n in samples.length_R]
    num = num_reference_windows(samples.length_R, np.array(prefix, int), window_length)
    windows = Windows.reference(samples, window_length, PAD, prefix_length_R=np.array(prefix, int), num_windows_R=num)
    expected = []
    for row, p in enumerate(prefix):
        sample = samples.tokens_N[samples.offset_R1[row] : samples.offset_R1[row + 1]].tolist()
        stride = window_length - p
        rows = [sample[:p] + sample[p + k * stride : p + (k + 1) * stride] for k in range(len(sample))]
        full = [row_L for row_L in rows if len(row_L) == window_length]
        expected += full or rows[:1]
    assert windows.tokens_WL.tolist() == [row_L + [PAD] * (window_length - len(row_L)) for row_L in expected]
    assert windows.length_W.tolist() == [len(row_L) for row_L in expected]
    assert (windows.first_target_W == 1).all()


def test_a_split_without_reviews_has_no_windows() -> None:
    assert len(Windows.covering(make_samples([], []), 8, PAD)) == 0
    none: IntArray = np.array([], int)
    assert len(Windows.reference(make_samples([], []), 8, PAD, prefix_length_R=none, num_windows_R=none)) == 0


def test_a_review_of_ten_million_tokens_is_covered() -> None:
    samples = make_samples([3], [10_000_000], np.uint32)
    windows = Windows.covering(samples, 1024, PAD)
    assert windows.num_targets == 10_000_002
    assert (np.concatenate([row[3:] for row in windows.tokens_WL])[:10_000_000] == np.arange(4, 10_000_004)).all()


@given(cases(), st.sampled_from([1, 2]))
def test_every_row_is_the_prompt_and_a_stretch_of_its_review(case: tuple[Samples, int], num_views: int) -> None:
    samples, window_length = case
    windows = Windows.covering(samples, window_length, PAD, num_views=num_views, is_word_start_V=every_second())
    for row in range(len(windows)):
        review, b, length = windows.review_W[row], windows.prompt_length_W[row], windows.length_W[row]
        tokens = windows.tokens_WL[row].astype(int)
        offset = samples.offset_R1[review]
        assert b == samples.prompt_length_R[review]
        assert list(tokens[:b]) == list(samples.tokens_N[offset : offset + b])
        assert (np.diff(tokens[b:length]) == 1).all()
        assert (tokens[length:] == PAD).all()
        assert b < length <= window_length
        assert windows.treatment_W[row] == samples.treatment_R[review]
        assert windows.propensity_W[row] == samples.propensity_R[review]


@given(cases(), st.sampled_from([1, 2]))
def test_a_review_that_fits_is_one_window_and_the_plain_sample(case: tuple[Samples, int], num_views: int) -> None:
    samples, window_length = case
    windows = Windows.covering(samples, window_length, PAD, num_views=num_views)
    for review, length in enumerate(samples.length_R):
        rows = np.flatnonzero(windows.review_W == review)
        if length <= window_length:
            assert len(rows) == 1
            start = samples.offset_R1[review]
            assert list(windows.tokens_WL[rows[0], :length]) == list(samples.tokens_N[start : start + length])
            assert windows.first_target_W[rows[0]] == 1
        else:
            assert len(rows) > 1


@given(cases())
def test_the_first_windows_of_reviews_are_those_that_start_with_them(case: tuple[Samples, int]) -> None:
    samples, window_length = case
    firsts = Windows.covering(samples, window_length, PAD).first_of_each_review()
    assert firsts.review_W.tolist() == list(range(len(samples.length_R)))
    assert (firsts.length_W == np.minimum(samples.length_R, window_length)).all()
    assert (firsts.first_target_W == 1).all()


def test_training_starts_move_back_to_a_word_start_within_reach() -> None:
    samples = make_samples([2], [60])  # review tokens are 3 to 62
    # Windows of 18 = 2 + 16 tokens would start at 3, 19, ...; a start may move back by a quarter of 16.
    windows = Windows.covering(samples, 18, PAD, is_word_start_V=np.isin(np.arange(VOCAB), [16, 28]))
    assert list(windows.tokens_WL[:, 2]) == [3, 16, 28, 44, 60]
    assert list(windows.first_target_W) == [1, 2 + 3, 2 + 4, 2, 2]


def test_without_a_word_start_in_reach_nothing_is_read_twice() -> None:
    samples = make_samples([2], [40])
    windows = Windows.covering(samples, 18, PAD, is_word_start_V=np.isin(np.arange(VOCAB), [14]))
    assert list(windows.tokens_WL[:, 2]) == [3, 19, 35]
    assert list(windows.first_target_W) == [1, 2, 2]


def test_evaluation_windows_advance_by_half_of_the_review_room() -> None:
    samples = make_samples([3], [30])  # room 12 - 3 = 9, stride 4
    windows = Windows.covering(samples, 12, PAD, num_views=2)
    assert list(windows.tokens_WL[:, 3] - 4) == [0, 4, 8, 12, 16, 20, 24]
    assert list(windows.first_target_W) == [1, *[3 + 5] * 6]
    assert list(windows.length_W) == [12] * 6 + [9]


def test_a_review_of_its_end_marker_alone_scores_it() -> None:
    windows = Windows.covering(make_samples([3, 3], [2, 1]), 8, PAD)
    assert list(windows.length_W) == [5, 4]
    assert list(windows.first_target_W) == [1, 1]


@pytest.mark.parametrize("cut", ["covering", "reference"])
def test_a_prompt_must_leave_room(cut: str) -> None:
    samples = make_samples([3, 7], [5, 5])
    with pytest.raises(DataError, match=r"window_length=8.*7 tokens.*9"):
        if cut == "covering":
            Windows.covering(samples, 8, PAD)
        else:
            Windows.reference(
                samples,
                8,
                PAD,
                prefix_length_R=samples.prompt_length_R,
                num_windows_R=np.array([1, 1]),
            )


@pytest.mark.parametrize(("length", "num"), [(2, 1), (7, 1), (8, 1), (12, 1), (13, 2), (17, 2), (18, 3), (23, 4)])
def test_the_reference_keeps_full_windows_only(length: int, num: int) -> None:
    assert num_reference_windows(np.array([length]), np.array([3]), 8) == [num]


def test_reference_windows_repeat_the_prefix_and_score_everything() -> None:
    samples = make_samples([2, 2], [18, 3])
    prefix: IntArray = np.array([3, 3])
    num = num_reference_windows(samples.length_R, prefix, 8)
    windows = Windows.reference(samples, 8, PAD, prefix_length_R=prefix, num_windows_R=num)
    expected = [
        [1, 2, 3, 4, 5, 6, 7, 8],
        [1, 2, 3, 9, 10, 11, 12, 13],
        [1, 2, 3, 14, 15, 16, 17, 18],
        [21, 22, 23, 24, 25, 0, 0, 0],
    ]
    assert windows.tokens_WL.tolist() == expected
    assert list(windows.length_W) == [8, 8, 8, 5]
    assert list(windows.first_target_W) == [1, 1, 1, 1]
    assert list(windows.review_W) == [0, 0, 0, 1]


def test_windows_survive_the_disk(tmp_path: Path) -> None:
    windows = Windows.covering(make_samples([2, 3], [40, 5]), 12, PAD)
    windows.save(tmp_path, "train")
    again = Windows.load(tmp_path, "train")
    for field in fields(Windows):
        before, after = getattr(windows, field.name), getattr(again, field.name)
        assert before.dtype == after.dtype
        assert np.array_equal(before, after)
    assert isinstance(again.tokens_WL, np.memmap)
