"""Texts that a model writes, many at once, each under a law and with noise of its own.

The next token of a text is argmax_v [log phi_v + g_v], phi its law and g Gumbel noise keyed by the text's unit and the
token's event: an exact draw from phi, whatever else is written at the same time. Texts with the same beginning are one
row of the model's cache until their tokens differ.

Axes: K outcomes, V vocabulary.
"""

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
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


_PART_TOKENS = 64
"""Of what texts begin with, looked at in one go."""
_Start = tuple[tuple[int, ...], tuple[int, ...]]
"""Prompt and beginning of a text."""
_Views = tuple[tuple[int, ...], tuple[int, ...], int, Steering, int]
"""What decides what is told of the tokens that a text begins with."""


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
        self._beginning: list[Context] = []
        self._num_beginning = 0

    @property
    def num_free(self) -> int:
        """Texts that may still be begun."""
        return self.contexts.num_rows - len(self._open) - self._num_beginning

    def begin(self, orders: Sequence[Order]) -> list[Draft]:
        """Read the prompts of new texts, those that are equal once.

        Raises:
            RequestError: A prompt does not fit the window; nothing was begun.
        """
        parts = self.beginning(orders)
        while True:
            try:
                next(parts)
            except StopIteration as end:
                begun: list[Draft] = end.value
                return begun

    def beginning(self, orders: Sequence[Order]) -> Generator[None, None, list[Draft]]:
        """Do as `begin` in parts, between which open texts may be written; one beginning at a time.

        What the heads said of each token that a text begins with takes as long as a step. If it is closed, nothing was
        begun.

        Returns:
            The texts.

        Raises:
            RequestError: A prompt does not fit the window; nothing was begun.
        """
        assert not self._num_beginning, "others are being begun"
        assert len(orders) <= self.num_free, "more texts than rows"
        if not orders:
            return []
        starts = list(dict.fromkeys((order.prompt, order.begin) for order in orders))
        begun = []
        try:
            self._beginning, laws = self.contexts.open(starts)
            self._num_beginning = len(orders)
            given = yield from self._given(orders, dict(zip(starts, laws, strict=True)))
            opened = dict(zip(starts, self._beginning, strict=True))
            for order in orders:
                begun.append(self._draft(order, opened[order.prompt, order.begin], given[_views(order)]))
                if len(order.begin) > _PART_TOKENS:
                    yield
            self._open += [draft for draft in begun if draft.finish is None]
        finally:
            self._beginning, self._num_beginning = [], 0
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

    def _given(
        self, orders: Sequence[Order], laws: Mapping[_Start, Iterable[FloatArray]]
    ) -> Generator[None, None, dict[_Views, list[Token]]]:
        """Return what is told of the tokens that texts begin with, once for all that are told the same; in parts."""
        num_told = 0
        followed: dict[_Start, dict[_Views, tuple[Law, int, list[Token]]]] = {start: {} for start in laws}
        for order in orders:
            views = followed[order.prompt, order.begin]
            views.setdefault(_views(order), (self._law(order), order.num_top, []))
        for start, views in followed.items():
            for index, log_p_KV in zip(start[1], laws[start], strict=True):
                for law, num_top, tokens in views.values():
                    tokens.append(told(index, log_p_KV, law.own(log_p_KV), num_top))
                    law.follow(index, tokens[-1].log_p)
                    num_told += 1
                    if num_told % _PART_TOKENS == 0:
                        yield
        return {view: tokens for views in followed.values() for view, (_, _, tokens) in views.items()}

    def _law(self, order: Order) -> Law:
        return Law(order.outcome, order.steering, order.sampling, self.vocabulary.allowed_V)

    def _draft(self, order: Order, context: Context, given: Sequence[Token]) -> Draft:
        clock = EventClock(order.events, self.vocabulary.ends_sentence_V)
        tokenizer, ends = self.vocabulary.tokenizer, self.vocabulary.end_strings
        stream = TextStream(tokenizer, order.stop, stop_newline=order.stop_newline, ends=ends)
        draft = Draft(order, context, self._law(order), clock, stream)
        for token in given:
            if draft.finish is None:
                self._append(draft, token, stream.give)
        return draft

    def _choose(self, draft: Draft) -> None:
        log_p_KV = draft.context.log_p_KV
        own_V = draft.law.own(log_p_KV)
        log_phi_V = draft.law.shaped(log_p_KV, own_V)
        if draft.order.sampling.temperature > 0:
            log_phi_V = log_phi_V + draft.order.noise.gumbel_V(draft.clock.event, len(log_phi_V))
        drawn = told(int(log_phi_V.argmax()), log_p_KV, own_V, draft.order.num_top)
        self._append(draft, drawn, draft.stream.push)

    def _append(self, draft: Draft, token: Token, take: Callable[[int], str]) -> None:
        """Add a token that was drawn or given, whose text is not known until the text's stream has taken it."""
        if token.index in self.vocabulary.ends:
            self._end(draft, Finish.end)
            return
        draft.law.follow(token.index, token.log_p)
        draft.clock = draft.clock.after(token.index)
        draft.tokens.append(replace(token, text=self._shown(draft, take(token.index))))
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
        self.contexts.close_all_but({*self._beginning, *(draft.context for draft in self._open)})


def told(index: int, log_p_KV: FloatArray, own_V: FloatArray, num_top: int) -> Token:
    """Return what is told of a token, but for its text.

    Args:
        index: In the vocabulary.
        log_p_KV: What the heads say where it stands, in nats.
        own_V: The law that was asked for.
        num_top: Likeliest tokens of each law.
    """
    return Token(
        index,
        "",
        tuple(log_p_KV[:, index].tolist()),
        divergence(log_p_KV) if len(log_p_KV) == 2 else None,
        float(own_V[index]),
        entropy(own_V),
        tuple(likeliest(log_p_V, num_top) for log_p_V in log_p_KV) if num_top else (),
        likeliest(own_V, num_top) if num_top else (),
    )


def _views(order: Order) -> _Views:
    return order.prompt, order.begin, order.outcome, order.steering, order.num_top


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
    least = np.partition(log_p_V, -num)[-num] if num < len(log_p_V) else -np.inf
    among = np.flatnonzero(log_p_V >= least)
    order = among[np.argsort(-log_p_V[among], kind="stable")[:num]]
    return tuple(zip(order.tolist(), log_p_V[order].tolist(), strict=True))
