"""What metrics need of a corpus: said in a word for the list of metrics, and checked before anything is scored."""

from collections.abc import Callable
from dataclasses import dataclass

from nano_llm.config.schema import DataConfig, ImdbConfig, ScmConfig, ScmTopic, TokenizerKind


@dataclass(frozen=True)
class Need:
    """What a group of metrics needs."""

    corpora: str
    """That serve, such as ``scm``."""
    lacking: Callable[[DataConfig], str | None]
    """Says why a corpus does not serve, and what would; None of one that does."""


def _no_law(data: DataConfig) -> str | None:
    if not isinstance(data, ScmConfig):
        return "the law of the corpus is not known; train with data=scm"
    if data.max_review_chars is not None:
        return "the law gives whole reviews; train with data.max_review_chars=null"
    return None


def _no_law_of_tokens(data: DataConfig) -> str | None:
    if (reason := _no_law(data)) is not None:
        return reason
    if data.tokenizer.kind is not TokenizerKind.words:
        return "the law speaks of words; train with data.tokenizer.kind=words"
    return None


def _no_confounding(data: DataConfig) -> str | None:
    if (reason := _no_law(data)) is not None:
        return reason
    if isinstance(data, ScmConfig) and data.topic is ScmTopic.observed:
        return "the prompt tells the topic, so nothing is confounded; train with data.topic=hidden"
    return None


def _no_pairs(data: DataConfig) -> str | None:
    if isinstance(data, ScmConfig):
        return None
    if not isinstance(data, ImdbConfig):
        return f"there are no minimal pairs for data={data.name}"
    if data.cad is None:
        return (
            "counterfactually augmented reviews are needed: get sentiment/combined/paired of github "
            "acmi-lab/counterfactually-augmented-data and give it as --cad FOLDER of `nano-llm evaluate`, as "
            "NANO_LLM_CAD, or to a training as data.cad"
        )
    return None


ANY = Need("any", lambda _: None)
LAW = Need("scm", _no_law)
LAW_OF_TOKENS = Need("scm, by words", _no_law_of_tokens)
CONFOUNDING = Need("scm, topic not told", _no_confounding)
PAIRS = Need("scm; imdb with CAD", _no_pairs)
