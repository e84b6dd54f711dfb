"""Figures of a study, as SVG whose ink is the colour of the text around it."""

import io
import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nano_llm.report.arms import PREFIX, corpora
from nano_llm.report.figures.style import SIZE, Drawing, Style, line_styles, stacked, style, with_unit
from nano_llm.report.figures.sweep import draw_sweep
from nano_llm.report.statistics import t_interval

CURRENT_COLOUR = "#123456"
"""Stands for ``currentColor``, which matplotlib does not know."""

MAX_LEGEND = 8  # arms that fit inside a figure
MAX_LISTED = 24  # arms that fit below one; more are drawn without names
LEGEND_ROW = 0.17  # inches
MAX_SEED_LINES = 60
FEW_POINTS = 3  # validations, up to which each is marked
LEGEND_WIDTH = 60  # characters of a line of a legend below the figure
LABEL_WIDTH = 24  # characters of a line beside a bar
WEIGHT = f"{PREFIX}model.separation.weight"
MINUTES = ("minutes of training", 60.0)
"""Label of an axis, and what its unit is in that of the files."""
COSTS = (
    ("cost_time", "training_seconds", *MINUTES),
    ("cost_parameters", "parameters", "parameters (thousand)", 1e3),
)
TRUTH = ("cf_kl", "token_pehe", "js_ratio", "confounding_bias")
"""Figures against the known law that are drawn, an arm a line."""
AXES = {"step": ("step", 1.0), "tokens": ("trained tokens (million)", 1e6), "training_seconds": MINUTES}


def draw(runs: pd.DataFrame, curves: pd.DataFrame) -> dict[str, str]:
    """Return every figure that the runs allow: name -> SVG. An arm looks the same in all of them."""
    figures: dict[str, str] = {}
    styles = line_styles([str(arm) for arm in runs["arm"].unique()])
    with mpl.rc_context(style(CURRENT_COLOUR)):
        if len(curves):
            labelled = curves.merge(runs[["folder", "arm", "state"]].assign(corpus=corpora(runs)), on="folder")
            metric = next((name for name in ("val_bpb", "val_ce") if name in labelled), None)
            if metric is not None and labelled[metric].notna().any():
                figures |= _curves(labelled, metric, styles)
        finished = runs[runs["state"] == "finished"]
        figures |= {name: _svg(figure) for name, figure in _weights(finished).items()}
        figures |= {
            f"truth_{metric}": _svg(_intervals(finished, metric, styles)) for metric in TRUTH if metric in finished
        }
        for name, column, label, unit in COSTS:
            if column in finished:
                figures[name] = _svg(_bars(finished, column, label, unit, styles))
    return figures


def _curves(labelled: pd.DataFrame, metric: str, styles: dict[str, Style]) -> dict[str, str]:
    """Draw every arm against each thing that it has spent."""
    spent = [axis for axis in AXES if axis in labelled]
    rows = labelled.dropna(subset=[metric, *spent])
    means = mean_curves(rows, [metric, *(axis for axis in spent if axis != "step")])
    return {f"curve_{axis}": _svg(_curve(rows, means, axis, metric, styles)) for axis in spent}


