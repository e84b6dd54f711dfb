"""The reliability diagram: bins, shares, intervals, counts."""

import numpy as np
import pytest

from nano_llm.errors import RequestError
from nano_llm.report.figures import reliability


def test_bins_have_their_mean_their_share_and_their_count() -> None:
    predicted = [0.02, 0.04, 0.06, 0.08, 0.71, 0.79, 1.0]
    above, below = reliability(predicted, [0, 0, 0, 1, 1, 0, 1]).axes
    diagonal, (points, _, (bars,)) = above.lines[0], above.containers[0]
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    np.testing.assert_allclose(points.get_xydata(), [[0.05, 0.25], [0.75, 0.5], [1.0, 1.0]])
    # Wilson's interval of 1 out of 4, by its formula.
    z, n, p = 1.959964, 4, 0.25
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    np.testing.assert_allclose(bars.get_segments()[0][:, 1], [centre - half, centre + half], atol=1e-6)
    counts = [bar.get_height() for bar in below.patches]
    assert counts == [4, 0, 0, 0, 0, 0, 0, 2, 0, 1]
    assert [text.get_text() for text in below.texts] == ["4", "", "", "", "", "", "", "2", "", "1"]
    assert (above.get_ylabel(), below.get_xlabel()) == ("share with T = 1", "predicted P(T = 1)")


@pytest.mark.parametrize(
    ("predicted", "observed", "told"),
    [
        ([], [], "at least one"),
        ([0.5], [1, 0], r"\(1,\) and observations of \(2,\)"),
        ([1.5], [1], "from 0 to 1"),
        ([np.nan], [1], "from 0 to 1"),
        ([0.5], [2], "0 or 1"),
    ],
)
def test_what_is_no_prediction_or_observation_is_refused(
    predicted: list[float], observed: list[int], told: str
) -> None:
    with pytest.raises(RequestError, match=told):
        reliability(predicted, observed)
