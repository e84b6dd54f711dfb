"""Texts under both outcomes, of a model or of people, in samples that can be compared.

Axes: R prompts, N texts: R under outcome 0, then R under outcome 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from nano_llm.data.arrays import BoolArray, IntArray
from nano_llm.data.review import Review
from nano_llm.evaluation.outcome_model import OutcomeModel
from nano_llm.generation.noise import Noise
from nano_llm.generation.vocabulary import Vocabulary
from nano_llm.generation.writer import Finish, Order, Writer

NEARLY = 1.2
"""Two texts whose lengths have a smaller ratio are as good as equally long."""


@dataclass(frozen=True)
class TextSample:
    """N texts, half of them under each outcome, and how much of each is compared."""

    texts: list[str]
    topics: list[str | None]  # what the prompt of each text named
    ended_N: BoolArray  # whether its writer ended the text, or was cut short
    num_chars_N: IntArray  # leading characters that are compared

    @property
    def outcome_N(self) -> IntArray:
        """The outcome that each text was written under; of a real one its label."""
        return np.repeat([0, 1], len(self.texts) // 2)

    @property
    def cut_texts(self) -> list[str]:
        """What is compared of each text."""
        return [text[:num_chars] for text, num_chars in zip(self.texts, self.num_chars_N.tolist(), strict=True)]

    @property
    def cut_ended_N(self) -> BoolArray:
        """Whether what is compared has the end of the text."""
        has_end_N: BoolArray = self.ended_N & (self.num_chars_N == num_chars(self.texts))
        return has_end_N

    def frame(self, source: str) -> pd.DataFrame:
        """Return a row a text, to be told apart by its source."""
        columns = {"outcome": self.outcome_N, "topic": self.topics, "ended": self.ended_N, "text": self.texts}
        return pd.DataFrame({"source": source, **columns, "num_chars": self.num_chars_N})


def write(model: OutcomeModel, topics: Sequence[str | None], num_tokens: int) -> TextSample:
    """Let a model write a review under each outcome to each prompt; the same model writes the same again.

    The draws under the two outcomes are independent.

    Args:
        model: With two outcomes.
        topics: What each of the R prompts names.
        num_tokens: Most tokens of a review.
    """
    writer = Writer(model.model, Vocabulary(model.tokenizer), model.window_length, model.batch_size)
    orders = [
        Order(
            prompt=tuple(model.tokenizer.encode_prompt(model.template.prompt(k, topic))),
            outcome=k,
            noise=Noise.of(0, text, k),
            num_tokens=num_tokens,
        )
        for k in (0, 1)
        for text, topic in enumerate(topics)
    ]
    written = writer.write(orders, on_step=model.on_batch)
    texts = [review.text for review in written]
    ended_N = np.array([review.finish is Finish.end for review in written])
    return TextSample(texts, [*topics, *topics], ended_N, num_chars(texts))


def match_lengths(generated: TextSample, reviews: Sequence[Review]) -> tuple[TextSample, TextSample]:
    """Pair generated with real texts of about the same length, and compare as much of the longer as the shorter has.

    Within an outcome the longest text is paired with the longest review, and so on down. Where the model ended its
    text and the lengths differ by less than `NEARLY`, both are compared whole: a cut costs the last words, which tell
    most, and a perfect model could be told by them. Only whole words are kept.

    Args:
        generated: R texts of each outcome.
        reviews: At least R of each treatment; the first R are taken.

    Returns:
        The generated and the real sample; text n of one is paired with text n of the other.
    """
    num = len(generated.texts) // 2
    length_N = num_chars(generated.texts)
    chosen: list[Review] = []
    for k in (0, 1):
        own = sorted([review for review in reviews if review.treatment == k][:num], key=lambda review: len(review.text))
        rank_R = np.argsort(np.argsort(length_N[k * num : (k + 1) * num], kind="stable"))
        chosen += [own[rank] for rank in rank_R.tolist()]
    real = [review.text for review in chosen]
    shorter_N, longer_N = np.sort([length_N, num_chars(real)], axis=0)
    limit_N = np.where(generated.ended_N & (longer_N <= NEARLY * shorter_N), longer_N, shorter_N)
    compared = [
        np.array([_whole_words(text, limit) for text, limit in zip(texts, limit_N.tolist(), strict=True)], np.int64)
        for texts in (generated.texts, real)
    ]
    topics = [review.topic for review in chosen]
    real_sample = TextSample(real, topics, np.ones(len(real), np.bool_), compared[1])
    return replace(generated, num_chars_N=compared[0]), real_sample


def num_chars(texts: Sequence[str]) -> IntArray:
    """Return the characters (R,) of each text."""
    return np.array([len(text) for text in texts], np.int64)


def _whole_words(text: str, limit: int) -> int:
    """Return how many leading characters, at most so many, are whole words; all of them if the first is longer."""
    if len(text) <= limit:
        return len(text)
    return max(text.rfind(" ", 0, limit + 1), 0) or limit
