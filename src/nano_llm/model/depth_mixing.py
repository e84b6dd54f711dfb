"""Depth mixing: each sublayer reads a learned mix of earlier states (Block Attention Residuals, arXiv 2603.15031).

B windows, T positions, D d_model, S sources of a mix, Q mixes that read a source.

The rule, for one token, sources v_i, pseudo-query w and key weight g:

    r_i = (mean_D(v_i^2) + 1e-6)^(-1/2)      s_i = <w, g * v_i * r_i>
    a = softmax over i of s                  h = sum_i a_i v_i

Three exact rewrites make it cheap. The query is folded, u = w * g, so that s_i = <v_i, u> r_i and no normalised
key is ever written out. A snapshot is scored once, when it is taken, for all the mixes that will read it. And
the sum is a chain of multiply-adds over separate tensors, never a stack of the sources.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

EPS = 1e-6
Listener = Callable[[int, Tensor], None]
"""Takes the number of a mix and its weights (S, B, T)."""


@dataclass(frozen=True)
class Mix:
    """What one mix reads: snapshots by number (0 is the embedding) and perhaps the open macro-block."""

    snapshots: tuple[int, ...]
    partial: bool

    @property
    def num_sources(self) -> int:
        """Number of tensors that are mixed; a single one passes unchanged."""
        return len(self.snapshots) + self.partial


def trim(snapshots: tuple[int, ...], max_snapshots: int) -> tuple[int, ...]:
    """The first and the most recent ``max_snapshots - 1`` of the others; all of them if the cap is 0."""
    if max_snapshots == 0 or len(snapshots) <= max_snapshots:
        return snapshots
    return snapshots[:1] + snapshots[len(snapshots) - max_snapshots + 1 :]


def plan_mixes(num_layers: int, macro_block_size: int, max_snapshots: int, final_mix: bool) -> list[Mix]:
    """The mixes in the order in which they run: attention and feed-forward of each layer, then the final one.

    Args:
        num_layers: Layers of the trunk.
        macro_block_size: Layers in a macro-block; a snapshot follows each complete one.
        max_snapshots: Snapshots kept, the embedding included; 0 keeps all.
        final_mix: Whether one more mix, over all that is kept, feeds the final norm.
    """
    mixes = []
    kept: tuple[int, ...] = (0,)
    for layer in range(num_layers):
        mixes += [Mix(kept, partial=layer % macro_block_size > 0), Mix(kept, partial=True)]
        if (layer + 1) % macro_block_size == 0:
            kept = trim((*kept, (layer + 1) // macro_block_size), max_snapshots)
    if final_mix:
        mixes.append(Mix(kept, partial=num_layers % macro_block_size > 0))
    return mixes


def scores_and_scale(source_BTD: Tensor, folded_QD: Tensor) -> tuple[Tensor, Tensor]:
    """Scores s = <v, u> r (Q, N) for every row u, and r = (mean(v^2) + EPS)^(-1/2) (N,), of N windows and positions."""
    source_ND = source_BTD.flatten(0, 1)
    scale_N = torch.rsqrt(torch.linalg.vector_norm(source_ND, dim=-1).square() / source_BTD.shape[-1] + EPS)
    return (folded_QD @ source_ND.mT) * scale_N, scale_N


def weighted_sum(weights_SBT: Tensor, sources: Sequence[Tensor]) -> Tensor:
    """Mix h = sum_i a_i v_i: weights (S, B, T) and S tensors (B, T, D) -> (B, T, D)."""
    weights_SBT1 = weights_SBT.unsqueeze(-1)
    mixed_BTD = weights_SBT1[0] * sources[0]
    for weight_BT1, source_BTD in zip(weights_SBT1[1:], sources[1:], strict=True):
        mixed_BTD.addcmul_(weight_BT1, source_BTD)
    return mixed_BTD


class _Scores(torch.autograd.Function):
    """``scores_and_scale``: (B, T, D), (Q, D) -> scores (Q, B, T); and v itself.

    Handing v on lets its later gradients arrive here and be added in the same pass; as a second use of v they
    would cost autograd a sum of their own.
    """

    @staticmethod
    def forward(ctx: Any, source: Tensor, folded: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        scores_QN, scale_N = scores_and_scale(source, folded)
        ctx.save_for_backward(source, folded, scale_N, scores_QN)
        return scores_QN.unflatten(1, source.shape[:2]), source

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        source, folded, scale_N, scores_QN = ctx.saved_tensors
        grad_scores, later = grads
        if grad_scores is None:
            return later, None
        source_ND = source.flatten(0, 1)
        scaled_QN = grad_scores.flatten(1) * scale_N
        # d r / d v = -r^3 v / D holds with EPS too, because r contains it.
        shrink_N = (scaled_QN * scores_QN).sum(0) * scale_N / -source.shape[-1]
        grad_ND = torch.addmm(later.flatten(0, 1), scaled_QN.mT, folded)
        grad_ND.addcmul_(source_ND, shrink_N.unsqueeze(-1))
        return grad_ND.view(source.shape), scaled_QN @ source_ND


class _WeightedSum(torch.autograd.Function):
    """``weighted_sum``; and the tensors themselves."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, *sources: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(weights, *sources)
        return weighted_sum(weights, sources), *sources

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        weights, *sources = ctx.saved_tensors
        grad, *later_grads = grads
        if grad is None:  # with a cap of 1, the final mix reads the embedding alone
            return None, *later_grads
        product = torch.empty_like(grad)
        grad_weights = torch.stack([torch.mul(grad, source, out=product).sum(-1) for source in sources])
        grad_sources = [
            weight * grad if later is None else torch.addcmul(later, weight, grad)
            for weight, later in zip(weights.unsqueeze(-1), later_grads, strict=True)
        ]
        return grad_weights, *grad_sources


