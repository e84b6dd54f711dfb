"""Fixtures of whole runs."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tiny_run import TINY_RUN, Run


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(tmp_path: Path, cache: Path) -> Run:
    """Carry out a tiny run below ``tmp_path / outputs``; further overrides win."""
    from nano_llm.config.compose import compose_config
    from nano_llm.session import run_session

    def carry_out(*overrides: str, outputs: str = "outputs") -> dict[str, Any] | None:
        chosen = [*TINY_RUN, f"paths.outputs={tmp_path / outputs}", f"paths.cache={cache}", *overrides]
        return run_session(compose_config(chosen), chosen, Console(quiet=True))

    return carry_out
