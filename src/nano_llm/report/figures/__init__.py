"""Figures: of a whole study for its report, and one by one for people and their notebooks.

Those for people return a figure of matplotlib that notebooks show and ``savefig`` saves, in an ink that is readable on
light and on dark paper.
"""

from nano_llm.report.figures.control import control_against_quality
from nano_llm.report.figures.curves import loss_curves
from nano_llm.report.figures.depth import depth_weights
from nano_llm.report.figures.reliability import reliability
from nano_llm.report.figures.study import draw, mean_curves
from nano_llm.report.figures.sweep import sweep_plot
from nano_llm.report.figures.text import HtmlText, divergence_text
from nano_llm.report.figures.windows import windows_map

__all__ = [
    "HtmlText",
    "control_against_quality",
    "depth_weights",
    "divergence_text",
    "draw",
    "loss_curves",
    "mean_curves",
    "reliability",
    "sweep_plot",
    "windows_map",
]
