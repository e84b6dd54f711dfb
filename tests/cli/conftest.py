"""Checkpoints of untrained models, for commands that let a model write."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from nano_llm import checkpoint
from nano_llm.config.compose import compose_config
from nano_llm.config.schema import ScmConfig
from nano_llm.data import scm
from nano_llm.data.template import Template
from nano_llm.data.tokenizer import Tokenizer, words_of


def save_untrained(folder: Path, *overrides: str, words: Sequence[str] = ()) -> Path:
    """Save a tiny model of the structural corpus whose weights, those of the deltas included, are drawn by chance.

    It knows some words more than its corpus has.
    """
    config = compose_config(["data=scm", "scale=tiny", *overrides])
    assert isinstance(config.data, ScmConfig)
    torch.manual_seed(0)
    law = scm.review_law(config.data)
    num_outcomes = 2 if config.model.name == "tarnet" else 1
    template = Template.of(config.data, num_outcomes)
    prompts = [word for k in (0, 1) for word in words_of(template.prompt(k, "drama"))]
    tokenizer = Tokenizer.of_words([*law.vocabulary, *prompts, *law.topics, *words], 1024)
    model = checkpoint.build_model(config, tokenizer.vocab_size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    checkpoint.save(folder, config=config, tokenizer=tokenizer, model=model, metrics={})
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
