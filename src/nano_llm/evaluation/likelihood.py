"""How well a model predicts reviews: nats a target and bits a byte.

Axes: B rows, T positions, K outcomes, V vocabulary, W windows.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nano_llm.data.batches import IGNORE, Batch, review_batches
from nano_llm.data.windows import Windows
from nano_llm.objective import Objective, Sum, cross_entropy, factual, jensen_shannon
from nano_llm.training.machine import Machine


@dataclass(frozen=True)
class Likelihood:
    """Sums over the scored windows, ready to be divided."""

    nats: float
    """Of all scored targets, the prompt's included, under the factual head."""
    num_targets: int
    review_nats: float
    """Of the review's tokens and its end marker."""
    num_bytes: int
    """UTF-8 bytes of the cleaned reviews that were scored."""
    objective: float
    """What training minimises, penalties included; the reference's "validation CE"."""
    separation: float | None
    """Mean Jensen-Shannon divergence of the heads in nats a target; None with one head."""
    term: tuple[str, float] | None
    """Name and mean of the objective's separation term, in nats; None without one, or if it is ``separation``."""
    num_reviews: int

    def metrics(self, prefix: str) -> dict[str, float]:
        """Return the figures under their names in the metrics table.

        Args:
            prefix: ``val`` or ``test``.
        """
        cross_entropy = self.nats / self.num_targets
        figures = {
            f"{prefix}_ce": cross_entropy,
            f"{prefix}_ppl": math.exp(min(cross_entropy, 700.0)),
            f"{prefix}_objective": self.objective,
            f"{prefix}_reviews": self.num_reviews,
            f"{prefix}_bpb": self.bits_per_byte,
        }
        if self.separation is not None:
            figures[f"{prefix}_js"] = self.separation
        if self.term is not None:
            name, mean = self.term
            figures[f"{prefix}_{name}"] = mean
        return figures

    @property
    def bits_per_byte(self) -> float:
        """Bits a byte of the cleaned reviews; the prompt is free."""
        return self.review_nats / math.log(2) / self.num_bytes


@torch.inference_mode()
def likelihood(
    model: nn.Module,
    objective: Objective,
    windows: Windows,
    num_bytes_R: Sequence[int] | np.ndarray,
    machine: Machine,
    *,
    batch_size: int,
    num_reviews: int | None,
    on_batch: Callable[[], None] = lambda: None,
) -> Likelihood:
    """Score a split under the head of each review's own label.

    Args:
        model: In evaluation mode.
        objective: Gives the training objective's value beside the plain sums.
        windows: Of the split; the covering ones score every token of a review exactly once.
        num_bytes_R: Bytes of each cleaned review of the split.
        machine: Device and arithmetic.
        batch_size: Windows in one forward pass.
        num_reviews: Score so many reviews, evenly spaced over the split; None: all.
        on_batch: Called before each forward pass; may raise to end the scoring.
    """
    chosen_R = evenly_spaced(len(num_bytes_R), num_reviews)
    names: list[str] = []
    measured: list[Tensor] = []
    for batch in review_batches(windows, batch_size, chosen_R):
        on_batch()
        moved = batch.to(machine.device)
        with machine.autocast():
            # Not by calling it, which of a compiled one would make a graph for every width.
            logits_BTKV = model.forward(moved.inputs_BT)
        terms = _terms(objective, logits_BTKV, moved)
        names = list(terms)
        measured.append(torch.stack([value for term in terms.values() for value in (term.total, term.count)]))
    totals, counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    # Fetched together: the device is waited for once.
    for figures in torch.stack(measured).tolist():
        for name, total, count in zip(names, figures[::2], figures[1::2], strict=True):
            totals[name] += total
            counts[name] += count
    kind = objective.kind.name
    sums = {name: Sum(_float64(totals[name]), _float64(counts[name])) for name in totals}
    return Likelihood(
        nats=totals["ce"],
        num_targets=int(counts["ce"]),
        review_nats=totals["review_ce"],
        num_bytes=int(np.asarray(num_bytes_R)[chosen_R].sum()),
        objective=float(objective.loss(sums, {name: term.count for name, term in sums.items()})),
        separation=totals["js"] / counts["js"] if "js" in totals else None,
        # Pairs come with training batches only, so their term has no summands here.
        term=(kind, totals[kind] / counts[kind]) if kind != "js" and counts.get(kind) else None,
        num_reviews=len(chosen_R),
    )


def evenly_spaced(num_reviews: int, wanted: int | None) -> np.ndarray:
    """Choose reviews at even distances: the same ones in every run, balanced when the split is sorted by label."""
    if wanted is None or wanted >= num_reviews:
        return np.arange(num_reviews)
    return np.arange(wanted) * num_reviews // wanted


def chosen_reviews(windows: Windows, wanted: int | None) -> np.ndarray:
    """Choose so many reviews of a split as `evenly_spaced` does; None: all."""
    return evenly_spaced(int(windows.review_W.max()) + 1 if len(windows) else 0, wanted)


def _terms(objective: Objective, logits_BTKV: Tensor, batch: Batch) -> dict[str, Sum]:
    """Return the objective's terms and beside them the review's own nats and, of two heads, their divergence."""
    terms = objective.terms(logits_BTKV, batch)
    review_targets_BT = batch.review_targets_BT
    nats_BT = cross_entropy(factual(logits_BTKV, batch.treatment_B), review_targets_BT)
    terms["review_ce"] = Sum(nats_BT.sum(), (review_targets_BT != IGNORE).sum())
    if logits_BTKV.shape[2] == 2 and "js" not in terms:
        ignored_BT = batch.targets_BT == IGNORE
        terms["js"] = Sum(jensen_shannon(logits_BTKV).masked_fill(ignored_BT, 0.0).sum(), (~ignored_BT).sum())
    return terms


def _float64(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
