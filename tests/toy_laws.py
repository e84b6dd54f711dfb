"""Laws over texts of a few tokens, small enough to count, and a writer that draws texts from them."""

from collections.abc import Callable
from functools import cache
from itertools import product

import numpy as np

from nano_llm.data.arrays import BoolArray, FloatArray
from nano_llm.generation.events import EventClock, EventKeys
from nano_llm.generation.noise import NoiseSource

Text = tuple[int, ...]
Law = Callable[[Text], FloatArray]
"""Tokens so far -> log-probabilities (V,) of the next one."""

ENDS_SENTENCE_V = np.array([True, False, False, True, False])


@cache
def toy_law(head: int, *, size: int = 5, masked: float = 0.0, seed: int = 0) -> Law:
    """A law of random probabilities that depend on all tokens so far, of which a share is 0."""

    @cache
    def law(text: Text) -> FloatArray:
        rng = np.random.default_rng([seed, head, len(text), *text])
        logits_V = 1.5 * rng.normal(size=size)
        logits_V[rng.permutation(size)[: int(masked * size)]] = -np.inf
        log_phi_V: FloatArray = logits_V - np.logaddexp.reduce(logits_V)
        return log_phi_V

    return law


def clock_of(keys: EventKeys, ends_sentence_V: BoolArray = ENDS_SENTENCE_V) -> EventClock:
    return EventClock(keys, ends_sentence_V)


def write(law: Law, source: NoiseSource, clock: EventClock, num_tokens: int, given: Text = ()) -> Text:
    """Draw a text of a number of tokens, of which the first are given."""
    text: Text = ()
    while len(text) < num_tokens:
        if len(text) < len(given):
            token = given[len(text)]
        else:
            log_phi_V = law(text)
            token = int((log_phi_V + source.gumbel_V(clock.event, log_phi_V.size)).argmax())
        text, clock = (*text, token), clock.after(token)
    return text


def laws_before(law: Law, text: Text) -> FloatArray:
    return np.array([law(text[:t]) for t in range(len(text))])


def probabilities_of_two_tokens(law: Law, size: int = 5) -> dict[Text, float]:
    return {(i, j): float(np.exp(law(())[i] + law((i,))[j])) for i, j in product(range(size), repeat=2)}
