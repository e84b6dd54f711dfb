"""The comparison table and the paired differences, as numbers and as text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nano_llm.metrics import METRICS
from nano_llm.report.arms import corpora
from nano_llm.report.published import published_row
from nano_llm.report.statistics import ENOUGH_SEEDS, Estimate, holm, paired_differences, t_interval, verdict

MEASURED = (
    "val_ce", "final_val_ce", "val_ppl", "val_bpb", "val_js", "test_bpb", "posterior_accuracy", "posterior_accuracy_do",
    "pair_order", "cf_kl", "factual_kl", "token_pehe", "token_pehe_decided", "js", "js_ratio", "confounding_bias",
    "tokens_per_second", "training_seconds",
)  # fmt: skip
OBJECTIVES = ("val_objective", "final_val_objective")
COUNTED = ("epochs", "steps", "parameters")
DESCRIBING = (
    "name", "state", "conditioning", "settings.model.trunk.type", "settings.model.readout.type",
    "settings.model.separation.weight", "settings.protocol.name", "settings.scale.d_model",
)  # fmt: skip
"""Columns of the runs that say what an arm is."""
COMPARED = ("val_bpb", "test_bpb", "cf_kl", "token_pehe")
TRUNKS = {"VanillaTrunkConfig": "vanilla", "InterblockTrunkConfig": "interblock"}
PUBLISHED_BESIDE = {
    "epochs": ("published epochs",),
    "val_ce": ("published best CE", "ours - published best CE"),
    "final_val_ce": ("published final CE", "ours - published final CE"),
    "val_ppl": ("published PPL",),
    "training_seconds": ("published hours",),
}
"""Column of ours -> the columns of the reference's figures that stand beside it."""
PUBLISHED_FORMATS = {
    "published epochs": "d", "published best CE": ".3f", "ours - published best CE": "+.4f",
    "published final CE": ".3f", "ours - published final CE": "+.4f", "published PPL": ".2f", "published hours": ".1f",
}  # fmt: skip
"""The digits that were published."""
READOUTS = {
    "TiedReadoutConfig": "tied",
    "MlpReadoutConfig": "mlp",
    "TwoHeadReadoutConfig": "two_head",
    "SymmetricReadoutConfig": "symmetric",
}


@dataclass(frozen=True)
class Arm:
    """A row of the comparison."""

    label: str
    facts: dict[str, object]
    """What the arm is: stack, readout, conditioning, weight, epochs, steps, parameters, published figures."""
    num_cells: int
    estimates: dict[str, Estimate]
    """Over the seeds that finished; empty when none has."""


def compare(runs: pd.DataFrame) -> list[Arm]:
    """Return an arm for each label, in the order of the runs."""
    needed = runs[[name for name in (*DESCRIBING, *COUNTED, *MEASURED, *OBJECTIVES) if name in runs]]
    return [_arm(str(label), group) for label, group in needed.groupby(runs["arm"], sort=False)]


def _arm(label: str, group: pd.DataFrame) -> Arm:
    finished = group[group["state"] == "finished"]
    estimates = {}
    for name in MEASURED:
        values = _values(finished, name)
        if len(values):
            estimates[name] = t_interval(values)
    return Arm(label, _facts(group, finished), len(group), estimates)


def _facts(group: pd.DataFrame, finished: pd.DataFrame) -> dict[str, object]:
    # A seed that failed early may have left no settings; another one of its arm has them.
    first = group.loc[group.notna().sum(axis="columns").idxmax()]
    facts: dict[str, object] = {
        "stack": TRUNKS.get(first.get("settings.model.trunk.type")),
        "readout": READOUTS.get(first.get("settings.model.readout.type")),
        "conditioning": first.get("conditioning"),
        "weight": first.get("settings.model.separation.weight"),
        **{name: _mean(finished, name) for name in COUNTED},
        **_published(first, finished),
    }
    return {name: value for name, value in facts.items() if not _is_missing(value)}


def _published(first: pd.Series, finished: pd.DataFrame) -> dict[str, object]:
    """Return what the reference published of an arm, and by how much ours is above it."""
    parameters = _mean(finished, "parameters")
    size = None if np.isnan(parameters) else parameters
    row = published_row(
        str(first["name"]), first.get("settings.protocol.name"), first.get("settings.scale.d_model"), size
    )
    if row is None:
        return {}
    return {
        "published epochs": row.epochs,
        "published best CE": row.best_ce,
        "ours - published best CE": _mean(finished, "val_objective", "val_ce") - row.best_ce,
        "published final CE": row.final_ce,
        "ours - published final CE": _mean(finished, "final_val_objective", "final_val_ce") - row.final_ce,
        "published PPL": row.ppl,
        "published hours": row.hours,
    }


def _values(runs: pd.DataFrame, name: str) -> list[float]:
    if name not in runs:
        return []
    values = runs[name].to_numpy(dtype=float)
    found: list[float] = values[~np.isnan(values)].tolist()
    return found