def score(source_BTD: Tensor, folded_QD: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (Q, B, T) of a source for the folded queries of its readers; and the source, for those readers."""
    with torch.autocast(source_BTD.device.type, enabled=False):
        source_BTD = source_BTD.to(folded_QD.dtype)
        if not torch.is_grad_enabled():  # an autograd function costs more than its arithmetic on one token
            return scores_and_scale(source_BTD, folded_QD)[0].unflatten(1, source_BTD.shape[:2]), source_BTD
        scores_QBT, source_BTD = _Scores.apply(source_BTD, folded_QD)
    return scores_QBT, source_BTD


class DepthMemory:
    """The snapshots of one forward pass, each with its scores for the mixes that will read it."""

    def __init__(self, mixes: list[Mix], folded: dict[int, Tensor], listener: Listener | None) -> None:
        self._mixes = mixes
        self._listener = listener
        self._folded = folded  # one row D for each mix that has a choice
        self._snapshots: list[Tensor] = []
        self._scores: list[dict[int, Tensor]] = []  # (B, T) for each mix that reads the snapshot

    def keep(self, snapshot_BTD: Tensor) -> None:
        """Take the next snapshot; the embedding is the first."""
        number = len(self._snapshots)
        readers = [m for m in self._folded if number in self._mixes[m].snapshots]
        self._scores.append({})
        if readers:
            folded_QD = torch.stack([self._folded[m] for m in readers])
            scores_QBT, snapshot_BTD = score(snapshot_BTD, folded_QD)
            self._scores[number] = dict(zip(readers, scores_QBT.unbind(0), strict=True))
        self._snapshots.append(snapshot_BTD)

    def mix(self, index: int, partial_BTD: Tensor | None = None) -> Tensor:
        """The input (B, T, D) of the sublayer with this number; ``partial_BTD`` if its plan names a partial."""
        snapshots = self._mixes[index].snapshots
        sources = [self._snapshots[s] for s in snapshots]
        if self._mixes[index].num_sources == 1:
            return sources[0]
        scores = [self._scores[s][index] for s in snapshots]
        if partial_BTD is not None:
            scores_1BT, partial_BTD = score(partial_BTD, self._folded[index][None])
            sources.append(partial_BTD)
            scores.append(scores_1BT[0])
        weights_SBT = torch.stack(scores).softmax(0)
        if self._listener is not None:
            self._listener(index, weights_SBT.detach())
        if not torch.is_grad_enabled():
            return weighted_sum(weights_SBT, sources)
        mixed_BTD: Tensor
        mixed_BTD, *sources = _WeightedSum.apply(weights_SBT, *sources)
        for s, source in zip(snapshots, sources, strict=False):  # the partial, if any, comes last
            self._snapshots[s] = source
        return mixed_BTD


class DepthMixing(nn.Module):
    """Pseudo-queries w and key weights g of all mixes, (D,) each, in the order of ``plan_mixes``.

    A mix with a single source has no choice to learn: it keeps its parameters, so that checkpoints have one
    shape, but they ask for no gradient.
    """

    def __init__(self, d_model: int, mixes: list[Mix]) -> None:
        super().__init__()
        self.mixes = mixes
        self.choosing = [m for m, mix in enumerate(mixes) if mix.num_sources > 1]
        self.queries = nn.ParameterList(torch.empty(d_model) for _ in mixes)
        self.key_weights = nn.ParameterList(torch.ones(d_model) for _ in mixes)
        for m, mix in enumerate(mixes):
            self.queries[m].requires_grad_(mix.num_sources > 1)
            self.key_weights[m].requires_grad_(mix.num_sources > 1)
        self._listener: Listener | None = None

    @contextmanager
    def heard(self, listener: Listener) -> Iterator[None]:
        """Let somebody hear the weights of every mix that has a choice, of all forward passes in this context."""
        self._listener = listener
        try:
            yield
        finally:
            self._listener = None

    def open(self) -> DepthMemory:
        """An empty memory for one forward pass."""
        queries = torch.stack([self.queries[m] for m in self.choosing])
        key_weights = torch.stack([self.key_weights[m] for m in self.choosing])
        rows = (queries * key_weights).unbind(0)
        return DepthMemory(self.mixes, dict(zip(self.choosing, rows, strict=True)), self._listener)
