"""How training went, run by run."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nano_llm.errors import OutputError
from nano_llm.report.collect import read_curve
from nano_llm.report.figures.style import INK, SIZE, STYLE, Drawing, line_styles, with_unit


@mpl.rc_context(STYLE)
def loss_curves(runs: Sequence[Path]) -> Figure:
    """Draw the cross-entropy of runs by step: training windows as a thin line, validations as a thick one with dots.

    Runs of one arm look alike.

    Args:
        runs: Their folders, ``<study>/<arm>-<id>/seed-<n>``, each with its metrics.jsonl.

    Raises:
        OutputError: A folder has no validation to show.
    """
    curves = [_read(Path(run).resolve()) for run in runs]
    names = _names([curve["arm"].iloc[0] for curve in curves])
    styles = line_styles(list(dict.fromkeys(names)))
    figure = Drawing(*SIZE)
    axes = figure.add_subplot()
    for name, curve in zip(names, curves, strict=True):
        for metric, looks in (("train_ce", {"linewidth": 0.8, "alpha": 0.6}), ("val_ce", {"marker": "o"})):
            if metric in curve:
                points = curve.dropna(subset=[metric])
                axes.plot(points["step"], points[metric], markersize=4, label=name, **styles[name] | looks)
    axes.set_xlabel("step")
    axes.set_ylabel(with_unit("val_ce").replace("val_ce", "cross-entropy"))
    arms = [Line2D([], [], label=name, **styles[name]) for name in styles]
    kinds = [
        Line2D([], [], color=INK, linewidth=0.8, label="training"),
        Line2D([], [], color=INK, marker="o", markersize=4, label="validation"),
    ]
    axes.legend(handles=[*arms, *kinds], fontsize=8)
    return figure


def _read(run: Path) -> pd.DataFrame:
    rows = read_curve(run, run.parent.name)
    if not any("val_ce" in row for row in rows):
        raise OutputError(
            f"There is no validation in {run / 'metrics.jsonl'}. Name the folder of a run that has been validated, "
            "such as outputs/runs/<arm>-<id>/seed-0."
        )
    return pd.DataFrame(rows).rename(columns={"folder": "arm"})


def _names(arms: Sequence[str]) -> list[str]:
    """Leave the ids of arms out where their names tell them apart."""
    short = {arm: arm.rpartition("-")[0] or arm for arm in arms}
    shown = list(short.values())
    return [short[arm] if shown.count(short[arm]) == 1 else arm for arm in arms]
