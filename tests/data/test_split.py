"""Splits on disk."""

from pathlib import Path

import numpy as np
import pytest

from nano_llm.data.review import Review
from nano_llm.data.split import Split, inverse_propensity

REVIEWS = [Review("häßlich", 0), Review("", 1, "drama"), Review("🎬 a", 1, None, "tt0406816", 0.75)]


@pytest.mark.parametrize("reviews", [REVIEWS, [Review("", 0)], []])
def test_reviews_survive_the_disk(tmp_path: Path, reviews: list[Review]) -> None:
    Split.of(reviews).save(tmp_path, "train")
    split = Split.load(tmp_path, "train")
    assert list(split) == reviews
    assert len(split) == len(reviews)
    assert split.treatment_R.tolist() == [review.treatment for review in reviews]
    assert split.num_bytes_R.tolist() == [len(review.text.encode()) for review in reviews]


def test_texts_stay_on_disk_until_asked_for(tmp_path: Path) -> None:
    Split.of(REVIEWS).save(tmp_path, "train")
    split = Split.load(tmp_path, "train")
    assert isinstance(split.texts_B, np.memmap)
    assert split[-1] == REVIEWS[-1]
    with pytest.raises(IndexError):
        split[3]


def test_weights_undo_the_choice_of_the_treatment() -> None:
    weights = inverse_propensity(np.array([1, 0, 1, 0]), np.array([0.25, 0.25, 0.5, 0.5], np.float32))
    assert weights.tolist() == [2.0, 0.5 / 0.75, 1.0, 1.0]
    # Under a chance of 1/4, a quarter of such reviews is positive: the weights' mean is 1, half of it on either side.
    assert 0.25 * weights[0] == pytest.approx(0.75 * weights[1]) == pytest.approx(0.5)


def test_the_effective_size_is_that_of_equal_weights() -> None:
    even = [Review("a", treatment) for treatment in (0, 1, 1)]
    assert Split.of(even).effective_size == pytest.approx(3)
    weights = [2.0, 0.5 / 0.75]
    uneven = [Review("a", treatment, propensity=0.25) for treatment in (1, 0)]
    assert Split.of(uneven).effective_size == pytest.approx(sum(weights) ** 2 / sum(w * w for w in weights))
    assert Split.of([]).effective_size == 0
