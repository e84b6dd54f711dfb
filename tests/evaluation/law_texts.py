"""Texts that the structural law itself writes: the perfect model of tests."""

from dataclasses import replace

import numpy as np

from nano_llm.config.schema import ScmConfig
from nano_llm.data import scm
from nano_llm.data.review import Review
from nano_llm.evaluation.text_sample import TextSample


def reviews_under_do(config: ScmConfig, num: int, treatment: int, stream: str) -> list[Review]:
    """Draw reviews under do(T = treatment), whose topics are the same for every stream and treatment."""
    law = scm.review_law(config)
    noise = scm.draw_noise(law, 1, f"{stream} {treatment}", num)
    noise = replace(noise, topic_N=scm.draw_noise(law, 1, "topics", num).topic_N)
    return scm.to_reviews(law, scm.sample_records(law, noise, np.full(num, treatment)))


def law_sample(config: ScmConfig, num: int, seed: int = 0, outcomes: tuple[int, int] = (0, 1)) -> TextSample:
    """Write texts to the same prompts under each outcome, of independent noise; `outcomes` may swap or repeat them."""
    halves = [reviews_under_do(config, num, k, f"written {seed} {place}") for place, k in enumerate(outcomes)]
    reviews = [review for half in halves for review in half]
    return sample_of([review.text for review in reviews], [review.topic for review in reviews])


def sample_of(texts: list[str], topics: list[str | None] | None = None) -> TextSample:
    """Whole texts, all of which are compared."""
    topics = topics or [None] * len(texts)
    return TextSample(texts, topics, np.ones(len(texts), np.bool_), np.array([len(text) for text in texts]))
