"""What a setting does to a metric: the mean over seeds with its interval, and each seed."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nano_llm.errors import RequestError
from nano_llm.report.arms import PREFIX
from nano_llm.report.figures.style import COLOURS, STYLE, Drawing, stacked, with_unit
from nano_llm.report.statistics import t_interval

MAX_PANELS = 4
MAX_EVEN = 8  # numbers that are shown at equal distances


@mpl.rc_context(STYLE)
def sweep_plot(results: pd.DataFrame, metric: str, setting: str) -> Figure:
    """Draw a metric against a setting: means with 95 % t-intervals over seeds, and each seed as a dot.

    Runs of each name have a panel of their own. Numbers stand in order, at equal distances if they are few, and
    are joined by a line; other values stand in the order in which they come.

    Args:
        results: A row a run, as `nano_llm.report.collect.collect` gives them: ``name``, ``state``, figures, and
            settings by their dotted names below ``settings.``. Runs that have not finished are left out.
        metric: A column of figures, such as ``val_bpb``.
        setting: Such as ``model.separation.weight``.

    Raises:
        RequestError: There is no such column, or no finished run that has both.
    """
    column = f"{PREFIX}{setting}"
    for name in (metric, column):
        if name not in results:
            raise RequestError(f"There is no {name!r} among the results; they have {', '.join(map(str, results))}.")
    rows = results[results["state"] == "finished"].dropna(subset=[column, metric])
    if rows.empty:
        raise RequestError(f"None of the {len(results)} runs has finished and has both {metric} and {setting}.")
    return draw_sweep(rows, metric, column, setting)


def draw_sweep(rows: pd.DataFrame, metric: str, column: str, label: str) -> Drawing:
    """Draw runs that have a metric and the setting of a column, in the style that is in force."""
    is_number = pd.api.types.is_numeric_dtype(rows[column]) and not pd.api.types.is_bool_dtype(rows[column])
    values = sorted(rows[column].unique()) if is_number else list(rows[column].unique())
    groups = list(rows.groupby("name", sort=False))
    if len(groups) > MAX_PANELS:
        groups = [(f"{len(groups)} names together", rows)]
    even = len(values) <= MAX_EVEN or not is_number
    figure = Drawing(*stacked(len(groups)))
    panels = np.atleast_1d(figure.subplots(len(groups), 1, sharex=True))
    for i, (axes, (name, group)) in enumerate(zip(panels, groups, strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        present = sorted(
            (values.index(value) if even else value, seeds[metric].tolist()) for value, seeds in group.groupby(column)
        )
        estimates = [t_interval(seeds) for _, seeds in present]
        x = [place for place, _ in present]
        halves = [np.nan if estimate.high is None else estimate.high - estimate.mean for estimate in estimates]
        axes.errorbar(
            x, [e.mean for e in estimates], halves, color=colour, marker="o", markersize=4, capsize=3,
            linestyle="-" if is_number else "",
        )  # fmt: skip
        for place, seeds in present:
            axes.plot([place] * len(seeds), seeds, ".", color=colour, alpha=0.45, markersize=5)
        axes.set_ylabel(with_unit(metric))
        axes.set_title(str(name), fontsize=9, loc="left")
        if not is_number:
            axes.set_xticks(range(len(values)), values, rotation=30, ha="right", rotation_mode="anchor")
        elif even:
            axes.set_xticks(range(len(values)), [f"{value:.3g}" for value in values])
        elif positive := [value for value in values if value > 0]:
            axes.set_xscale("symlog", linthresh=min(positive))
    panels[-1].set_xlabel(label)
    return figure
