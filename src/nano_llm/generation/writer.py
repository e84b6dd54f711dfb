"""Texts that a model writes, many at once, each under a law and with noise of its own.

The next token of a text is argmax_v [log phi_v + g_v], phi its law and g Gumbel noise keyed by the text's unit and the
token's event: an exact draw from phi, whatever else is written at the same time. Texts with the same beginning are one
row of the model's cache until their tokens differ.

Axes: K outcomes, V vocabulary.
"""

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from nano_llm.data.arrays import FloatArray
from nano_llm.generation.contexts import Context, Contexts
from nano_llm.generation.events import EventClock, EventKeys
from nano_llm.generation.law import Law
from nano_llm.generation.noise import NoiseSource
from nano_llm.generation.sampling import Sampling
from nano_llm.generation.steering import Steering
from nano_llm.generation.text_stream import TextStream
from nano_llm.generation.vocabulary import Vocabulary
from nano_llm.model.language_model import LanguageModel


class Finish(StrEnum):
    """Why a text has ended."""

    end = "end"
    """The model ended it."""
    stop = "stop"
    """A stop string was met."""
    length = "length"
    """It was cut at the number of tokens asked for."""


@dataclass(frozen=True, slots=True)
class Order:
    """A text to be written."""

    prompt: tuple[int, ...]
    """``<bos>`` included."""
    outcome: int
    noise: NoiseSource
    num_tokens: int
    """Most tokens of the text, those it begins with included; at least 1."""
    begin: tuple[int, ...] = ()
    """Tokens that the text begins with."""
    events: EventKeys = EventKeys.event
    sampling: Sampling = field(default_factory=Sampling)
    steering: Steering = field(default_factory=Steering)
    stop: tuple[str, ...] = ()
    """Searched for in what is written, not in what it begins with."""
    stop_newline: bool = False
    num_top: int = 0
    """Likeliest tokens of each head that are told beside each token."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a text, and what the heads had to say; log-probabilities are theirs, before steering and knobs."""

    index: int  # in the vocabulary
    text: str  # what can be shown after it, whole characters that begin no stop string
    log_p: tuple[float, ...]  # under each outcome, nats
    divergence: float | None  # JS of the heads' laws, nats, at most ln 2; None of a model with one head
    log_p_own: float  # under the law that was asked for: of the wanted head, or the mixture, nats
    entropy: float  # of that law, nats
    top: tuple[tuple[tuple[int, float], ...], ...] = ()  # of each outcome, the likeliest tokens and their nats
    top_own: tuple[tuple[int, float], ...] = ()  # the same under the law that was asked for


@dataclass(eq=False, slots=True)
class Draft:
    """A text in the making."""

    order: Order
    context: Context
    law: Law
    clock: EventClock
    stream: TextStream
    tokens: list[Token] = field(default_factory=list)
    finish: Finish | None = None
    tail: str = ""  # text that was held back until the end

    @property
    def text(self) -> str:
        """The text so far, without what is held back."""
        return "".join([token.text for token in self.tokens]) + self.tail


