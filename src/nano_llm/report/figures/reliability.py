"""Whether probabilities come true: what was predicted against how often it happened.

N predictions, B bins.
"""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy import stats

from nano_llm.errors import RequestError
from nano_llm.report.figures.style import COLOURS, INK, SIZE, STYLE, Drawing
from nano_llm.report.statistics import LEVEL

NUM_BINS = 10


@mpl.rc_context(STYLE)
def reliability(predicted: ArrayLike, observed: ArrayLike) -> Figure:
    """Draw a reliability diagram, and below it how many predictions each of ten bins of equal width holds.

    A bin is a point at the mean of its predictions, with the share that came true and its 95 % interval by Wilson. What
    is calibrated lies on the diagonal.

    Args:
        predicted: Probabilities (N,) that T is 1, such as the posterior of a review's treatment.
        observed: Whether it was (N,), 0 or 1.

    Raises:
        RequestError: There are none, not as many of both, or values that these cannot have.
    """
    predicted_N, observed_N = np.asarray(predicted, dtype=float), np.asarray(observed)
    _check(predicted_N, observed_N)
    bin_N = np.minimum((predicted_N * NUM_BINS).astype(int), NUM_BINS - 1)
    count_B = np.bincount(bin_N, minlength=NUM_BINS)
    figure = Drawing(SIZE[0], 1.35 * SIZE[1])
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=0.8)
    means, shares, reach = [], [], []
    for b in np.flatnonzero(count_B):
        hits = int(observed_N[bin_N == b].sum())
        interval = stats.binomtest(hits, int(count_B[b])).proportion_ci(LEVEL, method="wilson")
        share = hits / count_B[b]
        means.append(predicted_N[bin_N == b].mean())
        shares.append(share)
        reach.append((max(share - interval.low, 0.0), max(interval.high - share, 0.0)))
    above.errorbar(means, shares, np.transpose(reach), color=COLOURS[0], marker="o", markersize=4, capsize=3)
    above.set_ylabel("share with T = 1")
    centre_B = (np.arange(NUM_BINS) + 0.5) / NUM_BINS
    bars = below.bar(centre_B, count_B, width=0.9 / NUM_BINS, color=COLOURS[0], alpha=0.55)
    below.bar_label(bars, [f"{count:,}" if count else "" for count in count_B], fontsize=7)
    below.margins(y=0.25)
    below.grid(visible=False, axis="x")
    below.set_ylabel("count")
    below.set_xlabel("predicted P(T = 1)")
    return figure


def _check(predicted_N: np.ndarray, observed_N: np.ndarray) -> None:
    if predicted_N.ndim != 1 or predicted_N.shape != observed_N.shape or not len(predicted_N):
        raise RequestError(
            f"Predictions of the shape {predicted_N.shape} and observations of {observed_N.shape}: give one "
            "observation for each of at least one prediction."
        )
    if not np.all((predicted_N >= 0) & (predicted_N <= 1)):
        raise RequestError("Predictions are probabilities, from 0 to 1; some are not.")
    if not np.isin(observed_N, (0, 1)).all():
        raise RequestError(f"Observations are 0 or 1; these have {np.unique(observed_N).tolist()[:5]}.")
