"""Parity with the reference system: text, tokenizer and every window it cut."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nano_llm.config.schema import Conditioning, ImdbConfig, ProtocolConfig
from nano_llm.data.build import fit_tokenizer, reference_windows
from nano_llm.data.clean import clean
from nano_llm.data.corpus import Corpus
from nano_llm.data.review import Review
from nano_llm.data.samples import format_samples
from nano_llm.data.template import Template
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.data.windows import Windows

STYLES = {"natural": Conditioning.natural, "tags": Conditioning.tags, "tarnet": Conditioning.command}


@cache
def recorded(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def fixture(shared: Path) -> Any:
    return recorded(shared / "reference" / "windows.json")


@pytest.fixture
def reviews(fixture: Any) -> list[Review]:
    return [Review(clean(row["text"]), row["label"]) for row in fixture["rows"]]


@pytest.mark.parametrize("style", STYLES)
def test_text_tokenizer_and_windows_equal_the_references(
    style: str,
    fixture: Any,
    reviews: list[Review],
    imdb_config: Callable[..., ImdbConfig],
    reference: ProtocolConfig,
) -> None:
    expected = fixture["styles"][style]
    config = imdb_config(vocab_size=fixture["bpe_vocab_size"])
    template = Template(STYLES[style], config.prompt)
    assert template.for_tokenizer().sample(reviews[0]) == expected["formatted_first"]

    corpus = Corpus({"train": reviews, "validation": reviews}, None, (None,))
    tokenizer = fit_tokenizer(corpus, template, config, reference)
    assert tokenizer.to_json() == expected["tokenizer_json"]

    samples = format_samples(reviews, template, tokenizer)
    windows = reference_windows(reviews, samples, template, tokenizer, fixture["seq_len"], split_words=True)
    assert len(windows) == len(expected["windows"])
    for row, window in enumerate(expected["windows"]):
        tokens = windows.tokens_WL[row].tolist()
        length = int(windows.length_W[row])
        assert tokens[: length - 1] == window["input_ids"][: length - 1]
        assert tokens[1:length] == [target for target in window["target_ids"] if target != -100]
        assert windows.treatment_W[row] == window["treatment"]


@pytest.mark.parametrize("conditioning", [Conditioning.tags, Conditioning.command])
def test_the_number_of_windows_is_that_of_the_shorter_twin_however_it_is_found(
    conditioning: Conditioning,
    reviews: list[Review],
    imdb_config: Callable[..., ImdbConfig],
    reference: ProtocolConfig,
) -> None:
    config = imdb_config(vocab_size=256)
    template = Template(conditioning, config.prompt)
    tokenizer = fit_tokenizer(Corpus({"train": reviews, "validation": []}, None, (None,)), template, config, reference)

    def cut(chosen: list[Review], *, split_words: bool) -> Windows:
        samples = format_samples(chosen, template, tokenizer)
        return reference_windows(chosen, samples, template, tokenizer, 128, split_words=split_words)

    twins = [replace(review, treatment=1 - review.treatment) for review in reviews]
    by_arithmetic, by_encoding = cut(reviews, split_words=True), cut(reviews, split_words=False)
    assert np.array_equal(by_arithmetic.tokens_WL, by_encoding.tokens_WL)
    assert np.array_equal(by_arithmetic.review_W, cut(twins, split_words=True).review_W)


def test_the_token_that_spans_prompt_and_review_belongs_to_the_review(
    reviews: list[Review], fixture: Any, imdb_config: Callable[..., ImdbConfig]
) -> None:
    tokenizer = Tokenizer.from_json(fixture["styles"]["natural"]["tokenizer_json"])
    template = Template(Conditioning.natural, imdb_config().prompt)
    samples = format_samples(reviews, template, tokenizer)
    for row, review in enumerate(reviews):
        start = samples.offset_R1[row] + samples.prompt_length_R[row]
        prompt = samples.tokens_N[samples.offset_R1[row] : start]
        rest = samples.tokens_N[start : samples.offset_R1[row + 1]]
        assert tokenizer.decode(prompt) == template.prompt_of(review)
        assert tokenizer.decode(rest) == f" {review.text} [/REVIEW]"


def test_words_may_merge_where_the_word_pattern_is_off(
    reviews: list[Review], imdb_config: Callable[..., ImdbConfig], reference: ProtocolConfig
) -> None:
    config = imdb_config(vocab_size=256, split_words=False)
    template = Template(Conditioning.tags, config.prompt)
    corpus = Corpus({"train": reviews, "validation": reviews}, None, (None,))
    tokenizer = fit_tokenizer(corpus, template, config, reference)
    samples = format_samples(reviews, template, tokenizer)
    windows = reference_windows(reviews, samples, template, tokenizer, 128, split_words=False)
    assert len(windows) >= len(reviews)
    row = samples.tokens_N[: samples.offset_R1[1]]
    assert tokenizer.decode(row, keep_special=True) == template.sample(reviews[0])
