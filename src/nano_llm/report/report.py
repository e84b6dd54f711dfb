"""The report of a study: tables, figures, one page. The same files give the same bytes."""

import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nano_llm.errors import OutputError
from nano_llm.files import explained_writes, write_bytes, write_text
from nano_llm.metrics import METRICS
from nano_llm.report.arms import with_labels
from nano_llm.report.collect import Study, collect
from nano_llm.report.figures import draw
from nano_llm.report.page import render
from nano_llm.report.table import (
    Arm,
    compare,
    comparison_table,
    differences_table,
    failures_table,
    missing_differences,
    numbers_table,
    title_of,
)

SHOWN = (
    "val_ce", "val_bpb", "test_bpb", "val_js", "cf_kl", "training_seconds", "published best CE",
    "ours - published best CE",
)  # fmt: skip
"""Columns of the table for a terminal."""


@dataclass(frozen=True)
class Report:
    """What was written, and its essence for a terminal."""

    folder: Path
    page: Path
    text: str


def write_report(study: Path, to: Path | None = None, baseline: str | None = None) -> Report:
    """Collect the runs of a study and write tables, figures and the page.

    Args:
        study: Folder of the study; only its files are read.
        to: Folder to write to; None: ``report`` inside the study.
        baseline: Label of the arm that the others are compared to; None: the first.

    Raises:
        OutputError: There is nothing to report, no such baseline, or the folder cannot be written.
    """
    collected = collect(study)
    runs = with_labels(collected.runs)
    arms = compare(runs)
    baseline = _baseline(arms, baseline)
    differences = differences_table(runs, baseline)
    failures = failures_table(runs)
    results = _results(runs)
    content = results.to_csv(index=False, lineterminator="\n")
    counts = _counts(runs)
    footer = f"Result set {hashlib.sha256(content.encode()).hexdigest()[:12]}. {_compute(runs)}"
    folder = study / "report" if to is None else to
    with explained_writes(folder):
        (folder / "figures").mkdir(parents=True, exist_ok=True)

    figures = draw(runs, collected.curves)
    for name, svg in figures.items():
        write_text(folder / "figures" / f"{name}.svg", svg.replace("currentColor", "#333333"))
    write_text(folder / "results.csv", content)
    write_bytes(folder / "results.parquet", results.to_parquet(index=False))
    comparison = comparison_table(arms)
    write_text(folder / "table.csv", numbers_table(arms).to_csv(index=False, lineterminator="\n"))
    write_text(folder / "table.tex", _latex(comparison))
    warnings = [*missing_differences(runs, baseline), *_warnings(runs)]
    markdown = _markdown(comparison, differences, failures, [counts, *warnings, *_notes(arms), footer])
    write_text(folder / "table.md", markdown)
    reproduce = _reproduce(collected, runs)
    write_text(folder / "REPRODUCE.md", f"# {study.resolve().name} again\n\n```bash\n{reproduce}\n```\n")
    page = render(
        title=study.resolve().name,
        counts=counts,
        warnings=warnings,
        notes=_notes(arms),
        comparison=comparison,
        differences=differences,
        failures=failures,
        figures=figures,
        reproduce=reproduce,
        footer=footer,
    )
    write_text(folder / "index.html", page)
    shown = comparison_table(arms, SHOWN)
    return Report(folder, folder / "index.html", _markdown(shown, differences, failures, [counts, *warnings]))


def _baseline(arms: list[Arm], wanted: str | None) -> str:
    labels = [arm.label for arm in arms]
    if wanted is not None and wanted not in labels:
        raise OutputError(f"--baseline={wanted}: no such arm; there are {', '.join(labels)}.")
    return labels[0] if wanted is None else wanted


