"""What training minimises: logits and targets in, named sums and counts out.

B windows, T positions, K outcomes (1 or 2), V tokens of the vocabulary. All terms are in nats.

Nothing is averaged here but the loss: a sum and its count travel together, so that figures of any number of
batches are added first and divided once.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nano_llm.config.schema import LossAverage, ModelConfig, SeparationKind, TwoHeadConfig
from nano_llm.data.batches import IGNORE

CACHED_LOGITS = 1 << 17
"""Logits whose divergence a CPU works out at once."""


@dataclass(frozen=True, slots=True)
class Sum:
    """A differentiable sum and the number of its summands, both scalars."""

    total: Tensor
    count: Tensor


class Objective:
    """Cross-entropy of the factual outcome, less a reward for outcomes that differ.

    loss = CE - weight * JS, where JS is the mean Jensen-Shannon divergence of the two outcomes over scored
    positions. CE is the mean over tokens or, with ``LossAverage.row`` and two heads, the mean over windows of
    their token means.

    Args:
        model: The architecture; it says whether there are two outcomes and how their difference is rewarded.
        loss_average: The mean that two-head models minimise; one head always averages tokens.
    """

    def __init__(self, model: ModelConfig, loss_average: LossAverage) -> None:
        two_heads = isinstance(model, TwoHeadConfig)
        self.averages_rows = two_heads and loss_average is LossAverage.row
        self.js_weight = 0.0
        if isinstance(model, TwoHeadConfig) and model.separation.kind is SeparationKind.js:
            self.js_weight = model.separation.weight

    def terms(self, logits_BTKV: Tensor, targets_BT: Tensor, treatment_B: Tensor) -> dict[str, Sum]:
        """The sums over scored positions, for metrics and for the loss.

        Args:
            logits_BTKV: Logits of one or two outcomes, in any floating type; sums are taken in fp32 or better.
            targets_BT: The tokens to predict, ``IGNORE`` where nothing is scored.
            treatment_B: The factual outcome of each window, 0 or 1; not read if there is one outcome.

        Returns:
            ``ce``: nats of the targets under the factual outcome; ``row_ce``, if rows are averaged: the
            windows' mean nats; ``js``, if it is rewarded: the divergence of the outcomes.
        """
        counts = self.counts(targets_BT)
        if self.js_weight > 0:
            nll_BT, js_BT = two_outcomes(logits_BTKV, targets_BT, treatment_B)
        else:
            nll_BT, js_BT = cross_entropy(factual(logits_BTKV, treatment_B), targets_BT), None
        totals = {"ce": nll_BT.sum()}
        if self.averages_rows:
            totals["row_ce"] = (nll_BT.sum(1) / (targets_BT != IGNORE).sum(1).clamp(min=1)).sum()
        if js_BT is not None:
            totals["js"] = js_BT.sum()
        return {name: Sum(total, counts[name]) for name, total in totals.items()}

    def counts(self, targets_BT: Tensor) -> dict[str, Tensor]:
        """The denominators of all terms, from the targets alone, so that micro-batches can be counted first."""
        scored_BT = targets_BT != IGNORE
        num_scored = scored_BT.sum()
        counts = {"ce": num_scored}
        if self.averages_rows:
            counts["row_ce"] = scored_BT.any(1).sum()
        if self.js_weight > 0:
            counts["js"] = num_scored
        return counts

    def loss(self, terms: dict[str, Sum], counts: dict[str, Tensor]) -> Tensor:
        """The scalar to differentiate: the terms of one micro-batch over the counts of its whole step."""
        ce = "row_ce" if self.averages_rows else "ce"
        loss = terms[ce].total / counts[ce].clamp(min=1)
        if self.js_weight > 0:
            loss = loss - self.js_weight * terms["js"].total / counts["js"].clamp(min=1)
        return loss


def factual(logits_BTKV: Tensor, treatment_B: Tensor) -> Tensor:
    """The logits (B, T, V) of each window's factual outcome; those of the only outcome, if there is one."""
    if logits_BTKV.shape[2] == 1:
        return logits_BTKV.squeeze(2)
    y0_BTV, y1_BTV = logits_BTKV.unbind(2)
    return torch.where(treatment_B.bool()[:, None, None], y1_BTV, y0_BTV)