class Writer:
    """Writes texts with a model, up to so many at once.

    Args:
        model: In evaluation mode, on its device.
        vocabulary: Of the model's tokenizer.
        window_length: Of the data that the model was trained on, in tokens.
        num_rows: Texts that are written at once.
    """

    def __init__(self, model: LanguageModel, vocabulary: Vocabulary, window_length: int, num_rows: int) -> None:
        self.vocabulary = vocabulary
        self.contexts = Contexts(model, num_rows, window_length)
        self._open: list[Draft] = []

    @property
    def num_free(self) -> int:
        """Texts that may still be begun."""
        return self.contexts.num_rows - len(self._open)

    def begin(self, orders: Sequence[Order]) -> list[Draft]:
        """Read the prompts of new texts, those that are equal once.

        Raises:
            RequestError: A prompt does not fit the window; nothing was begun.
        """
        assert len(orders) <= self.num_free, "more texts than rows"
        if not orders:
            return []
        starts = list(dict.fromkeys((order.prompt, order.begin) for order in orders))
        begun = []
        try:
            opened = dict(zip(starts, zip(*self.contexts.open(starts), strict=True), strict=True))
            for order in orders:
                begun.append(self._draft(order, *opened[order.prompt, order.begin]))
            self._open += [draft for draft in begun if draft.finish is None]
        finally:
            self._close_unused()
        return begun

    def step(self) -> list[Draft]:
        """Give each open text its next token, or its end.

        An error gives up all of them.

        Returns:
            The texts that were open; the last of their tokens is new, unless they were ended by the model.
        """
        stepped = self._open
        for draft in stepped:
            self._choose(draft)
        self._open = [draft for draft in stepped if draft.finish is None]
        self._close_unused()
        try:
            self._read_last()
        except BaseException:
            # A text whose last token was not read would go on as another one.
            self._open = []
            self._close_unused()
            raise
        return stepped

    def cancel(self, draft: Draft) -> None:
        """Give up a text, if it is open."""
        self._open = [other for other in self._open if other is not draft]
        self._close_unused()

    def run(self, orders: Sequence[Order]) -> Generator[list[Draft], None, None]:
        """Write texts to their ends, as many at once as there is room for.

        Those that are open when the caller stops asking, or when an error ends it all, are given up.

        Yields:
            Step by step, the texts that have a new token or have ended.

        Raises:
            RequestError: A prompt does not fit the window.
        """
        waiting = list(reversed(orders))
        own = {id(order) for order in orders}
        try:
            while waiting or self._open:
                begun = self.begin([waiting.pop() for _ in range(min(self.num_free, len(waiting)))])
                yield [draft for draft in begun if draft.tokens or draft.finish is not None]
                yield self.step()
        finally:
            self._open = [draft for draft in self._open if id(draft.order) not in own]
            self._close_unused()

    def write(self, orders: Sequence[Order], on_step: Callable[[], None] = lambda: None) -> list[Draft]:
        """Write texts to their ends.

        Args:
            orders: The texts.
            on_step: Called before each step; may raise to end the writing.

        Returns:
            The texts, in their order.

        Raises:
            RequestError: A prompt does not fit the window.
        """
        finished: dict[int, Draft] = {}
        on_step()
        with closing(self.run(orders)) as run:
            for stepped in run:
                finished |= {id(draft.order): draft for draft in stepped if draft.finish is not None}
                on_step()
        return [finished[id(order)] for order in orders]

    def _draft(self, order: Order, context: Context, begin_laws: Iterable[FloatArray]) -> Draft:
        law = Law(order.outcome, order.steering, order.sampling, self.vocabulary.allowed_V)
        clock = EventClock(order.events, self.vocabulary.ends_sentence_V)
        tokenizer, ends = self.vocabulary.tokenizer, self.vocabulary.end_strings
        stream = TextStream(tokenizer, order.stop, stop_newline=order.stop_newline, ends=ends)
        draft = Draft(order, context, law, clock, stream)
        for token, log_p_KV in zip(order.begin, begin_laws, strict=True):
            if draft.finish is None:
                self._append(draft, token, stream.give, log_p_KV)
        return draft

    def _choose(self, draft: Draft) -> None:
        log_p_KV = draft.context.log_p_KV
        log_phi_V = draft.law.next(log_p_KV)
        if draft.order.sampling.temperature > 0:
            log_phi_V = log_phi_V + draft.order.noise.gumbel_V(draft.clock.event, len(log_phi_V))
        self._append(draft, int(log_phi_V.argmax()), draft.stream.push, log_p_KV)

    def _append(self, draft: Draft, index: int, take: Callable[[int], str], log_p_KV: FloatArray) -> None:
        """Add a token that was drawn or given where the heads had these laws; the text's stream is to take it."""
        if index in self.vocabulary.ends:
            self._end(draft, Finish.end)
            return
        own_V, num_top = draft.law.own(log_p_KV), draft.order.num_top
        draft.law.follow(index, log_p_KV)
        draft.clock = draft.clock.after(index)
        draft.tokens.append(
            Token(
                index,
                self._shown(draft, take(index)),
                tuple(log_p_KV[:, index].tolist()),
                divergence(log_p_KV) if len(log_p_KV) == 2 else None,
                float(own_V[index]),
                entropy(own_V),
                tuple(likeliest(log_p_V, num_top) for log_p_V in log_p_KV) if num_top else (),
                likeliest(own_V, num_top) if num_top else (),
            )
        )
        if draft.stream.stopped_by is not None:
            is_end = draft.stream.stopped_by in self.vocabulary.end_strings
            self._end(draft, Finish.end if is_end else Finish.stop)
        elif len(draft.tokens) == draft.order.num_tokens:
            self._end(draft, Finish.length)

    def _end(self, draft: Draft, finish: Finish) -> None:
        draft.finish = finish
        draft.tail = self._shown(draft, draft.stream.finish())

    def _shown(self, draft: Draft, text: str) -> str:
        """Return what of a text that is released is the draft's: not the space between prompt and text."""
        if self.vocabulary.has_leading_space and not any(token.text for token in draft.tokens):
            return text.lstrip(" ")
        return text

    def _read_last(self) -> None:
        """Let the model read the new tokens; texts that shared a row and have parted get rows of their own."""
        readers: dict[tuple[Context, int], Context] = {}
        for draft in self._open:
            shared, index = draft.context, draft.tokens[-1].index
            if (shared, index) not in readers:
                is_taken = shared in readers.values()
                readers[shared, index] = self.contexts.fork(shared) if is_taken else shared
            draft.context = readers[shared, index]
        self.contexts.extend(list(readers.values()), [index for _, index in readers])

    def _close_unused(self) -> None:
        self.contexts.close_all_but({draft.context for draft in self._open})


def divergence(log_p_KV: FloatArray) -> float:
    """Return the Jensen-Shannon divergence of two laws, in nats: 0 if they are equal, at most ln 2."""
    log_m_V = np.logaddexp(log_p_KV[0], log_p_KV[1]) - math.log(2)
    with np.errstate(invalid="ignore"):  # -inf less -inf, where neither law has probability
        nats_KV = np.where(log_p_KV > -np.inf, np.exp(log_p_KV) * (log_p_KV - log_m_V), 0.0)
    # Rounding leaves some 1e-17 of equal laws, on either side of 0.
    return min(max(float(nats_KV.sum() / 2), 0.0), math.log(2))


def entropy(log_p_V: FloatArray) -> float:
    """Return the entropy of a law, in nats."""
    with np.errstate(invalid="ignore"):  # 0 * -inf, where there is no probability
        nats_V = np.where(log_p_V > -np.inf, np.exp(log_p_V) * log_p_V, 0.0)
    return max(-float(nats_V.sum()), 0.0)


def likeliest(log_p_V: FloatArray, num: int) -> tuple[tuple[int, float], ...]:
    """Return the likeliest tokens and their log-probabilities in nats, the likeliest first; of equals the lowest."""
    order = np.argsort(-log_p_V, kind="stable")[:num]
    return tuple(zip(order.tolist(), log_p_V[order].tolist(), strict=True))
