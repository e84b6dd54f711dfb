"""Splits on disk."""

from pathlib import Path

import numpy as np
import pytest

from nano_llm.data.review import Review
from nano_llm.data.split import Split

REVIEWS = [Review("häßlich", 0), Review("", 1, "drama"), Review("🎬 a", 1, movie="tt0406816")]


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
