"""What arms are called: their name, and where several share one, the settings in which these differ."""

import pandas as pd

PREFIX = "settings."
CORPUS = ("settings.data.type", "settings.data.effect")
"""Arms are set against each other where these agree: where there is no effect, nothing is as where there is one."""

LABELS = ("name", "id", "seed", "study", "type")
"""Settings, by the last part of their name, that tell nothing of an arm's numbers."""


def with_labels(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with a column ``arm``, a label that no two arms share."""
    # A seed that failed early may have left no settings; another one of its arm has them.
    arms = runs[["name", "id", *_varying(runs)]].groupby(["name", "id"], sort=False).first()
    labels: dict[tuple[str, str], str] = {}
    for name, group in arms.groupby("name", sort=False):
        titles = varying_settings(group)
        for key, arm in zip(group.index, group[list(titles)].itertuples(index=False, name=None), strict=True):
            values = [f"{title}={_shown(value)}" for title, value in zip(titles.values(), arm, strict=True)]
            labels[key] = " ".join([str(name), *values])
    taken = pd.Series(labels)
    shared = taken[taken.duplicated(keep=False)]
    for name, run_id in shared.index:
        labels[name, run_id] = f"{labels[name, run_id]} {run_id[:6]}"
    arm = [labels[name, run_id] for name, run_id in zip(runs["name"], runs["id"], strict=True)]
    return runs.assign(arm=arm)


def corpora(runs: pd.DataFrame) -> pd.Series:
    """Return what tells the corpus of each run from others, as text."""
    settings = runs[[column for column in CORPUS if column in runs]]
    return (
        settings.astype("string").fillna("").agg(" ".join, axis=1)
        if len(settings.columns)
        else pd.Series("", runs.index)
    )


def varying_settings(arms: pd.DataFrame) -> dict[str, str]:
    """Return the columns of settings in which arms differ, each with its shortest clear title."""
    columns = _varying(arms)
    titles = {column: column.rpartition(".")[2] for column in columns}
    if len(set(titles.values())) < len(titles):
        titles = {column: column.removeprefix(PREFIX) for column in columns}
    return titles


def _varying(arms: pd.DataFrame) -> list[str]:
    """Return the columns of settings that say something of an arm and are not the same for all."""
    return [
        column
        for column in arms.columns
        if column.startswith(PREFIX)
        and column.rpartition(".")[2] not in LABELS
        and not column.startswith((f"{PREFIX}paths.", f"{PREFIX}tracker."))
        and len(set(map(str, arms[column].dropna()))) > 1
    ]


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
