"""What steering buys, and what it costs: control against quality, a curve a rule."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nano_llm.errors import RequestError
from nano_llm.report.figures.style import INK, SIZE, STYLE, Drawing, Style, line_styles

NEEDED = ("rule", "strength", "control", "bits")


@mpl.rc_context(STYLE)
def control_against_quality(rows: pd.DataFrame) -> Figure:
    """Draw control against bits a byte under a judge of fluency, a point a strength, joined in its order.

    Args:
        rows: A row a setting: ``rule`` names its curve, ``strength`` is written beside its point, ``control`` is the
            share of texts in which a judge finds what was asked for, ``bits`` are a judge's bits a byte. Where there
            are ``control_low``, ``control_high``, ``bits_low`` and ``bits_high``, they are drawn as intervals. A row
            without a strength, such as real texts, is a point to compare with.

    Raises:
        RequestError: A column is missing.
    """
    missing = [name for name in NEEDED if name not in rows]
    if missing:
        raise RequestError(f"The rows lack {', '.join(missing)}; expected the columns {', '.join(NEEDED)}.")
    figure = Drawing(*SIZE)
    axes = figure.add_subplot()
    compared = rows["strength"].isna()
    styles = line_styles(list(rows.loc[~compared, "rule"].unique()))
    for rule, curve in rows[~compared].groupby("rule", sort=False):
        ordered = curve.sort_values("strength")
        axes.errorbar(
            ordered["bits"], ordered["control"], **_reach(ordered), **styles[str(rule)], marker="o", markersize=4,
            capsize=2, elinewidth=0.8, label=str(rule),
        )  # fmt: skip
        for strength, bits, control in zip(ordered["strength"], ordered["bits"], ordered["control"], strict=True):
            axes.annotate(f"{strength:g}", (bits, control), (4, -9), textcoords="offset points", fontsize=7)
    for rule, row in rows[compared].groupby("rule", sort=False):
        axes.errorbar(row["bits"], row["control"], **_reach(row), color=INK, marker="*", linestyle="", label=str(rule))
    axes.set_xlabel("bits a byte of a judge of fluency")
    axes.set_ylabel("control (share of texts)")
    axes.legend(fontsize=8)
    return figure


def _reach(rows: pd.DataFrame) -> Style:
    """Return how far the intervals reach to both sides, of each figure that has one."""
    return {
        axis: np.array([rows[name] - rows[f"{name}_low"], rows[f"{name}_high"] - rows[name]])
        for axis, name in (("xerr", "bits"), ("yerr", "control"))
        if f"{name}_low" in rows and f"{name}_high" in rows
    }
