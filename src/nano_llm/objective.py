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
from torch import Tensor, nn

from nano_llm.config.schema import (
    MARGIN,
    SCALE,
    THRESHOLD,
    LossAverage,
    ModelConfig,
    SeparationKind,
    TwoOutcomeConfig,
    Weighting,
)
from nano_llm.data.batches import IGNORE, Batch

CACHED_LOGITS = 1 << 17
"""Logits whose divergence a CPU works out at once."""


@dataclass(frozen=True, slots=True)
class Sum:
    """A differentiable sum and the number of its summands, both scalars."""

    total: Tensor
    count: Tensor


class Objective(nn.Module):
    """Cross-entropy of the factual outcome, and a term that asks the outcomes to differ.

    loss = CE + sign * w * term, with w = ``model.separation.weight``. Under ``bayes``, w is a share:
    loss = (1 - w) * CE + w * term. CE is the mean over tokens or, with ``LossAverage.row`` and two heads, the mean
    over windows of their token means. With w = 0 nothing but CE is worked out.

    Notation: l_k the log-probability of a target under outcome k; T the factual outcome, T' the other; s_k the sum
    of l_k over the scored review targets of a window and n their number; llr = l_1 - l_0; pi_t = P(T = 1 | the
    window's scored review targets before t) = sigmoid(sum of their llr), from a prior of 1/2 and without gradient;
    m_t = pi_t p_1 + (1 - pi_t) p_0.

    | kind           | sign | term                                                            | mean over             |
    |----------------|------|-----------------------------------------------------------------|-----------------------|
    | `none`         |      |                                                                 |                       |
    | `js`           | -    | (KL(p_0, m) + KL(p_1, m)) / 2 with m = (p_0 + p_1) / 2          | targets, prompt's too |
    | `posterior_js` | -    | (1 - pi_t) KL(p_0, m_t) + pi_t KL(p_1, m_t)                     | review targets        |
    | `bayes`        |      | -log softmax_k(a s_k / n + b_k)[T], a > 0 and b learned         | windows               |
    | `margin`       | +    | max(0, margin - (s_T - s_T')) / n                               | windows               |
    | `unlikelihood` | +    | -log(1 - p_T') if l_T - l_T' > threshold, else 0                | review targets        |
    | `cad_pairs`    | +    | -log sigmoid(scale * ((s_1 - s_0)(x_1) - (s_1 - s_0)(x_0)) / n) | pairs (x_0, x_1)      |

    In `cad_pairs` n is the mean length of the pair, whose windows a batch carries beside the ordinary ones.

    With ``model.weighting=inverse_propensity`` the CE of a window weighs T/(2e) + (1-T)/(2(1-e)), e = P(T=1) of its
    review; the term `ce` stays unweighted.

    The only parameters are a and b of `bayes`. They are trained beside the model and belong to no model.

    Args:
        model: The architecture; it says whether there are two outcomes and how their difference is rewarded.
        loss_average: The mean that two-head models minimise; one head always averages tokens.
    """

    def __init__(self, model: ModelConfig, loss_average: LossAverage) -> None:
        super().__init__()
        two_heads = isinstance(model, TwoOutcomeConfig)
        self.averages_rows = two_heads and loss_average is LossAverage.row
        self.weights_windows = isinstance(model, TwoOutcomeConfig) and model.weighting is Weighting.inverse_propensity
        weighted = "weighted_" if self.weights_windows else ""
        self.minimised_ce = f"{weighted}row_ce" if self.averages_rows else f"{weighted}ce"
        self.kind, self.weight = SeparationKind.none, 0.0
        if isinstance(model, TwoOutcomeConfig) and model.separation.weight > 0:
            separation = model.separation
            self.kind, self.weight = separation.kind, separation.weight
            self.scale = SCALE if separation.scale is None else separation.scale
            self.margin = MARGIN if separation.margin is None else separation.margin
            self.threshold = THRESHOLD if separation.threshold is None else separation.threshold
        if self.kind is SeparationKind.bayes:
            self.log_scale = nn.Parameter(torch.tensor(math.log(self.scale)))
            self.bias_K = nn.Parameter(torch.zeros(2))

    @property
    def reads_both(self) -> bool:
        """Whether the loss depends on the other outcome than the factual one."""
        return self.kind is not SeparationKind.none

    @property
    def reads_pairs(self) -> bool:
        """Whether training batches are to carry minimal pairs."""
        return self.kind is SeparationKind.cad_pairs

    def terms(self, logits_BTKV: Tensor, batch: Batch) -> dict[str, Sum]:
        """The sums over scored positions, for metrics and for the loss.

        Args:
            logits_BTKV: Logits of one or two outcomes, in any floating type; sums are taken in fp32 or better.
            batch: The windows that they answer; targets are ``IGNORE`` where nothing is scored. With one outcome the
                treatments are not read.

        Returns:
            ``ce``: nats of the targets under the factual outcome; if windows are averaged or weighted, what is
            minimised in its place: ``row_ce``, ``weighted_ce`` or ``weighted_row_ce``; the separation term, if
            there is one, under the name of its kind.
        """
        counts = self.counts(batch)
        nll_BT, separation = self._nats_and_separation(logits_BTKV, batch)
        totals = {"ce": nll_BT.sum()}
        if self.minimised_ce != "ce":
            totals[self.minimised_ce] = self._minimised(nll_BT, batch.ordinary())
        if separation is not None:
            totals[self.kind.name] = separation
        return {name: Sum(total, counts[name]) for name, total in totals.items()}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """The denominators of all terms, from the targets alone, so that micro-batches can be counted first."""
        ordinary = batch.ordinary()
        scored_BT = ordinary.targets_BT != IGNORE
        counts = {"ce": scored_BT.sum()}
        if self.minimised_ce != "ce":
            counts[self.minimised_ce] = scored_BT.any(1).sum() if self.averages_rows else counts["ce"]
        match self.kind:
            case SeparationKind.none:
                pass
            case SeparationKind.js:
                counts["js"] = counts["ce"]
            case SeparationKind.posterior_js | SeparationKind.unlikelihood:
                counts[self.kind.name] = (ordinary.review_targets_BT != IGNORE).sum()
            case SeparationKind.bayes | SeparationKind.margin:
                counts[self.kind.name] = (ordinary.review_targets_BT != IGNORE).any(1).sum()
            case SeparationKind.cad_pairs:
                counts["cad_pairs"] = torch.full_like(counts["ce"], batch.num_pairs)
        return counts

    def loss(self, terms: dict[str, Sum], counts: dict[str, Tensor]) -> Tensor:
        """The scalar to differentiate: the terms of one micro-batch over the counts of its whole step."""
        loss = terms[self.minimised_ce].total / counts[self.minimised_ce].clamp(min=1)
        if self.kind is SeparationKind.none:
            return loss
        term = terms[self.kind.name].total / counts[self.kind.name].clamp(min=1)
        match self.kind:
            case SeparationKind.js | SeparationKind.posterior_js:
                return loss - self.weight * term
            case SeparationKind.bayes:
                return (1 - self.weight) * loss + self.weight * term
            case _:
                return loss + self.weight * term

    def _minimised(self, nll_BT: Tensor, batch: Batch) -> Tensor:
        """The sum of the cross-entropy that enters the loss, where it is not the plain one."""
        if self.weights_windows:
            chance_B = torch.where(batch.treatment_B == 1, batch.propensity_B, 1 - batch.propensity_B)
            nll_BT = nll_BT * (0.5 / chance_B)[:, None]
        if self.averages_rows:
            return (nll_BT.sum(1) / (batch.targets_BT != IGNORE).sum(1).clamp(min=1)).sum()
        return nll_BT.sum()

    def _nats_and_separation(self, logits_BTKV: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Nats of each ordinary target under its factual outcome, and the sum of the separation term."""
        targets_BT, treatment_B = batch.targets_BT, batch.treatment_B
        match self.kind:
            case SeparationKind.none:
                ordinary = batch.ordinary()
                logits_BTKV = logits_BTKV[: len(ordinary)]
                return cross_entropy(factual(logits_BTKV, ordinary.treatment_B), ordinary.targets_BT), None
            case SeparationKind.js:
                nll_BT, js_BT = two_outcomes(logits_BTKV, targets_BT, treatment_B)
                return nll_BT, js_BT.sum()
        nll_BTK = cross_entropies(logits_BTKV, targets_BT)
        nll_BT = torch.where(treatment_B.bool()[:, None], nll_BTK[..., 1], nll_BTK[..., 0])[: batch.num_windows]
        if self.kind is SeparationKind.cad_pairs:
            return nll_BT, self._cad_pairs(nll_BTK[batch.num_windows :], batch.pairs())
        review_BT = batch.review_targets_BT != IGNORE
        nll_BTK = nll_BTK.masked_fill(~review_BT[..., None], 0.0)
        match self.kind:
            case SeparationKind.posterior_js:
                js_BT = posterior_divergence(logits_BTKV, evidence(nll_BTK))
                return nll_BT, js_BT.masked_fill(~review_BT, 0.0).sum()
            case SeparationKind.bayes:
                return nll_BT, self._bayes(nll_BTK, review_BT, treatment_B)
            case SeparationKind.margin:
                return nll_BT, self._margin(nll_BTK, review_BT, treatment_B)
            case _:
                return nll_BT, self._unlikelihood(logits_BTKV, nll_BTK, review_BT, batch)

    def _bayes(self, nll_BTK: Tensor, review_BT: Tensor, treatment_B: Tensor) -> Tensor:
        length_B = review_BT.sum(1)
        score_BK = -nll_BTK.sum(1) / length_B.clamp(min=1)[:, None]
        posterior_BK = self.log_scale.exp() * score_BK + self.bias_K
        nats_B = F.cross_entropy(posterior_BK, treatment_B, reduction="none")
        return nats_B.masked_fill(length_B == 0, 0.0).sum()

    def _margin(self, nll_BTK: Tensor, review_BT: Tensor, treatment_B: Tensor) -> Tensor:
        length_B = review_BT.sum(1)
        lead_B = log_ratios(nll_BTK).sum(1) * (2 * treatment_B - 1)  # s_T - s_T'
        lacking_B = (self.margin - lead_B).clamp(min=0) / length_B.clamp(min=1)
        return lacking_B.masked_fill(length_B == 0, 0.0).sum()

    def _unlikelihood(self, logits_BTKV: Tensor, nll_BTK: Tensor, review_BT: Tensor, batch: Batch) -> Tensor:
        lead_BT = log_ratios(nll_BTK.detach()) * (2 * batch.treatment_B - 1)[:, None]
        telling_BT = (lead_BT > self.threshold) & review_BT
        other_BTV = factual(logits_BTKV, 1 - batch.treatment_B)
        nats_BT = -log_chance_of_another(other_BTV, batch.targets_BT.clamp(min=0))
        return nats_BT.masked_fill(~telling_BT, 0.0).sum()

    def _cad_pairs(self, nll_BTK: Tensor, pairs: Batch) -> Tensor:
        review_BT = pairs.review_targets_BT != IGNORE
        ratio_P2 = log_ratios(nll_BTK).masked_fill(~review_BT, 0.0).sum(1).view(-1, 2)
        length_P = review_BT.sum(1).view(-1, 2).sum(1).clamp(min=1) / 2
        return F.softplus(-self.scale * (ratio_P2[:, 1] - ratio_P2[:, 0]) / length_P).sum()


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


def cross_entropies(logits_BTKV: Tensor, targets_BT: Tensor) -> Tensor:
    """Nats of each target under every outcome (B, T, K), 0 where it is ``IGNORE``."""
    targets_BTK = targets_BT[..., None].expand(logits_BTKV.shape[:3])
    return cross_entropy(logits_BTKV.flatten(1, 2), targets_BTK.flatten(1)).view(targets_BTK.shape)


def log_ratios(nll_BTK: Tensor) -> Tensor:
    """How many nats each target speaks for outcome 1: log p_1 - log p_0, shape (B, T)."""
    return nll_BTK[..., 0] - nll_BTK[..., 1]


def evidence(nll_BTK: Tensor) -> Tensor:
    """Logit of P(T = 1 | earlier targets of the window) at every position (B, T), from a prior of 1/2; no gradient.

    Args:
        nll_BTK: Nats of each target under either outcome, 0 for those that are to say nothing.
    """
    ratio_BT = log_ratios(nll_BTK.detach())
    return F.pad(ratio_BT.cumsum(1)[:, :-1], (1, 0))


def posterior_divergence(logits_BTKV: Tensor, evidence_BT: Tensor) -> Tensor:
    """Divergence of the outcomes as one who holds the evidence sees it, at every position (B, T), in nats.

    JS_pi = pi KL(p_1, m) + (1 - pi) KL(p_0, m) with m = pi p_1 + (1 - pi) p_0 is what the next token tells of the
    treatment: at most the entropy of pi, and the Jensen-Shannon divergence where pi = 1/2.

    Args:
        logits_BTKV: Logits of two outcomes.
        evidence_BT: log(pi / (1 - pi)), taken as given: no gradient flows into it.
    """
    divergence_N: Tensor = _PosteriorDivergence.apply(logits_BTKV.flatten(0, 1), evidence_BT.reshape(-1, 1))
    return divergence_N.view(evidence_BT.shape)


def log_chance_of_another(logits_BTV: Tensor, tokens_BT: Tensor) -> Tensor:
    """log(1 - p(token)) at every position (B, T); finite, like its gradient, however certain the token is."""
    logits_BTV = at_least_fp32(logits_BTV)
    others_BTV = logits_BTV.scatter(2, tokens_BT[..., None], float("-inf"))
    return others_BTV.logsumexp(-1) - logits_BTV.logsumexp(-1)


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


class _PosteriorDivergence(torch.autograd.Function):
    """JS_pi from logits and the logit of pi: (N, 2, V), (N, 1) -> (N,).

    log m = logaddexp(log pi + log p1, log(1 - pi) + log p0) is finite for all finite logits and evidence. The
    gradient for the logits of outcome k is pi_k p_k (log p_k - log m - KL_k).
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, evidence: Tensor) -> Tensor:
        grad_js = torch.empty_like(logits, dtype=torch.promote_types(logits.dtype, torch.float32))
        js = []
        for rows in _row_chunks(logits):
            log_p = logits[rows].to(grad_js.dtype).log_softmax(-1)
            logit = evidence[rows].to(grad_js.dtype)
            log_pi = torch.stack((F.logsigmoid(-logit), F.logsigmoid(logit)), dim=1)
            log_m = torch.logaddexp(*(log_p + log_pi).unbind(1))
            log_ratio = log_p - log_m.unsqueeze(1)
            p, pi = log_p.exp(), log_pi.exp()
            kl = (p * log_ratio).sum(-1, keepdim=True)
            js.append((pi * kl).sum((1, 2)))
            torch.mul(log_ratio.sub_(kl).mul_(pi), p, out=grad_js[rows])
        ctx.save_for_backward(grad_js)
        ctx.dtype = logits.dtype
        return torch.cat(js)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad_js,) = ctx.saved_tensors
        return (grad_js * grads[0][:, None, None]).to(ctx.dtype), None


def _row_chunks(logits: Tensor) -> list[slice]:
    """Rows (N, ...) handled at once: on a CPU so few that what is computed of them stays in the cache."""
    cached = logits.device.type == "cpu" and not torch.compiler.is_compiling()
    step = max(CACHED_LOGITS // logits[0].numel(), 1) if cached else len(logits)
    return [slice(start, start + step) for start in range(0, len(logits), step)]
