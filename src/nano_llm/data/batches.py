"""Batches: windows as tensors, in a seeded order that resumes anywhere.

A window of tokens ``t0 t1 t2 t3`` gives inputs ``t0 t1 t2`` and targets ``t1 t2 t3``; targets before the window's
first target and after its last token are `IGNORE`.

Where training wants minimal pairs, a batch carries some as its last rows, negative and positive in turn:

    ordinary window, ordinary window, ..., pair 0 negative, pair 0 positive, pair 1 negative, pair 1 positive

Axes: B windows of the batch, T positions, W windows of the set.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch import Tensor

from nano_llm.data.arrays import IntArray
from nano_llm.data.windows import Windows

IGNORE = -100  # the target of a position that is not scored


WINDOWS_A_PAIR = 4
"""Ordinary windows of a training batch for each pair that it carries."""


@dataclass(frozen=True, slots=True)
class Batch:
    """B windows as tensors: int64, but for the propensities."""

    inputs_BT: Tensor
    targets_BT: Tensor
    treatment_B: Tensor
    prompt_length_B: Tensor  # tokens of the prompt, bos included: position prompt_length - 1 predicts the review
    review_B: Tensor  # index of the review in its split
    propensity_B: Tensor  # float32, P(T=1) of the review
    num_pairs: int = field(default=0, kw_only=True)  # their members are the last rows

    def __len__(self) -> int:
        return len(self.treatment_B)

    @property
    def num_windows(self) -> int:
        """Ordinary windows: rows that belong to no pair."""
        return len(self) - 2 * self.num_pairs

    @property
    def num_targets(self) -> int:
        """Positions of ordinary windows that are scored; synchronises unless the batch is on the CPU."""
        return int((self.targets_BT[: self.num_windows] != IGNORE).sum())

    @property
    def review_targets_BT(self) -> Tensor:
        """The targets that belong to the review, its end marker included; `IGNORE` inside the prompt."""
        index_T = torch.arange(1, self.targets_BT.shape[1] + 1, device=self.targets_BT.device)
        return self.targets_BT.masked_fill(index_T < self.prompt_length_B[:, None], IGNORE)

    def ordinary(self) -> "Batch":
        """Return the rows that belong to no pair."""
        return self._rows(slice(self.num_windows)) if self.num_pairs else self

    def pairs(self) -> "Batch":
        """Return the rows that belong to pairs, as ordinary ones: negative and positive in turn."""
        return self._rows(slice(self.num_windows, None))

    def share(self, rank: int, size: int) -> "Batch":
        """Return the rows of one of ``size`` processes; a pair stays together, and there may be no rows at all."""
        ordinary = self._rows(_part(self.num_windows, rank, size))
        # Counted from the other end, or the last process would get the odd one of both.
        part = _part(self.num_pairs, size - 1 - rank, size)
        pairs = self.pairs()._rows(slice(2 * part.start, 2 * part.stop))
        tensors = (torch.cat(both) for both in zip(ordinary._tensors(), pairs._tensors(), strict=True))
        return Batch(*tensors, num_pairs=part.stop - part.start)

    def _rows(self, rows: slice) -> "Batch":
        return Batch(*(tensor[rows] for tensor in self._tensors()))

    def _tensors(self) -> Iterator[Tensor]:
        return (getattr(self, each.name) for each in fields(self) if each.name != "num_pairs")

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device, without waiting for the copy."""
        if device.type == "cpu":
            return self
        if device.type == "cuda":
            pinned = (tensor.pin_memory() for tensor in self._tensors())
            return Batch(*(tensor.to(device, non_blocking=True) for tensor in pinned), num_pairs=self.num_pairs)
        return Batch(*(tensor.to(device) for tensor in self._tensors()), num_pairs=self.num_pairs)


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """How far training has come: windows taken of an epoch's order."""

    epoch: int = 0
    position: int = 0


def cut(windows: Windows, rows: IntArray, pad_to: int | None = None) -> Batch:
    """Return the windows of the given rows as one batch.

    Args:
        windows: Where they lie.
        rows: Their indices, in the order of the batch.
        pad_to: T; None takes as many positions as the longest row needs.
    """
    length_B = windows.length_W[rows]
    num_positions = int(length_B.max()) - 1
    if pad_to is not None:
        assert num_positions <= pad_to < windows.tokens_WL.shape[1], "rows do not fit pad_to"
        num_positions = pad_to
    tokens_BL = windows.tokens_WL[rows, : num_positions + 1].astype(np.int64)
    index_T = np.arange(1, num_positions + 1)  # of the target in its row
    scored_BT = (windows.first_target_W[rows, None] <= index_T) & (index_T < length_B[:, None])
    return Batch(
        inputs_BT=torch.from_numpy(np.ascontiguousarray(tokens_BL[:, :-1])),
        targets_BT=torch.from_numpy(np.where(scored_BT, tokens_BL[:, 1:], IGNORE)),
        treatment_B=_tensor(windows.treatment_W[rows]),
        prompt_length_B=_tensor(windows.prompt_length_W[rows]),
        review_B=_tensor(windows.review_W[rows]),
        propensity_B=torch.from_numpy(windows.propensity_W[rows]),
    )


