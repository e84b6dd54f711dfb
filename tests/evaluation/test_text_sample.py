"""Samples of texts: what a model is asked for, and real texts cut to the lengths of written ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from law_texts import sample_of
from torch import Tensor, nn

from generation.recomputing import Recomputing
from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Conditioning, Precision
from nano_llm.data.review import Review
from nano_llm.data.template import Template
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.evaluation.outcome_model import OutcomeModel
from nano_llm.evaluation.text_sample import match_lengths, write
from nano_llm.training.machine import Machine

PROMPT_WORDS = ["negative", "positive", "about", "drama", "horror"]
WORDS = Tokenizer.of_words(["dull", "fine", "film", *PROMPT_WORDS], 30)
DULL, FINE, FILM = (WORDS.encode(word)[0] for word in ("dull", "fine", "film"))

LONGEST_PROMPT = 7
"""Tokens of ``<bos> [SENTIMENT] positive [/SENTIMENT] about horror [REVIEW]``."""


class TwoHeads(nn.Module):
    """Outcome 0 says "dull" and "film", outcome 1 "fine" and "film", by chance; either ends by chance."""

    def forward(self, tokens_BT: Tensor) -> Tensor:
        logits_BTKV = torch.full((*tokens_BT.shape, 2, WORDS.vocab_size), -torch.inf)
        for k, opinion in enumerate((DULL, FINE)):
            logits_BTKV[..., k, [opinion, FILM, WORDS.end_ids[0]]] = torch.tensor([1.0, 1.0, 0.0])
        return logits_BTKV


class Told(nn.Module):
    """Outcome of the two heads that the prompt names; and writes the topic of the prompt."""

    def forward(self, tokens_BT: Tensor) -> Tensor:
        prompt_BT = tokens_BT[:, :LONGEST_PROMPT]
        is_positive_B = (prompt_BT == WORDS.encode("positive")[0]).any(dim=1)
        horror = WORDS.encode("horror")[0]
        logits_BTKV = TwoHeads()(tokens_BT)[torch.arange(len(tokens_BT)), :, is_positive_B.long()][:, :, None]
        asked_B = (prompt_BT == horror).any(dim=1)
        logits_BTKV[asked_B, :, :, horror] = 2.0
        return logits_BTKV


def outcome_model(model: nn.Module, num_heads: int, conditioning: Conditioning) -> OutcomeModel:
    texts = replace(compose_config(["data=scm"]).data.prompt, command="about")
    machine = Machine(torch.device("cpu"), Precision.fp32)
    whole = Recomputing(model, num_heads)
    return OutcomeModel(whole, num_heads, WORDS, Template(conditioning, texts), 24, machine, batch_size=3)


def test_two_heads_write_the_same_again_and_each_its_own() -> None:
    model = outcome_model(TwoHeads(), 2, Conditioning.command)
    sample = write(model, ["drama", None, "horror", "drama", None], 12)
    negative, positive = sample.texts[:5], sample.texts[5:]
    assert not any("fine" in text for text in negative)
    assert not any("dull" in text for text in positive)
    assert any("dull" in text for text in negative)
    assert [text.replace("dull", "fine") for text in negative] != positive  # independent draws
    assert sample.topics == ["drama", None, "horror", "drama", None] * 2
    assert sample.outcome_N.tolist() == [0] * 5 + [1] * 5
    again = write(replace(model, batch_size=2), ["drama", None, "horror", "drama", None], 12)
    assert again.texts == sample.texts


def test_one_head_is_told_outcome_and_topic_by_the_prompt() -> None:
    sample = write(outcome_model(Told(), 1, Conditioning.tags), [None] * 8 + ["horror"] * 8, 10)
    assert not any("fine" in text for text in sample.texts[:16])
    assert not any("dull" in text for text in sample.texts[16:])
    says_horror = ["horror" in text for text in sample.texts]
    assert not any(says_horror[:8] + says_horror[16:24])
    assert sum(says_horror) > 8


def test_a_review_that_does_not_end_in_time_is_told_apart() -> None:
    sample = write(outcome_model(TwoHeads(), 2, Conditioning.command), [None] * 20, 4)
    num_words = np.array([len(text.split()) for text in sample.texts])
    assert 0 < sample.ended_N.sum() < 40
    assert (num_words[~sample.ended_N] == 4).all()


def test_writing_can_be_stopped_before_each_step() -> None:
    calls: list[int] = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    model = replace(outcome_model(TwoHeads(), 2, Conditioning.command), on_batch=stop)
    with pytest.raises(KeyboardInterrupt):
        write(model, [None] * 4, 8)
    assert len(calls) == 3


def test_texts_are_paired_by_length_and_the_longer_one_is_cut() -> None:
    """Outcome 0 wrote 10 and 4 characters, outcome 1 24 and 8; the last review of each label is one too many."""
    generated = sample_of(["not at all", "fail", "a very very touching one", "what fun"])
    reviews = [
        Review("a bad bad film", 0), Review("a fine film", 1), Review("so", 0), Review("a very fine film", 1),
        Review("no", 0), Review("yes", 1),
    ]  # fmt: skip
    written, real = match_lengths(generated, reviews)
    assert real.cut_texts == ["a bad bad", "so", "a very fine film", "a fine"]
    assert written.cut_texts == ["not at all", "fa", "a very very", "what fun"]
    assert real.cut_ended_N.tolist() == [False, True, True, False]
    assert written.cut_ended_N.tolist() == [True, False, False, True]
    assert real.texts == ["a bad bad film", "so", "a very fine film", "a fine film"]
    assert written.texts == generated.texts
    assert real.outcome_N.tolist() == [0, 0, 1, 1]


def test_texts_of_about_the_right_lengths_are_not_cut() -> None:
    """Ratios 5/5, 12/11, 18/18 and 6/5; an ended text of 10 characters and one of 14 are not about equally long."""
    reviews = [Review("a dull film", 0), Review("bland", 0), Review("fine!", 1), Review("a very fine film..", 1)]
    texts = ["awful", "a dreary film", "a very fine movie!", "superb"]
    for sample in match_lengths(sample_of(texts), reviews):
        assert sample.cut_texts == sample.texts
        assert sample.cut_ended_N.all()
    reviews[0] = Review("a dull dull film", 0)
    assert match_lengths(sample_of(texts), reviews)[1].cut_texts[1] == "a dull dull"


def test_a_first_word_that_is_too_long_is_cut_inside() -> None:
    reviews = [Review("dull", 0), Review("bad film", 0), Review("fine", 1), Review("a very fine film", 1)]
    _, real = match_lengths(sample_of(["", "so", "incomprehensible", "x"]), reviews)
    assert real.cut_texts == ["", "ba", "a very fine film", "f"]


def test_a_text_that_was_cut_short_has_no_end_however_much_of_it_is_compared() -> None:
    short = replace(sample_of(["a dull", "a fine"]), ended_N=np.zeros(2, np.bool_))
    written, real = match_lengths(short, [Review("a dull x", 0), Review("a fine", 1)])
    assert written.cut_texts == real.cut_texts == ["a dull", "a fine"]
    assert written.cut_ended_N.tolist() == [False, False]
    assert real.cut_ended_N.tolist() == [False, True]
