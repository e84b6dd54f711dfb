"""The comparison beside published figures, and differences that cannot be taken."""

import json
from pathlib import Path

import pandas as pd
import pytest
from study_files import write_run

from nano_llm.report.arms import with_labels
from nano_llm.report.collect import collect
from nano_llm.report.report import write_report
from nano_llm.report.table import compare, comparison_table, missing_differences

TWO_HEADS = "counterfactual_repeat_20m"


def comparison(study: Path) -> pd.DataFrame:
    return comparison_table(compare(with_labels(collect(study).runs)))


def row_of(study: Path) -> dict[str, str]:
    (row,) = comparison(study).to_dict("records")
    return row


def test_every_published_figure_stands_beside_ours(tmp_path: Path) -> None:
    """Ours: objective 1.64 at the best checkpoint, 2.6 at the last validation. Published: 1.650 and 1.664."""
    write_run(
        tmp_path, TWO_HEADS, protocol="reference", width=512, parameters=20_040_768, val_ce=1.66, val_objective=1.64,
        val_ppl=5.26,
    )  # fmt: skip
    row = row_of(tmp_path)
    titles = list(row)
    published = {
        "epochs": ["published epochs"],
        "val_ce ↓": ["published best CE", "ours - published best CE"],
        "final val_ce ↓": ["published final CE", "ours - published final CE"],
        "val_ppl ↓": ["published PPL"],
        "minutes of training ↓": ["published hours"],
    }
    for ours, theirs in published.items():
        place = titles.index(ours) + 1
        assert titles[place : place + len(theirs)] == theirs
    assert [row[title] for titles in published.values() for title in titles] == [
        "40", "1.650", "-0.0100", "1.664", "+0.9360", "5.21", "4.8",
    ]  # fmt: skip


def test_published_figures_are_there_before_a_seed_has_finished(tmp_path: Path) -> None:
    write_run(tmp_path, TWO_HEADS, protocol="reference", width=512, state="running")
    row = row_of(tmp_path)
    assert (row["published best CE"], row["published hours"], row["val_ce ↓"]) == ("1.650", "4.8", "- (0/1)")
    assert "ours - published best CE" not in row
    assert "1.650" in write_report(tmp_path).text


@pytest.mark.parametrize(
    "other", [{"name": "tarnet"}, {"protocol": "fair"}, {"width": 128}, {"parameters": 1000}], ids=str
)
def test_another_run_has_no_published_figures(tmp_path: Path, other: dict[str, object]) -> None:
    same = {"name": TWO_HEADS, "protocol": "reference", "width": 512, "parameters": 20_040_768}
    write_run(tmp_path, val_ce=1.66, **same | other)
    assert "published" not in " ".join(row_of(tmp_path))


def test_a_baseline_without_a_finished_seed_is_told(tmp_path: Path) -> None:
    write_run(tmp_path, "base", "aaaaaaaaaaaa", 0, state="failed", error="no")
    for name, run_id in (("one", "b" * 12), ("two", "c" * 12)):
        write_run(tmp_path, name, run_id, 0, val_bpb=1.0)
    report = write_report(tmp_path, baseline="base")
    note = "No differences for one, two: none of their seeds has finished for the baseline base"
    assert note in report.text
    assert note in report.page.read_text()
    assert "No differences" not in write_report(tmp_path, baseline="one").text


def test_an_arm_that_shares_no_seed_with_the_baseline_is_told(tmp_path: Path) -> None:
    for name, run_id, seed in (("base", "a" * 12, 0), ("same", "b" * 12, 0), ("other", "c" * 12, 1)):
        write_run(tmp_path, name, run_id, seed, val_bpb=1.0)
    (note,) = missing_differences(with_labels(collect(tmp_path).runs), "base")
    assert note.startswith("No differences for other:")


def test_arms_are_not_told_apart_by_who_shows_them(tmp_path: Path) -> None:
    for run_id, name in (("a" * 12, "first"), ("b" * 12, "second")):
        cell = write_run(tmp_path, "arm", run_id, 0, weight=0.1 if name == "first" else 0.2) / "cell.json"
        frozen = json.loads(cell.read_text())
        frozen["config"]["tracker"] = {"wandb": {"name": name}}
        cell.write_text(json.dumps(frozen))
    labels = set(with_labels(collect(tmp_path).runs)["arm"])
    assert labels == {"arm weight=0.1", "arm weight=0.2"}


def test_a_lone_arm_misses_no_difference(tmp_path: Path) -> None:
    write_run(tmp_path, val_bpb=1.0)
    assert missing_differences(with_labels(collect(tmp_path).runs), "arm") == []
