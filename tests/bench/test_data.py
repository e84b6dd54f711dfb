"""A cold and a warm start, each in a process of its own; times are never asserted."""

import math
from pathlib import Path

import pytest

from nano_llm.bench.data import PHASES, measure
from nano_llm.bench.harness import Way
from nano_llm.errors import DataError

CORPUS = ["data=scm", "data.num_train=16", "data.num_validation=4", "data.num_test=4"]


def test_a_cold_start_has_phases_and_a_warm_one_has_none(machine: Way) -> None:
    measured = measure(CORPUS, 1, ceilings=machine)
    cold, warm = measured.rows
    phases = {f"{phase}_seconds" for phase in PHASES}
    always = {"start", "process_seconds", "seconds", "peak_mebibytes"}
    assert cold["start"] == "cold"
    assert set(cold) == always | phases
    assert warm["start"] == "warm"
    assert set(warm) == always
    figures = [value["median"] for row in (cold, warm) for value in row.values() if isinstance(value, dict)]
    assert all(math.isfinite(value) and value >= 0 for value in figures)
    assert 0 < cold["peak_mebibytes"]["median"] < 4096
    assert sum(cold[phase]["median"] for phase in phases) <= cold["seconds"]["median"]
    assert len(measured.table().splitlines()) == 4


def test_a_corpus_that_is_not_there_is_told(machine: Way, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(DataError, match=f"cannot be prepared.*{missing}.*is not a folder"):
        measure(["data=imdb"], 1, missing, machine)
