"""The two presets of the structural corpus, as their specification gives them."""

from dataclasses import replace

from nano_llm.config.schema import ScmConfig, ScmLexicon, ScmTopic

DEFAULT = ScmConfig(
    corpus_seed=0,
    num_train=20_000,
    num_validation=2_000,
    num_test=2_000,
    lexicon=ScmLexicon.default,
    confounding=2.0,
    overlap=0.0,
    noise=0.25,
    effect=1.0,
    length_effect=0.0,
    topic=ScmTopic.observed,
    proxy_accuracy=0.8,
    verdict=True,
    min_sentences=3,
    max_sentences=10,
    stop_terse=0.30,
    stop_chatty=0.15,
)
TINY = replace(
    DEFAULT,
    lexicon=ScmLexicon.tiny,
    noise=0.15,
    topic=ScmTopic.hidden,
    verdict=False,
    min_sentences=1,
    max_sentences=8,
    stop_chatty=0.18,
)