def cross_entropy(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Nats of each target (B, T), 0 where it is ``IGNORE``."""
    logits_NV = at_least_fp32(logits_BTV).flatten(0, 1)
    nll_N = F.cross_entropy(logits_NV, targets_BT.flatten(), ignore_index=IGNORE, reduction="none")
    return nll_N.view(targets_BT.shape)


def two_outcomes(logits_BTKV: Tensor, targets_BT: Tensor, treatment_B: Tensor) -> tuple[Tensor, Tensor]:
    """Nats of each target under its factual outcome, and divergence of the outcomes; 0 where ``IGNORE``.

    The Jensen-Shannon divergence lies in [0, ln 2] and is finite, like its gradient, for all finite logits.

    Returns:
        Two tensors (B, T).
    """
    ignored_BT = targets_BT == IGNORE
    factual_BT = treatment_B[:, None] * logits_BTKV.shape[-1] + targets_BT.masked_fill(ignored_BT, 0)
    nll_N, js_N = _TwoOutcomes.apply(logits_BTKV.flatten(0, 1), factual_BT.view(-1, 1))
    nll_BT, js_BT = (x_N.view(targets_BT.shape).masked_fill(ignored_BT, 0.0) for x_N in (nll_N, js_N))
    return nll_BT, js_BT


def jensen_shannon(logits_BTKV: Tensor) -> Tensor:
    """Divergence of the two outcomes at every position (B, T), in nats."""
    tokens_BT = torch.zeros(logits_BTKV.shape[:2], dtype=torch.long, device=logits_BTKV.device)
    return two_outcomes(logits_BTKV, tokens_BT, tokens_BT[:, 0])[1]


def at_least_fp32(x: Tensor) -> Tensor:
    """The tensor in fp32, or as it is if that is more precise."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class _TwoOutcomes(torch.autograd.Function):
    """Cross-entropy and Jensen-Shannon divergence from one softmax: (N, 2, V), (N, 1) -> (N,), (N,).

    JS = (KL(p0 | m) + KL(p1 | m)) / 2 with m = (p0 + p1) / 2. With d = log p1 - log p0,

        log p0 - log m = ln 2 - softplus(d)      log p1 - log m = ln 2 - softplus(-d),

    and softplus(d) = max(d, 0) + softplus(-|d|): no logarithm of a probability, which may be 0, is ever taken.
    The gradient for the logits of outcome k is p_k (log p_k - log m - KL_k) / 2.

    The second argument numbers the factual targets: outcome * V + token.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        p = torch.empty_like(logits, dtype=torch.promote_types(logits.dtype, torch.float32))
        grad_js = torch.empty_like(p)
        nll, js = [], []
        for rows in _row_chunks(logits):
            log_p = logits[rows].to(p.dtype).log_softmax(-1)
            nll.append(-log_p.flatten(1).gather(1, targets[rows]))
            d = log_p[:, 1] - log_p[:, 0]
            small = F.softplus(-d.abs()).neg_().add_(math.log(2))
            log_ratio = torch.stack((small - d.clamp(min=0), small + d.clamp(max=0)), dim=1)
            probabilities = torch.exp(log_p, out=p[rows])
            kl = (probabilities * log_ratio).sum(-1, keepdim=True)
            js.append(kl.mean(1))
            torch.mul(log_ratio.sub_(kl).mul_(0.5), probabilities, out=grad_js[rows])
        ctx.save_for_backward(p, grad_js, targets)
        ctx.dtype = logits.dtype
        return torch.cat(nll).squeeze(-1), torch.cat(js).squeeze(-1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        p, grad_js, targets = ctx.saved_tensors
        grad_nll, weight_js = (grad.unsqueeze(-1) for grad in grads)
        factual = torch.stack((targets < p.shape[-1], targets >= p.shape[-1]), dim=1).to(p.dtype)
        grad = (grad_js * weight_js.unsqueeze(-1)).addcmul_(p, factual * grad_nll.unsqueeze(-1))
        grad.flatten(1).scatter_add_(1, targets, -grad_nll)
        return grad.to(ctx.dtype), None


def _row_chunks(logits: Tensor) -> list[slice]:
    """Rows (N, ...) handled at once: on a CPU so few that what is computed of them stays in the cache."""
    cached = logits.device.type == "cpu" and not torch.compiler.is_compiling()
    step = max(CACHED_LOGITS // logits[0].numel(), 1) if cached else len(logits)
    return [slice(start, start + step) for start in range(0, len(logits), step)]
