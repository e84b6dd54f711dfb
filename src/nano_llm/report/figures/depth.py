"""Depth mixing: how much of each source each sublayer reads.

S sources, M sublayers that mix them.
"""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nano_llm.errors import RequestError
from nano_llm.report.figures.style import STYLE, Drawing

COLOUR_MAP = "viridis"
BRIGHT = 0.6  # of the colour map, from where on ink on it is dark
CELL = (0.42, 0.36)  # inches
MARGINS = (1.9, 1.5)
MAX_LABELLED = 32  # sublayers whose cells have room for a number


@mpl.rc_context(STYLE)
def depth_weights(weights: NDArray[np.floating], names: tuple[Sequence[str], Sequence[str]]) -> Figure:
    """Draw a heat map of depth weights: a column a sublayer, in the order in which they run, a row a source.

    Args:
        weights: Mean weights (S, M), each column's sum 1; NaN where a sublayer does not read a source.
        names: Of the S sources, and of the M sublayers.

    Raises:
        RequestError: The shapes do not fit, or a weight is no share.
    """
    sources, sublayers = names
    weights = np.asarray(weights, dtype=float)
    if weights.shape != (len(sources), len(sublayers)):
        raise RequestError(
            f"The weights have the shape {weights.shape}; expected {(len(sources), len(sublayers))}, as there are "
            f"{len(sources)} names of sources and {len(sublayers)} of sublayers."
        )
    if np.any((weights < 0) | (weights > 1 + 1e-6)):
        raise RequestError("Depth weights are shares from 0 to 1, or NaN where a source is not read.")
    figure = Drawing(*(margin + cell * n for margin, cell, n in zip(MARGINS, CELL, weights.shape[::-1], strict=True)))
    axes = figure.add_subplot()
    axes.grid(visible=False)
    image = axes.imshow(weights, cmap=COLOUR_MAP, vmin=0, vmax=1, origin="lower", aspect="auto")
    if len(sublayers) <= MAX_LABELLED:
        for row, column in np.argwhere(~np.isnan(weights)):
            weight = weights[row, column]
            ink = "black" if weight > BRIGHT else "white"
            axes.text(column, row, f"{weight:.2f}".lstrip("0"), ha="center", va="center", color=ink, fontsize=7)
    axes.set_xticks(range(len(sublayers)), list(sublayers), rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(sources)), list(sources))
    axes.set_xlabel("sublayer")
    axes.set_ylabel("source")
    figure.colorbar(image, ax=axes, label="mean weight")
    return figure
