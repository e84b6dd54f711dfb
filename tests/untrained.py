"""Models of the structural corpus that nobody has trained, for tests of what is done with a checkpoint."""

from collections.abc import Sequence

import torch

from nano_llm import checkpoint
from nano_llm.checkpoint import Checkpoint
from nano_llm.config.compose import compose_config
from nano_llm.config.schema import ScmConfig, TwoOutcomeConfig
from nano_llm.data import scm
from nano_llm.data.template import Template
from nano_llm.data.tokenizer import Tokenizer, words_of


def untrained(*overrides: str, words: Sequence[str] = ()) -> Checkpoint:
    """A tiny model whose weights, those of the deltas included, are drawn by chance.

    It knows some words more than its corpus has.
    """
    config = compose_config(["data=scm", "scale=tiny", *overrides])
    assert isinstance(config.data, ScmConfig)
    torch.manual_seed(0)
    law = scm.review_law(config.data)
    template = Template.of(config.data, 2 if isinstance(config.model, TwoOutcomeConfig) else 1)
    prompts = [word for k in (0, 1) for word in words_of(template.prompt(k, "drama"))]
    tokenizer = Tokenizer.of_words([*law.vocabulary, *prompts, *law.topics, *words], 1024)
    model = checkpoint.build_model(config, tokenizer.vocab_size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return Checkpoint(config, tokenizer, model.state_dict(), {"step": 0}, training=None)