def _mean(runs: pd.DataFrame, *names: str) -> float:
    """Return the mean of the first figure that the runs have; nan without one."""
    found = (values for name in names if (values := _values(runs, name)))
    return float(np.mean(next(found, [float("nan")])))


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def comparison_table(arms: Sequence[Arm], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the comparison as text; columns in which no arm has anything are left out.

    Args:
        arms: The rows.
        columns: Names of the columns wanted beside ``arm`` and ``n``; None: all.
    """
    rows = []
    for arm in arms:
        row = {"arm": arm.label, "n": f"{_num_finished(arm)}/{arm.num_cells}"}
        row |= {name: _fact(name, value) for name, value in arm.facts.items()}
        row |= {name: _estimate(name, estimate) for name, estimate in arm.estimates.items()}
        if not arm.estimates:
            row |= {"val_ce": f"- (0/{arm.num_cells})"}
        rows.append(row)
    facts = dict.fromkeys(name for arm in arms for name in arm.facts if "published" not in name)
    ours = ["arm", *facts, "n", *MEASURED]
    ordered = [column for name in ours for column in (name, *PUBLISHED_BESIDE.get(name, ()))]
    frame = pd.DataFrame(rows).reindex(columns=ordered).dropna(axis="columns", how="all").fillna("")
    if columns is not None:
        frame = frame[[name for name in ("arm", "n", *columns) if name in frame]]
    return frame.rename(columns={name: title_of(name) for name in frame})


def _num_finished(arm: Arm) -> int:
    return max((estimate.n for estimate in arm.estimates.values()), default=0)


def title_of(name: str) -> str:
    """Return the title of a column."""
    if name == "final_val_ce":
        return "final val_ce ↓"
    if name == "training_seconds":
        return "minutes of training ↓"
    return METRICS[name].title(name) if name in METRICS else name


def _fact(name: str, value: object) -> str:
    if name in PUBLISHED_FORMATS:
        return format(value, PUBLISHED_FORMATS[name])
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return str(value)


def _estimate(name: str, estimate: Estimate) -> str:
    scale, digits = {"training_seconds": (1 / 60, 1), "tokens_per_second": (1.0, 0)}.get(name, (1.0, 4))
    text = f"{estimate.mean * scale:,.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} [{estimate.low * scale:,.{digits}f}, {estimate.high * scale:,.{digits}f}]"


def numbers_table(arms: Sequence[Arm]) -> pd.DataFrame:
    """Return the comparison as numbers: a row for each arm and figure."""
    rows = [
        {
            "arm": arm.label,
            "metric": name,
            "unit": METRICS[name.removeprefix("final_")].unit,
            "n": estimate.n,
            "cells": arm.num_cells,
            "mean": estimate.mean,
            "low": estimate.low,
            "high": estimate.high,
        }
        for arm in arms
        for name, estimate in arm.estimates.items()
    ]
    return pd.DataFrame(rows, columns=["arm", "metric", "unit", "n", "cells", "mean", "low", "high"])


def differences_table(runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return the paired differences of every arm to the baseline of its corpus, a row for each arm and figure.

    Args:
        runs: With their labels.
        baseline: Label of an arm; where it has no part in a corpus, the first arm there stands for it.
    """
    rows: list[dict[str, object]] = []
    for metric in COMPARED:
        for group, reference in _by_corpus(runs, baseline):
            if metric in group:
                rows += _differences(group, metric, reference)
    return pd.DataFrame(rows)


def missing_differences(runs: pd.DataFrame, baseline: str) -> list[str]:
    """Say which arms have results, but no seed in common with their baseline."""
    notes = []
    finished = runs[runs["state"] == "finished"]
    for group, reference in _by_corpus(runs, baseline):
        seeds = finished[finished.index.isin(group.index)].groupby("arm", sort=False)["seed"].agg(set)
        theirs = seeds.get(reference, set())
        alone = [str(arm) for arm, ours in seeds.items() if arm != reference and not ours & theirs]
        if alone:
            why = f"none of their seeds has finished for the baseline {reference}"
            notes.append(f"No differences for {', '.join(alone)}: {why}; --baseline names another one.")
    return notes


def _by_corpus(runs: pd.DataFrame, baseline: str) -> list[tuple[pd.DataFrame, str]]:
    """Return the runs on each corpus, and the label of the baseline there."""
    groups = [group for _, group in runs.groupby(corpora(runs), sort=False)]
    return [(group, baseline if baseline in set(group["arm"]) else str(group["arm"].iloc[0])) for group in groups]


def _differences(runs: pd.DataFrame, metric: str, baseline: str) -> list[dict[str, object]]:
    table = runs.pivot_table(index="seed", columns="arm", values=metric, sort=False)
    if baseline not in table:
        return []
    paired = {str(arm): (table[arm] - table[baseline]).dropna().tolist() for arm in table if arm != baseline}
    paired = {arm: values for arm, values in paired.items() if values}
    made = dict(zip(paired, paired_differences(list(paired.values())), strict=True))
    tested = {arm: d.p for arm, d in made.items() if d.p is not None and d.n >= ENOUGH_SEEDS}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return [
        {
            "arm": arm,
            "baseline": baseline,
            "metric": metric,
            "n": difference.n,
            "difference": f"{difference.mean:+.4f}",
            "95 % interval": _interval(difference.low, difference.high),
            "p": _p(difference.p),
            "p (Holm)": _p(adjusted.get(arm)),
            "verdict": verdict(difference, adjusted.get(arm)),
        }
        for arm, difference in made.items()
    ]


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"[{low:+.4f}, {high:+.4f}]"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def failures_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs without a result, with the reason and where to read on."""
    lost = runs[runs["state"] != "finished"]
    return pd.DataFrame(
        {
            "run": lost["arm"].astype(str) + " seed " + lost["seed"].astype(str),
            "state": lost["state"],
            "reason": lost["reason"].fillna(""),
            "log": lost["log"].fillna(""),
        }
    )
