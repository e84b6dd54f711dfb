"""Where two heads differ: divergence by position, by what the text so far has told, and on rare tokens.

A reward for divergence can be earned where it costs nothing: late in a window, where the text has already told its
treatment, or on tokens that hardly ever come. This is where to look for it. Only scored review targets count.

Axes: B rows, T positions, K outcomes, V vocabulary, N review targets.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from nano_llm.data.batches import IGNORE, Batch, review_batches
from nano_llm.data.windows import Windows
from nano_llm.evaluation.likelihood import chosen_reviews
from nano_llm.objective import at_least_fp32, cross_entropies, evidence, posterior_divergence
from nano_llm.training.machine import Machine

NUM_DECILES = 10
POSTERIOR_EDGES = (0.005, 0.05, 0.25, 0.5, 0.75, 0.95, 0.995)
"""Inner edges of the bins of P(T=1 | earlier targets); a bin holds its lower edge. Under a reward of 0.02 for uniform
divergence, heads leave the truth in the outermost two."""
RARE_SHARE = 0.01


@torch.inference_mode()
def divergence_profile(
    model: nn.Module,
    windows: Windows,
    machine: Machine,
    *,
    batch_size: int,
    num_reviews: int | None = None,
    on_batch: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Tell where the heads of a model differ.

    Args:
        model: With two outcomes, in evaluation mode.
        windows: Of a split.
        machine: Device and arithmetic.
        batch_size: Windows in one forward pass.
        num_reviews: Take so many reviews, evenly spaced over the split; None: all.
        on_batch: Called before each forward pass; may raise to end the work.

    Returns:
        ``all``, and lists ``by_position`` (tenths of each window's review targets, in order) and ``by_posterior``
        (with ``from`` and ``to``, of P(T=1) after the window's earlier review targets): each a dict of ``targets``
        and, in nats a target, ``js`` and ``posterior_js``, None where there is no target. ``rare``: ``tokens`` of
        the vocabulary that are rarest among the targets and together make up ``share`` of them, at most 1 %, and
        their share ``js_share`` of all JS, None if that is 0. JS is a sum over the vocabulary of nonnegative parts,
        so such a share exists.
    """
    sums = _Sums()
    for batch in review_batches(windows, batch_size, chosen_reviews(windows, num_reviews)):
        on_batch()
        moved = batch.to(machine.device)
        with machine.autocast():
            logits_BTKV = model(moved.inputs_BT)
        sums.add(logits_BTKV, moved)
    return sums.profile()


class _Sums:
    """Targets, JS and posterior JS in each bin, and JS of each token of the vocabulary."""

    def __init__(self) -> None:
        self.position = torch.zeros(NUM_DECILES, 3, dtype=torch.float64)
        self.posterior = torch.zeros(len(POSTERIOR_EDGES) + 1, 3, dtype=torch.float64)
        self.token_V2: Tensor | None = None

    def add(self, logits_BTKV: Tensor, batch: Batch) -> None:
        targets_BT = batch.review_targets_BT
        scored_BT = targets_BT != IGNORE
        nll_BTK = cross_entropies(logits_BTKV, targets_BT)
        evidence_BT = evidence(nll_BTK)
        parts_NV = _js_parts(logits_BTKV[scored_BT])
        posterior_js_N = posterior_divergence(logits_BTKV, evidence_BT)[scored_BT]
        figures_N3 = torch.stack([torch.ones_like(posterior_js_N), parts_NV.sum(1), posterior_js_N], dim=1)
        # Doubles on the CPU alone: not every device has them.
        figures_N3 = figures_N3.cpu().double()
        rank_BT = scored_BT.cumsum(1) - 1
        decile_BT = NUM_DECILES * rank_BT // scored_BT.sum(1, keepdim=True).clamp(min=1)
        edges = torch.tensor(POSTERIOR_EDGES, dtype=torch.float64).logit()
        bin_N = torch.bucketize(evidence_BT[scored_BT].cpu().double(), edges, right=True)
        self.position.index_add_(0, decile_BT[scored_BT].cpu(), figures_N3)
        self.posterior.index_add_(0, bin_N, figures_N3)
        count_V = torch.bincount(targets_BT[scored_BT].cpu(), minlength=logits_BTKV.shape[-1])
        token_V2 = torch.stack([count_V.double(), parts_NV.sum(0).cpu().double()], dim=1)
        self.token_V2 = token_V2 if self.token_V2 is None else self.token_V2 + token_V2

    def profile(self) -> dict[str, Any]:
        bounds = [0.0, *POSTERIOR_EDGES, 1.0]
        return {
            "all": _means(self.position.sum(0)),
            "by_position": [_means(row) for row in self.position],
            "by_posterior": [
                {"from": low, "to": high, **_means(row)}
                for (low, high), row in zip(pairwise(bounds), self.posterior, strict=True)
            ],
            "rare": self._rare(),
        }

    def _rare(self) -> dict[str, Any]:
        if self.token_V2 is None:
            return {"tokens": 0, "share": 0.0, "js_share": None}
        count_V, js_V = self.token_V2.unbind(1)
        order = count_V.argsort(stable=True)
        reached = count_V[order].cumsum(0) / count_V.sum()
        rarest = order[reached <= RARE_SHARE]
        js = float(js_V.sum())
        return {
            "tokens": len(rarest),
            "share": float(count_V[rarest].sum() / count_V.sum()),
            "js_share": float(js_V[rarest].sum()) / js if js > 0 else None,
        }


def _js_parts(logits_N2V: Tensor) -> Tensor:
    """What each token of the vocabulary contributes to JS, (N, V): (p0 log(p0/m) + p1 log(p1/m)) / 2, at least 0."""
    log_p_N2V = at_least_fp32(logits_N2V).log_softmax(-1)
    log_m_NV = torch.logaddexp(log_p_N2V[:, 0], log_p_N2V[:, 1]) - math.log(2)
    return (log_p_N2V.exp() * (log_p_N2V - log_m_NV[:, None])).mean(1).clamp(min=0)


def _means(row: Tensor) -> dict[str, Any]:
    targets, js, posterior_js = row.tolist()
    if not targets:
        return {"targets": 0, "js": None, "posterior_js": None}
    return {"targets": int(targets), "js": js / targets, "posterior_js": posterior_js / targets}
