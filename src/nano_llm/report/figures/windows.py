"""Training rows as a picture: what of each window is prompt, what is scored, what is only read."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nano_llm.report.figures.style import COLOURS, SIZE, STYLE, Drawing

FAINT = 0.35  # opacity of what is no target


@mpl.rc_context(STYLE)
def windows_map(
    prompt_length_W: ArrayLike, first_target_W: ArrayLike, length_W: ArrayLike, window_length: int, title: str = ""
) -> Figure:
    """Draw each window as a row of tokens, in full colour where they are targets.

    Args:
        prompt_length_W: Tokens of the prompt in each window.
        first_target_W: Place in the window of the first token that is a target.
        length_W: Tokens in the window.
        window_length: Places of a window; what is not filled is padding.
        title: Of the figure.
    """
    prompt_W, target_W, length_W = (np.asarray(array) for array in (prompt_length_W, first_target_W, length_W))
    nothing_W = np.zeros_like(length_W)
    parts = (
        ("prompt", COLOURS[0], FAINT, nothing_W, np.minimum(target_W, prompt_W)),
        ("prompt, target", COLOURS[0], 1.0, target_W, prompt_W),
        ("review, read again", COLOURS[1], FAINT, prompt_W, target_W),
        ("review, target", COLOURS[1], 1.0, np.maximum(target_W, prompt_W), length_W),
    )
    figure = Drawing(1.4 * SIZE[0], 1.0 + 0.17 * len(length_W))
    axes = figure.add_subplot()
    for label, colour, opacity, begin_W, end_W in parts:
        width_W = np.maximum(end_W - begin_W, 0)
        if width_W.any():
            axes.barh(np.arange(len(length_W)), width_W, 0.8, begin_W, color=colour, alpha=opacity, label=label)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xlim(0, window_length)
    axes.set_xlabel("token of the window")
    axes.set_ylabel("window")
    axes.set_title(title, fontsize=9, loc="left")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    return figure
