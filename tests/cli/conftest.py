"""Checkpoints of untrained models, for commands that let a model write."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from nano_llm import checkpoint
from untrained import untrained


def save_untrained(folder: Path, *overrides: str, words: Sequence[str] = ()) -> Path:
    """Save a model that nobody has trained."""
    found = untrained(*overrides, words=words)
    checkpoint.save(folder, config=found.config, tokenizer=found.tokenizer, model=found.model(), metrics={})
    return folder


@pytest.fixture(scope="session")
def two_heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("two_heads") / "best", "model=tarnet")


@pytest.fixture(scope="session")
def explicit_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with two heads and a word that is redacted."""
    return save_untrained(tmp_path_factory.mktemp("explicit_words") / "best", "model=tarnet", words=["fucking"])


@pytest.fixture(scope="session")
def one_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is told the outcome by tags."""
    return save_untrained(tmp_path_factory.mktemp("one_head") / "best", "model=vanilla")


@pytest.fixture(scope="session")
def one_law(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is told no outcome."""
    return save_untrained(tmp_path_factory.mktemp("one_law") / "best", "model=vanilla", "data.conditioning=command")