def _curve(rows: pd.DataFrame, means: pd.DataFrame, axis: str, metric: str, styles: dict[str, Style]) -> Figure:
    """Draw a figure of every arm against what it has spent, a panel for each corpus."""
    groups = [group for _, group in rows.groupby("corpus", sort=False)]
    names = [str(arm) for arm in rows["arm"].unique()]
    short = max(map(len, names)) <= LABEL_WIDTH
    inside = short and all(group["arm"].nunique() <= MAX_LEGEND for group in groups)
    lines = 0
    if not inside and len(names) <= MAX_LISTED:
        lines = -(-sum(-(-len(name) // LEGEND_WIDTH) for name in names) // (2 if short else 1))
    width, height = stacked(len(groups))
    figure = Drawing(width, height + LEGEND_ROW * lines)
    panels = np.atleast_1d(figure.subplots(len(groups), 1, sharex=True))
    title, unit = AXES[axis]
    for axes, group in zip(panels, groups, strict=True):
        if group["folder"].nunique() <= MAX_SEED_LINES:
            _seeds(axes, group, axis, unit, metric, styles)
        for arm, mean in means[means["arm"].isin(group["arm"])].groupby("arm", sort=False):
            label = textwrap.fill(str(arm), LEGEND_WIDTH)
            axes.plot(mean[axis] / unit, mean[metric], linewidth=1.6, label=label, **styles[str(arm)], **_dots(mean))
        axes.set_ylabel(with_unit(metric))
        if inside:
            axes.legend(fontsize=8)
    panels[-1].set_xlabel(title)
    if lines:
        figure.legend(loc="outside lower center", ncols=2 if short else 1, fontsize=7)
    elif not inside:
        panels[0].set_title(f"{len(names)} arms", fontsize=9, loc="left")
    return figure


def _seeds(axes: Axes, rows: pd.DataFrame, axis: str, unit: float, metric: str, styles: dict[str, Style]) -> None:
    """Draw each seed of every arm faintly."""
    for arm, group in rows.groupby("arm", sort=False):
        if group["folder"].nunique() > 1:
            for _, run in group.groupby("folder", sort=False):
                colour = styles[str(arm)]["color"]
                axes.plot(run[axis] / unit, run[metric], color=colour, alpha=0.25, linewidth=0.8, **_dots(run))


def _dots(curve: pd.DataFrame) -> Style:
    """Return the markers of a curve: a line through one point would draw nothing."""
    return {"marker": "o", "markersize": 4} if len(curve) <= FEW_POINTS else {}


def mean_curves(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the mean over seeds of some columns, a row for each arm and each step that all of its seeds have.

    Seeds that ended early, or at another step, would else pull the mean where they come and go. Seeds that did not
    finish are left out as soon as one did.
    """
    finished = rows["state"] == "finished"
    used = rows[finished | ~finished.groupby(rows["arm"]).transform("any")]
    points = used.groupby(["arm", "step"], sort=False)
    num_seeds = points["folder"].nunique()
    wanted = num_seeds.index.get_level_values("arm").map(used.groupby("arm")["folder"].nunique())
    return points[list(columns)].mean()[num_seeds == wanted].reset_index()


def _weights(finished: pd.DataFrame) -> dict[str, Figure]:
    """Draw what the separation weight does, a figure for each metric, a line for each corpus."""
    if WEIGHT not in finished or finished[WEIGHT].nunique() < 2:
        return {}
    metrics = [name for name in ("val_ce", "val_bpb", "val_js") if name in finished]
    return {
        f"weight_{metric}": draw_sweep(finished.dropna(subset=[WEIGHT, metric]), metric, WEIGHT, "separation weight")
        for metric in metrics
    }


def _bars(finished: pd.DataFrame, column: str, label: str, unit: float, styles: dict[str, Style]) -> Figure:
    """Draw a cost of every arm: the mean as a bar, each seed as a dot."""
    costs = finished[column] / unit
    means = costs.groupby(finished["arm"], sort=False).mean()
    names = [textwrap.fill(str(arm), LABEL_WIDTH) for arm in means.index]
    places = {arm: place for place, arm in enumerate(means.index)}
    height = 0.8 + sum(0.1 + 0.15 * (1 + name.count("\n")) for name in names)
    figure = Drawing(SIZE[0], max(1.6, height))
    axes = figure.add_subplot()
    colours = [styles[str(arm)]["color"] for arm in means.index]
    axes.barh(range(len(names)), means, color=colours, alpha=0.55, height=0.65)
    axes.scatter(costs, finished["arm"].map(places), s=8, color=CURRENT_COLOUR, linewidths=0)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)
    return figure


def _intervals(finished: pd.DataFrame, metric: str, styles: dict[str, Style]) -> Figure:
    """Draw a metric of every arm that has it: the mean with its interval, each seed as a dot."""
    values = {
        str(arm): group.tolist() for arm, group in finished.dropna(subset=[metric]).groupby("arm", sort=False)[metric]
    }
    names = [textwrap.fill(arm, LABEL_WIDTH) for arm in values]
    height = 0.8 + sum(0.1 + 0.15 * (1 + name.count("\n")) for name in names)
    figure = Drawing(SIZE[0], max(1.6, height))
    axes = figure.add_subplot()
    for place, (arm, seeds) in enumerate(values.items()):
        estimate = t_interval(seeds)
        half = np.nan if estimate.high is None else estimate.high - estimate.mean
        colour = styles[arm]["color"]
        axes.errorbar([estimate.mean], [place], xerr=[half], color=colour, marker="o", markersize=4, capsize=3)
        axes.plot(seeds, [place] * len(seeds), ".", color=colour, alpha=0.45, markersize=5)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(with_unit(metric))
    return figure


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    # The prologue would end an HTML page's parsing of the picture.
    return text[text.index("<svg") :].replace(CURRENT_COLOUR, "currentColor")
