"""How figures look: coloured lines and grey ink, readable on light and on dark paper, and no paper of their own."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure

from nano_llm.metrics import METRICS

INK = "#767b83"
"""Of about the same contrast to white as to the darkest grey of dark themes."""
COLOURS = ("#3b82c4", "#e07b39", "#3f9e6e", "#b65fb0", "#c4423b", "#8a7a3c", "#4aa7b5", "#7d6cc9")
DASHES = ("-", "--", ":", "-.")
Style = dict[str, Any]
SIZE = (4.6, 3.2)  # inches; small, so that it stays readable on a phone
PIXELS = 100
"""Of a notebook, to an inch; the picture has two for each, for fine screens."""


def style(ink: str) -> dict[Any, Any]:
    """Return the settings of matplotlib for figures whose text and axes have this colour."""
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "nano_llm",
        "font.size": 9,
        "font.family": "sans-serif",
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.15,
        "grid.color": ink,
        "axes.prop_cycle": cycler(color=COLOURS),
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "legend.frameon": False,
    }


STYLE = style(INK)


class Drawing(Figure):
    """A figure that keeps the style it was made in, and that notebooks show without pyplot."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), layout="constrained")
        self._style = {name: mpl.rcParams[name] for name in STYLE}

    def draw(self, renderer: RendererBase) -> None:
        """Draw in that style: ticks are made only now."""
        with mpl.rc_context(self._style):
            super().draw(renderer)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return a picture and its size in pixels of the page, as IPython asks for it."""
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=2 * PIXELS, metadata={"Software": None})
        width, height = (round(PIXELS * inches) for inches in self.get_size_inches())
        return stream.getvalue(), {"width": width, "height": height}


def line_styles(arms: Sequence[str]) -> dict[str, Style]:
    """Give each arm a colour, and a dash once the colours are used up."""
    return {
        arm: {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i // len(COLOURS) % len(DASHES)]}
        for i, arm in enumerate(arms)
    }


def stacked(number: int) -> tuple[float, float]:
    """Return the size of a figure of panels one above the other, in inches."""
    return SIZE[0], SIZE[1] * (1 if number == 1 else 0.75 * number)


def with_unit(metric: str) -> str:
    """Return the label of an axis."""
    unit = METRICS[metric].unit if metric in METRICS else ""
    return f"{metric} ({unit})" if unit else metric
