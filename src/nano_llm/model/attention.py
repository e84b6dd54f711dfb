"""Causal self-attention, with dropout on the attention probabilities.

B windows, T positions, D d_model, H heads, K width of a head, N = B * H pairs of a window and a head,
Q queries of a block, S keys that a block sees.

Without dropout, and on accelerators, PyTorch's fused attention does the work. On a CPU that kernel has no
dropout, and PyTorch's fallback draws a Bernoulli variable for every pair of positions. There,
``attend_with_masks`` works through blocks whose scores stay in the cache.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nano_llm.model.dropout import draw_keep_mask, draws_own_masks, keep_scale
from nano_llm.model.linear import Linear
from nano_llm.model.past import LayerPast
from nano_llm.model.positions import Positions

# Queries in a block: keys after the block's end are never touched, so smaller blocks waste less of the square.
BLOCK = 128
# Scores handled at once, 1 MB of them: two such buffers fit in the level-2 caches of two cores.
CACHED_SCORES = 1 << 18


def query_blocks(num_positions: int) -> list[tuple[int, int]]:
    """First and end position of each block of queries; a block sees the keys before its end."""
    starts = range(0, num_positions, BLOCK)
    return [(start, min(start + BLOCK, num_positions)) for start in starts]


def draw_keep_blocks(num_pairs: int, num_positions: int, rate: float) -> list[Tensor]:
    """One mask (N, Q, S) for each block of queries; flags of later keys are drawn but never matter."""
    return [draw_keep_mask((num_pairs, end - start, end), rate) for start, end in query_blocks(num_positions)]


def attend_with_masks(query: Tensor, key: Tensor, value: Tensor, keeps: Sequence[Tensor], scale: float) -> Tensor:
    """Causal attention whose probabilities are multiplied by ``keep * scale``.

    Args:
        query: Queries (B, H, T, K), positions already marked; likewise ``key`` and ``value``.
        key: Keys.
        value: Values.
        keeps: The masks of ``draw_keep_blocks``.
        scale: Factor of the kept probabilities.
    """
    mixed_NTK: Tensor = _MaskedAttention.apply(*(x.flatten(0, 1) for x in (query, key, value)), scale, *keeps)
    return mixed_NTK.view(query.shape)


class _MaskedAttention(torch.autograd.Function):
    """softmax(q k' / sqrt(K) + causal) * keep * scale @ v on (N, T, K), a block of queries at a time.

    Scores, masks and gradients of scores live in buffers that are used again and again, because memory that is
    still in the cache costs a fraction of fresh memory. Only the probabilities are kept for the backward pass.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float, *keeps: Tensor) -> Tensor:
        mixed = torch.empty_like(query)
        probabilities = []
        for (start, end), keep in zip(query_blocks(query.shape[1]), keeps, strict=True):
            causal_QS = query.new_full((end - start, end), -math.inf).triu_(start + 1)
            for pairs, kept, scores in _score_buffers(query, start, end):
                key_nSK, value_nSK = key[pairs, :end], value[pairs, :end]
                torch.baddbmm(causal_QS, query[pairs, start:end], key_nSK.mT, alpha=query.shape[-1] ** -0.5, out=scores)
                probability = scores.softmax(-1)
                probabilities.append(probability)
                kept.copy_(keep[pairs]).mul_(probability)
                torch.bmm(kept, value_nSK, out=mixed[pairs, start:end])
        mixed.mul_(scale)
        ctx.save_for_backward(query, key, value, mixed, *keeps, *probabilities)
        ctx.scale = scale
        return mixed

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mixed, *saved = ctx.saved_tensors
        blocks = query_blocks(query.shape[1])
        keeps, probabilities = saved[: len(blocks)], iter(saved[len(blocks) :])
        # With P the probabilities and dP the gradient of the kept ones, dS = P keep dP - P <dO, O>.
        inner_NT1 = (grads[0] * mixed).sum(-1, keepdim=True)
        grad_mixed = grads[0] * ctx.scale
        grad_query, grad_key, grad_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for (start, end), keep in zip(blocks, keeps, strict=True):
            for pairs, kept, grad_scores in _score_buffers(query, start, end):
                probability, grad_nQK = next(probabilities), grad_mixed[pairs, start:end]
                kept.copy_(keep[pairs]).mul_(probability)
                grad_value[pairs, :end].baddbmm_(kept.mT, grad_nQK)
                torch.bmm(grad_nQK, value[pairs, :end].mT, out=grad_scores)
                grad_scores.mul_(kept).addcmul_(probability, inner_NT1[pairs, start:end], value=-1)
                torch.bmm(grad_scores, key[pairs, :end], out=grad_query[pairs, start:end])
                grad_key[pairs, :end].baddbmm_(grad_scores.mT, query[pairs, start:end])
        root = query.shape[-1] ** -0.5
        return grad_query.mul_(root), grad_key.mul_(root), grad_value, None, *[None] * len(keeps)


def _score_buffers(query_NTK: Tensor, start: int, end: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Slices of the pairs, each with the same two buffers (n, Q, S) for its scores."""
    num_pairs, size = query_NTK.shape[0], (end - start) * end
    step = min(max(CACHED_SCORES // size, 1), num_pairs)
    kept, scores = query_NTK.new_empty(2, step, end - start, end).unbind(0)
    for first in range(0, num_pairs, step):
        count = min(step, num_pairs - first)
        yield slice(first, first + count), kept[:count], scores[:count]


def attend(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    """Causal attention of queries over keys and values, all (B, H, T, K), positions already marked.

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        dropout: Share of the attention probabilities that is dropped; 0 outside of training.
    """
    if dropout > 0 and draws_own_masks(query):
        keeps = draw_keep_blocks(query.shape[0] * query.shape[1], query.shape[2], dropout)
        return attend_with_masks(query, key, value, keeps, keep_scale(dropout))
    return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)


class Attention(nn.Module):
    """Multi-head causal self-attention; one matrix projects queries, keys and values (rows in this order)."""

    def __init__(self, d_model: int, num_heads: int, dropout: float, positions: Positions) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.positions = positions
        self.query_key_value = Linear(d_model, 3 * d_model)
        self.output = Linear(d_model, d_model)

    def project(self, hidden_BTD: Tensor, position_BT: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, T, K) of tokens at these positions, 0 to T - 1 by default."""
        heads_BT3HK = self.query_key_value(hidden_BTD).unflatten(-1, (3, self.num_heads, -1))
        query_key_2BHTK, value_1BHTK = heads_BT3HK.permute(2, 0, 3, 1, 4).split((2, 1))
        query, key = self.positions.rotate(query_key_2BHTK, position_BT)
        return query, key, value_1BHTK.squeeze(0)

    def forward(self, hidden_BTD: Tensor, past: LayerPast | None = None) -> Tensor:
        """Map (B, T, D) to (B, T, D); with a past, that of this layer, the tokens join it and attend to it."""
        if past is None:
            mixed_BHTK = attend(*self.project(hidden_BTD), dropout=self.dropout if self.training else 0.0)
        else:
            mixed_BHTK = past.attend(*self.project(hidden_BTD, past.position_B1))
        output_BTD: Tensor = self.output(mixed_BHTK.transpose(1, 2).flatten(-2))
        return output_BTD
