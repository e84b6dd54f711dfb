"""Fixtures of whole runs, and how many examples a property is tried with."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import is_hypothesis_test
from rich.console import Console

import properties
from killed_writes import carry_out, output
from tiny_run import TINY_RUN, Run

properties.load_profile()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every property, so that ``-m fuzz`` selects them."""
    for item in items:
        if isinstance(item, pytest.Function) and is_hypothesis_test(item.obj):
            item.add_marker("fuzz")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a tiny run of two heads has been carried out: ``outputs`` and ``cache``; to be copied."""
    place = tmp_path_factory.mktemp("trained") / "place"
    place.mkdir()
    ended = carry_out(place, "run", *TINY_RUN, "paths.outputs=outputs", "paths.cache=cache")
    assert ended.status == 0, output(place)
    return place


@pytest.fixture
def run(tmp_path: Path, cache: Path) -> Run:
    """Carry out a tiny run below ``tmp_path / outputs``; further overrides win."""
    from nano_llm.config.compose import compose_config
    from nano_llm.session import run_session

    def carry_out(*overrides: str, outputs: str = "outputs") -> dict[str, Any] | None:
        chosen = [*TINY_RUN, f"paths.outputs={tmp_path / outputs}", f"paths.cache={cache}", *overrides]
        return run_session(compose_config(chosen), chosen, Console(quiet=True))

    return carry_out
