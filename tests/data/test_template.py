"""Prompts and formatted samples."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from nano_llm.config.schema import Conditioning, ImdbConfig
from nano_llm.data.review import Review
from nano_llm.data.template import Template
from nano_llm.errors import DataError

PROMPTS = [
    ("tags", 0, None, "[SENTIMENT] negative [/SENTIMENT] [REVIEW]"),
    ("tags", 1, None, "[SENTIMENT] positive [/SENTIMENT] [REVIEW]"),
    ("tags", 1, "drama", "[SENTIMENT] positive [/SENTIMENT] about drama [REVIEW]"),
    ("natural", 0, None, "Create a NEGATIVE IMDB-like review [REVIEW]"),
    ("natural", 1, "horror", "Create a POSITIVE IMDB-like review about horror [REVIEW]"),
    ("command", 0, None, "GENERATE an IMDB-like review: [REVIEW]"),
    ("command", 1, "comedy", "GENERATE an IMDB-like review: about comedy [REVIEW]"),
]


@pytest.mark.parametrize(("conditioning", "treatment", "topic", "prompt"), PROMPTS)
def test_prompts(
    conditioning: str,
    treatment: int,
    topic: str | None,
    prompt: str,
    imdb_config: Callable[..., ImdbConfig],
) -> None:
    template = Template(Conditioning[conditioning], imdb_config().prompt)
    assert template.prompt(treatment, topic) == prompt


def test_a_sample_is_the_prompt_the_review_and_the_end(imdb_config: Callable[..., ImdbConfig]) -> None:
    template = Template(Conditioning.tags, imdb_config().prompt)
    sample = template.sample(Review("a dull film.", 0))
    assert sample == "<bos>[SENTIMENT] negative [/SENTIMENT] [REVIEW] a dull film. [/REVIEW]<eos>"


@pytest.mark.parametrize(("num_outcomes", "resolved"), [(1, Conditioning.tags), (2, Conditioning.command)])
def test_auto_follows_the_model(
    num_outcomes: int, resolved: Conditioning, imdb_config: Callable[..., ImdbConfig]
) -> None:
    assert Template.of(imdb_config(), num_outcomes).conditioning is resolved


def test_a_prompt_for_two_outcomes_carries_no_sentiment(imdb_config: Callable[..., ImdbConfig]) -> None:
    template = Template.of(imdb_config(), 2)
    assert template.prompt(0, "drama") == template.prompt(1, "drama")


@pytest.mark.parametrize("conditioning", [Conditioning.tags, Conditioning.natural])
def test_two_outcomes_refuse_a_sentiment_in_the_prompt(
    conditioning: Conditioning, imdb_config: Callable[..., ImdbConfig]
) -> None:
    with pytest.raises(DataError, match="two outcomes"):
        Template.of(imdb_config(conditioning=conditioning), 2)


def test_texts_are_replaceable_but_hold_no_markup(imdb_config: Callable[..., ImdbConfig]) -> None:
    config = imdb_config()
    spoken = replace(config, prompt=replace(config.prompt, command="Write:"))
    assert Template.of(spoken, 2).prompt(0) == "Write: [REVIEW]"
    marked = replace(config, prompt=replace(config.prompt, command="Write [REVIEW]"))
    with pytest.raises(DataError, match=r"data\.prompt\.command.*\[REVIEW\]"):
        Template.of(marked, 2)


def test_the_references_tokenizer_sees_tags_where_its_windows_carry_the_command(
    imdb_config: Callable[..., ImdbConfig],
) -> None:
    template = Template.of(imdb_config(), 2).for_tokenizer()
    assert template.prompt(1) == "[SENTIMENT] positive [/SENTIMENT] [REVIEW]"
    natural = Template(Conditioning.natural, template.texts)
    assert natural.for_tokenizer() == natural
