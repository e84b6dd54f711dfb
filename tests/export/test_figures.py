"""Figures from the records of evaluations."""

import json
from pathlib import Path
from typing import Any

import pytest

from nano_llm.errors import OutputError
from nano_llm.export.figures import read_figures


def record(folder: Path, name: str, *, step: int = 7, suite: str = "quick", **figures: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    told = {
        metric: {
            "value": 0.25,
            "low": 0.2,
            "high": 0.3,
            "n": 1200,
            "num_clusters": 1200,
            "unit": "share",
            "better": "higher",
            "meaning": "of a | b",
        }
        | figure
        for metric, figure in figures.items()
    }
    (folder / f"{name}.json").write_text(json.dumps({"suite": suite, "step": step, "figures": told, "details": {}}))


def test_a_figure_is_told_with_its_interval_and_meaning(tmp_path: Path) -> None:
    record(tmp_path / "quick", "heads", accuracy={}, rate={"low": None, "high": None, "num_clusters": 40})
    accuracy, rate = read_figures([tmp_path / "quick"], 7)
    assert (accuracy.title, accuracy.value, accuracy.interval) == ("accuracy ↑", "0.2500", "[0.2000, 0.3000]")
    assert (accuracy.n, accuracy.unit, accuracy.suite) == ("1,200", "share", "quick")
    assert accuracy.meaning == r"of a \| b", "a bar would end the cell of a table"
    assert (rate.interval, rate.is_clustered, accuracy.is_clustered) == ("-", True, False)


def test_the_full_suite_wins_where_both_have_a_figure(tmp_path: Path) -> None:
    record(tmp_path / "quick", "heads", bpb={}, other={})
    record(tmp_path / "full", "heads", suite="full", bpb={"value": 0.5})
    found = read_figures([tmp_path / "quick", tmp_path / "full"], 7)
    assert [(figure.title, figure.value, figure.suite) for figure in found] == [
        ("bpb ↑", "0.5000", "full"),
        ("other ↑", "0.2500", "quick"),
    ]


def test_records_of_another_step_and_other_files_are_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    record(folder, "heads", step=6, stale={})
    record(folder, "nothing", unknown={"value": None})
    (folder / "divergence.json").write_text('{"step": 7, "by_position": []}')
    (folder / "against-other.json").write_text('{"a": {"step": 7}, "b": {"step": 7}, "figures": {"bpb": {"a": 1}}}')
    (folder / "list.json").write_text("[]")
    assert read_figures([folder, tmp_path / "missing"], 7) == []


@pytest.mark.parametrize(
    "content",
    [
        '{"suite": "qui',
        '{"suite": "quick", "figures": {}}',
        '{"suite": "quick", "step": 7, "figures": []}',
        '{"suite": "quick", "step": 7, "figures": {"bpb": {"low": 0.1}}}',
        '{"suite": "quick", "step": 7, "figures": {"bpb": {"value": "much", "low": 0.1, "high": 0.2, "n": 9, '
        '"num_clusters": 9, "unit": "bits a byte", "better": "lower", "meaning": "of a test"}}}',
    ],
    ids=["torn", "no step", "a list", "no value", "a word"],
)
def test_a_damaged_record_is_refused_by_its_path(tmp_path: Path, content: str) -> None:
    (tmp_path / "heads.json").write_text(content)
    with pytest.raises(OutputError, match=r"heads\.json is a damaged record .*Evaluate again"):
        read_figures([tmp_path], 7)
