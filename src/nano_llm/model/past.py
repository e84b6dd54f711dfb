"""What a model keeps of the tokens that it has read, so that the next one costs one position: keys and values.

R rows of the cache, B rows of a forward pass, N layers, H heads, L positions, K width of a head, T tokens, S positions
that a pass sees.

Depth mixing needs no cache: the sources of a position are states of that position, which live and die in one pass.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class FirstTokens:
    """One layer of a pass whose T tokens are the first of its rows; their keys and values are kept."""

    keys_RHLK: Tensor
    values_RHLK: Tensor
    row_B: Tensor
    position_B1: None = None

    def attend(self, query_BHTK: Tensor, key_BHTK: Tensor, value_BHTK: Tensor) -> Tensor:
        """Attend to the tokens of the pass themselves."""
        num_tokens = key_BHTK.shape[2]
        self.keys_RHLK[self.row_B, :, :num_tokens] = key_BHTK
        self.values_RHLK[self.row_B, :, :num_tokens] = value_BHTK
        return F.scaled_dot_product_attention(query_BHTK, key_BHTK, value_BHTK, is_causal=True)


@dataclass(frozen=True, slots=True)
class NextTokens:
    """One layer of a pass that reads one more token of each of the first B rows, at positions of their own."""

    keys_BHLK: Tensor
    values_BHLK: Tensor
    position_B1: Tensor
    visible_B11S: Tensor  # 0 where a row may look, minus infinity elsewhere

    def attend(self, query_BH1K: Tensor, key_BH1K: Tensor, value_BH1K: Tensor) -> Tensor:
        """Attend to what the rows have read, the new token included."""
        place_BH1K = self.position_B1[:, None, :, None].expand_as(key_BH1K)
        self.keys_BHLK.scatter_(2, place_BH1K, key_BH1K)
        self.values_BHLK.scatter_(2, place_BH1K, value_BH1K)
        num_seen = self.visible_B11S.shape[-1]
        keys_BHSK, values_BHSK = self.keys_BHLK[:, :, :num_seen], self.values_BHLK[:, :, :num_seen]
        return F.scaled_dot_product_attention(query_BH1K, keys_BHSK, values_BHSK, attn_mask=self.visible_B11S)


LayerPast = FirstTokens | NextTokens


class Past:
    """Keys and values of R rows of up to L tokens, in the N layers of a trunk.

    Args:
        shape_NRHLK: Of the keys, and of the values.
        like: A tensor of the same type and device.
    """

    def __init__(self, shape_NRHLK: tuple[int, int, int, int, int], like: Tensor) -> None:
        # Zeros, because a mask cannot hide what is not a number.
        self.keys_NRHLK = like.new_zeros(shape_NRHLK)
        self.values_NRHLK = like.new_zeros(shape_NRHLK)

    def first(self, row_B: Tensor) -> Sequence[LayerPast]:
        """The layers of a pass over the first tokens of some rows."""
        layers = zip(self.keys_NRHLK, self.values_NRHLK, strict=True)
        return [FirstTokens(keys_RHLK, values_RHLK, row_B) for keys_RHLK, values_RHLK in layers]

    def next(self, position_B: Tensor) -> Sequence[LayerPast]:
        """The layers of a pass over one more token of each of the first B rows, which have read so many."""
        num_rows, num_seen = len(position_B), int(position_B.max()) + 1
        hidden_BS = torch.arange(num_seen, device=position_B.device) > position_B[:, None]
        visible_BS = torch.zeros_like(hidden_BS, dtype=self.keys_NRHLK.dtype).masked_fill_(hidden_BS, -math.inf)
        layers = zip(self.keys_NRHLK[:, :num_rows], self.values_NRHLK[:, :num_rows], strict=True)
        position_B1, visible_B11S = position_B[:, None], visible_BS[:, None, None]
        return [NextTokens(keys_BHLK, values_BHLK, position_B1, visible_B11S) for keys_BHLK, values_BHLK in layers]

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        """Let a row be as another one that has read so many tokens."""
        for kept_NRHLK in (self.keys_NRHLK, self.values_NRHLK):
            kept_NRHLK[:, target, :, :num_tokens] = kept_NRHLK[:, source, :, :num_tokens]
