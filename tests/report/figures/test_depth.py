"""The heat map of depth weights."""

import numpy as np
import pytest

from nano_llm.errors import RequestError
from nano_llm.report.figures import depth_weights

NAMES = (["embedding", "open block"], ["1 attention", "1 feed-forward", "2 attention"])
WEIGHTS = np.array([[1.0, 0.25, 0.6], [np.nan, 0.75, 0.4]])


def test_every_weight_stands_in_its_place() -> None:
    axes, scale = depth_weights(WEIGHTS, NAMES).axes
    (image,) = axes.images
    shown = np.ma.filled(image.get_array(), np.nan)
    np.testing.assert_array_equal(shown, WEIGHTS)
    assert {(*text.get_position(), text.get_text()) for text in axes.texts} == {
        (0, 0, "1.00"), (1, 0, ".25"), (1, 1, ".75"), (2, 0, ".60"), (2, 1, ".40"),
    }  # fmt: skip
    assert [label.get_text() for label in axes.get_yticklabels()] == NAMES[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == NAMES[1]
    assert axes.get_ylim() == (-0.5, 1.5)  # what comes first lies lowest
    assert (image.norm.vmin, image.norm.vmax, scale.get_ylabel()) == (0, 1, "mean weight")


def test_names_that_do_not_fit_and_what_is_no_share_are_refused() -> None:
    with pytest.raises(RequestError, match=r"shape \(3, 2\); expected \(2, 3\)"):
        depth_weights(WEIGHTS.T, NAMES)
    with pytest.raises(RequestError, match="shares from 0 to 1"):
        depth_weights(WEIGHTS - 0.5, NAMES)
