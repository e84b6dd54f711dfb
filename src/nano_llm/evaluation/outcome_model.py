"""A trained model as the laws of a review under its outcomes, whatever tells it the treatment.

A model with two heads gives both outcomes in one pass. A model with one head is told the treatment by its prompt, so
each outcome is a pass with a prompt of its own. With one head and a prompt that is silent there is one outcome only.

Axes: R reviews, R1 one more than reviews, N tokens of all reviews (each review's own and its end marker, the prompt's
not), n some of them, K outcomes, V vocabulary, W windows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nano_llm.config.schema import Conditioning
from nano_llm.data.arrays import FloatArray, IntArray
from nano_llm.data.batches import IGNORE, cut
from nano_llm.data.review import Review
from nano_llm.data.samples import Samples, format_samples
from nano_llm.data.template import Template
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.data.windows import Windows
from nano_llm.errors import DataError
from nano_llm.model.language_model import LanguageModel
from nano_llm.training.machine import Machine

NUM_VIEWS = 2
"""Windows that see a token in the middle of a long review: each repeats half of the one before as context."""


@dataclass(frozen=True)
class TokenScores:
    """Log-probabilities of the tokens of R reviews, in nats."""

    log_p_NK: FloatArray
    tokens_N: IntArray
    offset_R1: IntArray  # review r has the rows offset_R1[r]:offset_R1[r + 1]

    @property
    def log_p_RK(self) -> FloatArray:
        """Log-probability of each whole review, its end marker included."""
        return sum_by_review(self.log_p_NK, self.offset_R1)

    @property
    def num_tokens_R(self) -> IntArray:
        """Scored tokens of each review."""
        return np.diff(self.offset_R1)


@dataclass(frozen=True)
class OutcomeModel:
    """A model, and what it takes to ask it about a text."""

    model: LanguageModel  # in evaluation mode, on the machine's device
    num_heads: int
    tokenizer: Tokenizer
    template: Template
    window_length: int
    machine: Machine
    batch_size: int
    on_batch: Callable[[], None] = lambda: None  # called before each forward pass; may raise to end the scoring

    @property
    def num_outcomes(self) -> int:
        """K: 2 if the model can be asked about both treatments, else 1."""
        return 1 if self.num_heads == 1 and self.template.conditioning is Conditioning.command else 2

    def score(self, reviews: Sequence[Review]) -> TokenScores:
        """Return the log-probability of every token of every review under every outcome.

        Each token is scored once, in a window that holds at least half a window of its past where there is so much.
        """
        samples = self._samples(reviews)
        log_p_NK = np.empty((len(samples.tokens_N), self.num_outcomes))
        for rows_n, outcomes, log_p_nkV, targets_n in self._passes(reviews):
            chosen_nk = log_p_nkV.gather(2, targets_n[:, None, None].expand(-1, log_p_nkV.shape[1], 1)).squeeze(2)
            # On the CPU first: not every device has float64.
            log_p_NK[rows_n, outcomes] = chosen_nk.cpu().double().numpy()
        keep_N, offset_R1 = _review_rows(samples)
        return TokenScores(log_p_NK[keep_N], samples.tokens_N[keep_N].astype(np.int64), offset_R1)

    def laws(self, reviews: Sequence[Review]) -> NDArray[np.float32]:
        """Return the whole law before every token of every review, (N, K, V) in nats: mind the memory."""
        samples = self._samples(reviews)
        keep_N, _ = _review_rows(samples)
        place_N = np.cumsum(keep_N) - 1
        log_p_NKV = np.empty((int(keep_N.sum()), self.num_outcomes, self.tokenizer.vocab_size), np.float32)
        for rows_n, outcomes, log_p_nkV, _ in self._passes(reviews):
            kept_n = keep_N[rows_n]
            log_p_NKV[place_N[rows_n[kept_n]], outcomes] = log_p_nkV[torch.from_numpy(kept_n)].cpu().numpy()
        return log_p_NKV

    def _samples(self, reviews: Sequence[Review]) -> Samples:
        return format_samples(reviews, self.template, self.tokenizer)

    @torch.inference_mode()
    def _passes(self, reviews: Sequence[Review]) -> Iterator[tuple[IntArray, slice, Tensor, Tensor]]:
        """Yield rows of the reviews' samples as given, the outcomes of the pass, the laws before them and the tokens.

        Raises:
            DataError: A prompt changes how the review behind it is cut into tokens.
        """
        given = self._samples(reviews)
        if self.num_outcomes == self.num_heads:
            yield from self._pass(given, given, slice(0, self.num_outcomes))
            return
        for k in range(self.num_outcomes):
            told = self._samples([replace(review, treatment=k) for review in reviews])
            if not np.array_equal(told.length_R - told.prompt_length_R, given.length_R - given.prompt_length_R):
                raise DataError(
                    "The tokens of a review depend on the sentiment in its prompt, so its outcomes cannot be compared "
                    "token by token. Train with protocol=fair, whose tokenizer keeps prompt and review apart."
                )
            yield from self._pass(told, given, slice(k, k + 1))

    def _pass(self, told: Samples, given: Samples, outcomes: slice) -> Iterator[tuple[IntArray, slice, Tensor, Tensor]]:
        windows = Windows.covering(told, self.window_length, self.tokenizer.pad_id, num_views=NUM_VIEWS)
        row_W = _first_rows(windows, told, given)
        # Rows of one length share a batch, so few positions are padding.
        order_W = np.argsort(-windows.length_W, kind="stable")
        for first in range(0, len(order_W), self.batch_size):
            self.on_batch()
            chosen = order_W[first : first + self.batch_size]
            batch = cut(windows, chosen)
            in_review_BT = torch.arange(batch.targets_BT.shape[1]) + 1 >= batch.prompt_length_B[:, None]
            scored_BT = (batch.targets_BT != IGNORE) & in_review_BT
            rank_BT = scored_BT.cumsum(1) - 1
            rows_n = (torch.from_numpy(row_W[chosen])[:, None] + rank_BT)[scored_BT].numpy()
            moved = batch.to(self.machine.device)
            with self.machine.autocast():
                logits_BTKV = self.model(moved.inputs_BT)
            scored_BT = scored_BT.to(logits_BTKV.device)
            log_p_nkV = logits_BTKV[scored_BT].float().log_softmax(-1)
            yield rows_n, outcomes, log_p_nkV, moved.targets_BT[scored_BT]


def sum_by_review(values_N: FloatArray, offset_R1: IntArray) -> FloatArray:
    """Sum over each review's rows along the first axis; 0 for a review without rows."""
    cumulative = np.concatenate([np.zeros((1, *values_N.shape[1:])), np.cumsum(values_N, axis=0, dtype=np.float64)])
    sums: FloatArray = cumulative[offset_R1[1:]] - cumulative[offset_R1[:-1]]
    return sums


def _review_rows(samples: Samples) -> tuple[np.ndarray, IntArray]:
    """Return which rows of the samples are a review's own or its end marker, and where each review's rows lie."""
    column_N = np.arange(len(samples.tokens_N)) - np.repeat(samples.offset_R1[:-1], samples.length_R)
    keep_N = column_N >= np.repeat(samples.prompt_length_R, samples.length_R)
    length_R = samples.length_R - samples.prompt_length_R
    return keep_N, np.concatenate([[0], np.cumsum(length_R, dtype=np.int64)])


def _first_rows(windows: Windows, told: Samples, given: Samples) -> IntArray:
    """Return the row of the given samples that the first scored review token of each window is."""
    scored_W = windows.length_W.astype(np.int64) - np.maximum(windows.first_target_W, windows.prompt_length_W)
    before_W = np.cumsum(scored_W) - scored_W
    body_R = told.length_R - told.prompt_length_R
    start_R = np.cumsum(body_R) - body_R
    place_W: IntArray = given.offset_R1[:-1] + given.prompt_length_R
    first_W: IntArray = place_W[windows.review_W] + before_W - start_R[windows.review_W]
    return first_W