def epoch_order(num_windows: int, seed: int, epoch: int) -> IntArray:
    """Return the order of an epoch: a permutation that only the arguments decide, under any version of numpy."""
    # numpy promises the bits of Philox for good, but not how a Generator turns bits into a permutation.
    keys_W = np.random.Philox(np.random.SeedSequence((seed, epoch))).random_raw(num_windows)
    return np.argsort(keys_W, kind="stable")


def batches(
    windows: Windows,
    batch_size: int,
    seed: int,
    start: Cursor = Cursor(),
    pad_to: int | None = None,
    pairs: Windows | None = None,
) -> Iterator[tuple[Batch, Cursor]]:
    """Yield batches for ever, each with the cursor that continues right after it.

    Every epoch takes each window once in an order of its own; its last batch may be smaller. Pairs come along, one
    for every `WINDOWS_A_PAIR` windows, in orders of their own; so the cursor tells where they stand, too.

    Args:
        windows: What is trained on.
        batch_size: Windows in a batch.
        seed: Decides the orders of all epochs.
        start: Where to begin.
        pad_to: Positions of every batch; None takes as many as its longest row needs.
        pairs: Windows of minimal pairs, negative and positive in turn; None: batches carry none.
    """
    epoch, position = start.epoch, start.position
    while True:
        order_W = epoch_order(len(windows), seed, epoch)
        while position < len(order_W):
            rows = order_W[position : position + batch_size]
            if pairs is None:
                batch = cut(windows, rows, pad_to)
            else:
                taken = epoch * len(windows) + position
                due = _rows_due(pairs, taken, taken + len(rows), seed)
                batch = _cut_with_pairs(windows, rows, pairs, due, pad_to)
            position += len(rows)
            following = Cursor(epoch, position) if position < len(order_W) else Cursor(epoch + 1)
            yield batch, following
        epoch, position = epoch + 1, 0


def _rows_due(pairs: Windows, start: int, stop: int, seed: int) -> IntArray:
    """Return the rows of the pairs that go with windows start to stop, counted over all epochs."""
    num_pairs = len(pairs) // 2
    due = range(start // WINDOWS_A_PAIR, stop // WINDOWS_A_PAIR)
    orders = {epoch: epoch_order(num_pairs, seed, epoch) for epoch in {index // num_pairs for index in due}}
    first = np.array([2 * orders[index // num_pairs][index % num_pairs] for index in due], np.int64)
    return np.stack([first, first + 1], axis=1).ravel()


def _cut_with_pairs(windows: Windows, rows: IntArray, pairs: Windows, due: IntArray, pad_to: int | None) -> Batch:
    """Return ordinary windows and pairs as one batch of one width."""
    if not len(due):
        return cut(windows, rows, pad_to)
    width = pad_to or int(max(windows.length_W[rows].max(), pairs.length_W[due].max())) - 1
    parts = cut(windows, rows, width)._tensors(), cut(pairs, due, width)._tensors()
    return Batch(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)), num_pairs=len(due) // 2)


def review_batches(windows: Windows, batch_size: int, reviews: IntArray | None = None) -> Iterator[Batch]:
    """Yield all windows of the given reviews once, the longest first, to be told apart by ``review_B``.

    Args:
        windows: A set of windows.
        batch_size: Windows in a batch; the last may have fewer.
        reviews: Indices of reviews; None takes all.
    """
    chosen_W = np.ones(len(windows), np.bool_) if reviews is None else np.isin(windows.review_W, reviews)
    rows = np.flatnonzero(chosen_W)
    # Rows of one length share a batch, so few positions are padding.
    rows = rows[np.argsort(-windows.length_W[rows], kind="stable")]
    for first in range(0, len(rows), batch_size):
        yield cut(windows, rows[first : first + batch_size])


def _part(number: int, rank: int, size: int) -> slice:
    """Return one of ``size`` parts of so many things; they differ by one at most."""
    return slice(number * rank // size, number * (rank + 1) // size)


def _tensor(values: IntArray) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))
