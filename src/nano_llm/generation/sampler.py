"""Ancestral sampling: reviews drawn token by token from one outcome of a model.

The next token is argmax_v [logit_v + temperature * g_v] with g_v ~ Gumbel(0, 1), which is a draw from
softmax(logits / temperature), and the likeliest token at temperature 0. The noise of row i at step t is a function of
(seed, i, t) alone, made on the CPU in float64: rows do not depend on the batch, nor on the device, but for the
rounding of the model's logits.

Axes: B rows in one forward pass, T positions, K outcomes, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from nano_llm.data.arrays import BoolArray
from nano_llm.data.template import MARKERS, REVIEW_CLOSE, SPECIALS
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.errors import DataError


@dataclass(frozen=True, slots=True)
class Sampled:
    """A review that a model wrote."""

    tokens: tuple[int, ...]
    """Of the review: neither the prompt nor the end marker."""
    text: str
    ended: bool
    """Whether the model ended it; otherwise it was cut at the number of tokens asked for."""


@torch.inference_mode()
def sample_reviews(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    outcome: int,
    *,
    num_tokens: int,
    window_length: int,
    temperature: float = 1.0,
    seed: int,
    batch_size: int,
    device: torch.device,
) -> list[Sampled]:
    """Sample one review a prompt.

    A review that outgrows the window goes on with the prompt and the newest half of what fits: the contexts in which
    `Windows.covering` with two views, as evaluation uses it, scores the same tokens.

    Args:
        model: In evaluation mode, on the device; tokens (B, T) to logits (B, T, K, V).
        tokenizer: Of the model.
        prompts: As `Template.prompt` spells them. A model with one outcome is told the outcome by them.
        outcome: Whose distribution is sampled, 0 or 1; not read if the model has one outcome.
        num_tokens: Most tokens of a review, its end marker not counted.
        window_length: Of the data that the model was trained on, in tokens.
        temperature: Divides the logits; 0 takes the likeliest token.
        seed: Of the noise, at least 0; row i of the prompts has its own.
        batch_size: Rows in one forward pass.
        device: Where the model lies.

    Returns:
        The reviews in the order of the prompts.

    Raises:
        DataError: A prompt leaves room for fewer than two review tokens in the window.
    """
    writer = _Writer(model, tokenizer, outcome, window_length, temperature, device)
    encoded = {prompt: tokenizer.encode_prompt(prompt) for prompt in dict.fromkeys(prompts)}
    _check_room(encoded, window_length)
    sampled: list[Sampled] = []
    for first in range(0, len(prompts), batch_size):
        batch = prompts[first : first + batch_size]
        drafts = [_Draft(encoded[prompt], _noise(seed, first + index)) for index, prompt in enumerate(batch)]
        for _ in range(num_tokens + 1):  # one more, in which a review of full length may end
            open_ = [draft for draft in drafts if not draft.ended]
            if not open_:
                break
            writer.extend(open_)
        sampled += [writer.finished(draft, num_tokens) for draft in drafts]
    return sampled


@dataclass(slots=True)
class _Draft:
    """A review in the making."""

    prompt: list[int]
    noise: np.random.Generator
    review: list[int] = field(default_factory=list)
    start: int = 0  # first review token in the window
    ended: bool = False


class _Writer:
    """Extends drafts by one token at a time."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        outcome: int,
        window_length: int,
        temperature: float,
        device: torch.device,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.outcome = outcome
        self.window_length = window_length
        self.temperature = temperature
        self.device = device
        # The reference's tokenizer spells markers as text, so only <eos> can end a review.
        self.ends = tokenizer.end_ids if tokenizer.has_markers else (tokenizer.eos_id,)
        self.never_V = torch.from_numpy(_never_sampled(tokenizer, self.ends))

    def extend(self, drafts: Sequence[_Draft]) -> None:
        """Sample the next token of each draft, and end those whose token is an end marker."""
        logits_BV = self._logits([self._context(draft) for draft in drafts])
        gumbel_BV = np.stack([-np.log(draft.noise.standard_exponential(logits_BV.shape[1])) for draft in drafts])
        scores_BV = logits_BV + self.temperature * torch.from_numpy(gumbel_BV)
        for draft, token in zip(drafts, scores_BV.argmax(dim=1).tolist(), strict=True):
            if token in self.ends:
                draft.ended = True
            else:
                draft.review.append(token)

    def finished(self, draft: _Draft, num_tokens: int) -> Sampled:
        """Return a draft as a review of at most so many tokens."""
        tokens = draft.review[:num_tokens]
        text = self.tokenizer.decode(tokens)
        if not self.tokenizer.has_markers:
            text = text.partition(REVIEW_CLOSE)[0].strip()
        return Sampled(tuple(tokens), text, draft.ended)

    def _context(self, draft: _Draft) -> list[int]:
        """Return the prompt and the review so far, without its oldest tokens where the next one would not fit."""
        room = self.window_length - len(draft.prompt)
        if len(draft.review) - draft.start == room:
            draft.start += room // 2
        return draft.prompt + draft.review[draft.start :]

    def _logits(self, contexts: Sequence[list[int]]) -> Tensor:
        """Return the logits (B, V) of the token after each context: on the CPU, in float64, -inf if never sampled."""
        length_B = torch.tensor([len(context) for context in contexts])
        tokens_BT = torch.full((len(contexts), int(length_B.max())), self.tokenizer.pad_id)
        for row, context in enumerate(contexts):
            tokens_BT[row, : len(context)] = torch.tensor(context)
        logits_BTKV = self.model(tokens_BT.to(self.device))
        # Padding lies to the right, where no earlier position can see it.
        last_BKV = logits_BTKV[torch.arange(len(contexts)), length_B - 1].cpu().double()
        logits_BV: Tensor = last_BKV[:, self.outcome if last_BKV.shape[1] == 2 else 0]
        return logits_BV.masked_fill(self.never_V, -torch.inf)


def _noise(seed: int, row: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(row,))))


def _never_sampled(tokenizer: Tokenizer, ends: tuple[int, ...]) -> BoolArray:
    """Return which tokens (V,) are neither text nor the end of a review."""
    markup = {*SPECIALS, *MARKERS} if tokenizer.has_markers else {*SPECIALS}
    return np.array([tokenizer.token(v) in markup and v not in ends for v in range(tokenizer.vocab_size)])


def _check_room(encoded: dict[str, list[int]], window_length: int) -> None:
    for prompt, tokens in encoded.items():
        if len(tokens) + 2 > window_length:
            raise DataError(
                f"A window of {window_length} tokens leaves no room for a review: the prompt {prompt!r} has "
                f"{len(tokens)} and a window needs two more, {len(tokens) + 2}. Give the window length that the model "
                "was trained with, or a shorter prompt."
            )
