"""Texts in the windows of a model, which read one more token at the price of one position.

A text that outgrows the window goes on with its prompt and the newest half of what fits behind it: these are the
windows in which evaluation scores the same tokens (`Windows.covering` with two views). Prompt and half are read again
once in as many tokens as the half has: however long the text is, a token costs two positions and its part of a prompt.

R rows of the cache, B texts of one pass, T positions, K outcomes, V vocabulary.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import LongTensor, Tensor

from nano_llm.data.arrays import FloatArray
from nano_llm.errors import RequestError
from nano_llm.model.language_model import LanguageModel


@dataclass(eq=False, slots=True)
class Context:
    """A text as far as a model has read it."""

    prompt: tuple[int, ...]
    review: list[int]  # all tokens after the prompt
    start: int  # first of them in the window
    row: int  # of the cache
    log_p_KV: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    """Law of the next token under each outcome, in nats."""

    @property
    def tokens(self) -> list[int]:
        """What the window holds."""
        return [*self.prompt, *self.review[self.start :]]

    @property
    def num_tokens(self) -> int:
        """Tokens in the window."""
        return len(self.prompt) + len(self.review) - self.start


class Contexts:
    """The open texts of a model, in the first rows of a cache of fixed shape.

    Args:
        model: In evaluation mode, on its device.
        num_rows: Texts that may be open at once.
        window_length: Of the data that the model was trained on, in tokens.
    """

    def __init__(self, model: LanguageModel, num_rows: int, window_length: int) -> None:
        self.model = model
        self.num_rows = num_rows
        self.window_length = window_length
        self._pasts = [trunk.open_past(num_rows, window_length) for trunk, _ in model.passes]
        self._device = model.passes[0][0].embedding.weight.device
        self._open: list[Context] = []

    @property
    def num_free(self) -> int:
        """Texts that may still be opened."""
        return self.num_rows - len(self._open)

    def room(self, prompt: Sequence[int]) -> int:
        """Return the tokens that fit behind a prompt, the one to be written next included.

        Raises:
            RequestError: They are fewer than two.
        """
        room = self.window_length - len(prompt)
        if room < 2:
            raise RequestError(
                f"The prompt has {len(prompt)} tokens, <bos> included, and the model's window of {self.window_length} "
                f"needs room for two more. Give a prompt of at most {self.window_length - 2} tokens."
            )
        return room

    @torch.inference_mode()
    def open(self, texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> tuple[list[Context], list[FloatArray]]:
        """Read texts, each a prompt and the tokens that have already been written after it.

        Returns:
            The texts, and of each the laws (T, K, V) before each of its T tokens, in nats.

        Raises:
            RequestError: A prompt leaves room for fewer than two tokens in the window.
        """
        assert len(texts) <= self.num_free, "more texts than rows"
        rooms = [self.room(prompt) for prompt, _ in texts]
        opened = []
        for (prompt, review), room in zip(texts, rooms, strict=True):
            context = Context(tuple(prompt), list(review), 0, len(self._open))
            while len(context.review) - context.start >= room:
                context.start += room // 2
            self._open.append(context)
            opened.append(context)
        hidden_states = self._read_whole(opened)
        return opened, [
            self._given_laws(context, [hidden_BTD[index : index + 1] for hidden_BTD in hidden_states])
            for index, context in enumerate(opened)
        ]

    @torch.inference_mode()
    def extend(self, contexts: Sequence[Context], tokens: Sequence[int]) -> None:
        """Let open texts read one more token each."""
        whole = []
        for context, token in zip(contexts, tokens, strict=True):
            context.review.append(token)
            room = self.room(context.prompt)
            if len(context.review) - context.start == room:
                context.start += room // 2
                whole.append(context)
        stepping = [context for context in contexts if context not in whole]
        if stepping:
            self._read_last(stepping)
        if whole:
            self._read_whole(whole)

    @torch.inference_mode()
    def laws(self, prompt: Sequence[int], review: Sequence[int]) -> FloatArray:
        """Return the law (K, V) before each of T tokens that are given, as (T, K, V), in nats.

        The windows are those in which the tokens would have been written.

        Raises:
            RequestError: The prompt leaves room for fewer than two tokens in the window.
        """
        room = self.room(prompt)
        laws: list[FloatArray] = []
        for start in range(0, len(review), room // 2):
            num_known = sum(map(len, laws))
            window = [*prompt, *review[start : start + room]]
            first = len(prompt) + num_known - start - 1  # position that tells the first token without a law
            hidden_states = self.model.hidden_states(self._indices([window[:-1]]))
            laws.append(self._laws([hidden_BTD[:, first:] for hidden_BTD in hidden_states])[0])
            if start + room >= len(review):
                break
        return np.concatenate(laws)

    def fork(self, context: Context) -> Context:
        """Open a second text that is equal so far."""
        assert self.num_free, "no row is free"
        twin = Context(context.prompt, [*context.review], context.start, len(self._open), context.log_p_KV)
        self._copy(context, twin.row)
        self._open.append(twin)
        return twin

    def close(self, context: Context) -> None:
        """Give the row of a text free; the last row takes its place, so that the open ones lie side by side."""
        last = self._open.pop()
        if last is not context:
            self._copy(last, context.row)
            self._open[context.row] = last
            last.row = context.row

    def close_all_but(self, kept: Collection[Context]) -> None:
        """Close the texts that are not among these."""
        # The last first: closing one moves the last row into its place.
        for context in [context for context in reversed(self._open) if context not in kept]:
            self.close(context)

    @torch.inference_mode()
    def _copy(self, context: Context, row: int) -> None:
        for past in self._pasts:
            past.copy(context.row, row, context.num_tokens)

    def _given_laws(self, context: Context, hidden_states: Sequence[Tensor]) -> FloatArray:
        """Laws before each token of a text, from the hidden states (1, T, D) of its window."""
        if not context.review:
            none: FloatArray = np.empty((0, *context.log_p_KV.shape))
            return none
        if context.start > 0:  # the window lacks some of them
            return self.laws(context.prompt, context.review)
        first, end = len(context.prompt) - 1, context.num_tokens - 1
        laws_TKV: FloatArray = self._laws([hidden_1TD[:, first:end] for hidden_1TD in hidden_states])[0]
        return laws_TKV

    def _read_whole(self, contexts: Sequence[Context]) -> list[Tensor]:
        """Read all that the windows of some texts hold; returns the hidden states (B, T, D) of each pass."""
        num_tokens_B = [context.num_tokens for context in contexts]
        # Padding lies to the right, where no token can see it; it is overwritten before a later one could.
        longest = max(num_tokens_B)
        tokens_BT = self._indices([context.tokens + [0] * (longest - context.num_tokens) for context in contexts])
        row_B = self._indices([context.row for context in contexts])
        hidden_states = self.model.hidden_states(tokens_BT, [past.first(row_B) for past in self._pasts])
        index_B, last_B = self._indices(range(len(contexts))), self._indices(num_tokens_B) - 1
        self._set_laws(contexts, [hidden_BTD[index_B, last_B].unsqueeze(1) for hidden_BTD in hidden_states])
        return hidden_states

    def _read_last(self, contexts: Sequence[Context]) -> None:
        """Read the last token of some texts, whose earlier ones are in the cache.

        The pass covers all open rows, because a part of them would have to be copied together. A row that does not
        take part reads a token at the place of its next one, which overwrites it.
        """
        last = {context.row: context.review[-1] for context in contexts}
        token_B1 = self._indices([[last.get(row, 0)] for row in range(len(self._open))])
        position_B = self._indices([context.num_tokens - (context.row in last) for context in self._open])
        hidden_states = self.model.hidden_states(token_B1, [past.next(position_B) for past in self._pasts])
        self._set_laws(contexts, [hidden_B1D[list(last)] for hidden_B1D in hidden_states])

    def _set_laws(self, contexts: Sequence[Context], hidden_states: Sequence[Tensor]) -> None:
        """Read the laws of the next tokens from the hidden states (B, 1, D) of the last ones, of each pass."""
        for context, log_p_KV in zip(contexts, self._laws(hidden_states)[:, 0], strict=True):
            context.log_p_KV = log_p_KV

    def _laws(self, hidden_states: Sequence[Tensor]) -> FloatArray:
        """Laws (B, T, K, V) of the tokens after the hidden states (B, T, D) of each pass."""
        logits_BTKV = self.model.read_out(hidden_states)
        # On the CPU first: not every device has float64.
        laws: FloatArray = logits_BTKV.cpu().double().log_softmax(-1).numpy()
        return laws

    def _indices(self, values: Sequence[int] | Sequence[Sequence[int]]) -> LongTensor:
        return cast(LongTensor, torch.tensor(values, device=self._device))
