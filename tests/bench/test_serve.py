"""A real server, its clients and its writer alone; times are never asserted."""

import math
from pathlib import Path

import pytest

from nano_llm.bench.harness import Way
from nano_llm.bench.serve import NUM_ROWS, measure, server
from nano_llm.errors import ServingError


@pytest.mark.slow
def test_every_way_has_finite_figures(machine: Way) -> None:
    measured = measure(["tiny"], 1, 6, machine)
    keys = [(row["way"], row["texts"]) for row in measured.rows]
    assert keys == [("server", 1), ("server", NUM_ROWS), ("writer", 1), ("writer", NUM_ROWS)]
    for row in measured.rows:
        assert ("first_token_milliseconds" in row) == (row["way"] == "server")
        figures = [value["median"] for value in row.values() if isinstance(value, dict)]
        assert all(math.isfinite(value) and value >= 0 for value in figures)
    assert measured.rows[0]["speed_over_one_text"]["median"] == 1
    assert measured.rows[2]["speed_over_writer"]["median"] == 1
    assert len(measured.table().splitlines()) == 6


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="did not start"), server(tmp_path / "best"):
        pass