def _results(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the long table: a row for each run and figure, and one without a figure for a run without a result."""
    keys = ["arm", "id", "name", "seed", "state", "reason"]
    figures = [
        name
        for name in runs.columns
        if name not in (*keys, "folder", "commit", "dirty", "fingerprint", "conditioning", "log", "device")
        and not name.startswith("settings.")
    ]
    long = runs.melt(id_vars=keys, value_vars=figures, var_name="metric", value_name="value").dropna(subset=["value"])
    lost = runs.loc[~runs["folder"].isin(_with_figures(runs, figures)), keys]
    table = pd.concat([long.astype({"value": float}), lost], ignore_index=True)
    return table.astype({"seed": str}).sort_values(["arm", "seed", "metric"], kind="stable", ignore_index=True)


def _with_figures(runs: pd.DataFrame, figures: list[str]) -> pd.Series:
    folders: pd.Series = runs.loc[runs[figures].notna().any(axis="columns"), "folder"]
    return folders


def _counts(runs: pd.DataFrame) -> str:
    states = runs["state"].value_counts(sort=False)
    numbers = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    return f"{runs['arm'].nunique()} arms, {len(runs)} runs: {numbers}"


def _compute(runs: pd.DataFrame) -> str:
    """Say what the results have cost."""
    if "training_seconds" not in runs:
        return "No run has finished."
    devices = ", ".join(sorted(runs["device"].dropna().unique()))
    return f"Compute: {runs['training_seconds'].sum() / 3600:.2f} hours of training on {devices}."


def _warnings(runs: pd.DataFrame) -> list[str]:
    """Say what makes rows hard to compare."""
    found = []
    commits = sorted(runs["commit"].dropna().unique())
    if len(commits) > 1:
        found.append(f"The runs come from different code: commits {', '.join(commit[:8] for commit in commits)}.")
    if runs["dirty"].eq(True).any():
        found.append("Some runs were made with uncommitted changes of the code.")
    devices = runs["device"].dropna().unique() if "device" in runs else []
    if len(devices) > 1:
        found.append(f"The runs were made on different devices ({', '.join(sorted(devices))}): times do not compare.")
    return found


def _notes(arms: list[Arm]) -> list[str]:
    """Explain the columns."""
    names = dict.fromkeys(name for arm in arms for name in arm.estimates)
    meanings = "; ".join(_meaning(name) for name in names if name in METRICS)
    notes = [
        "Mean over seeds [95 % t-interval]; a single seed has no interval. n: finished of planned seeds. Figures are "
        f"those of the best checkpoint, final val_ce is the last validation's. {meanings}."
    ]
    if any("published best CE" in arm.facts for arm in arms):
        notes.append(
            "Published: one seed of the reference system; its hours are wall time. For two heads its CE includes the "
            "separation term, so our val_objective is set against it; its PPL is the exponential of its best CE."
        )
    return notes


def _meaning(name: str) -> str:
    """Explain a column under its title; that of time already names its unit."""
    metric = METRICS[name]
    unit = f" ({metric.unit})" if metric.unit and name != "training_seconds" else ""
    return f"{title_of(name).removesuffix(metric.better.value).strip()}: {metric.meaning}{unit}"


def _reproduce(collected: Study, runs: pd.DataFrame) -> str:
    """Return the commands that made the runs, and what they ran on."""
    commands = [shlex.join(["python", "-m", "nano_llm.run", "-m", *words]) for words in collected.commands]
    return "\n".join([*_origins(runs, "commit", "commit"), *_origins(runs, "fingerprint", "data"), *commands])


def _origins(runs: pd.DataFrame, column: str, word: str) -> list[str]:
    """Return a comment for each commit or fingerprint of the data, and one for the runs whose files name none."""
    lines = [f"# {word} {value}" for value in sorted(runs[column].dropna().unique())]
    begun = runs.loc[runs["state"] != "queued", column]
    num_unknown = int(begun.isna().sum())
    return [*lines, f"# {word} not recorded: {num_unknown} of {len(begun)} runs"] if num_unknown else lines


def _latex(comparison: pd.DataFrame) -> str:
    """Return the comparison for the package booktabs, with arrows that every LaTeX engine knows."""
    note = "% Mean over seeds [95 % t-interval]; n: finished of planned seeds. Needs the package booktabs.\n"
    text: str = comparison.to_latex(index=False, escape=True)
    return note + text.replace("↓", r"$\downarrow$").replace("↑", r"$\uparrow$")


def _markdown(comparison: pd.DataFrame, differences: pd.DataFrame, failures: pd.DataFrame, notes: list[str]) -> str:
    parts = [_table(comparison)]
    if not differences.empty:
        title = "Paired differences to the baseline (below zero is better):"
        parts += [title, _table(differences)]
    if not failures.empty:
        parts += ["Without a result:", _table(failures)]
    return "\n\n".join([*parts, *notes]) + "\n"


def _table(frame: pd.DataFrame) -> str:
    """Return a table in Markdown; a bar inside a cell would end it."""
    text: str = frame.astype(str).replace(r"\|", r"\\|", regex=True).to_markdown(index=False, disable_numparse=True)
    return text
