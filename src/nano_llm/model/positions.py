"""How a position reaches the trunk: rotations of queries and keys, or waves added to the embedding.

B windows, T positions, D d_model, H heads, K width of a head, P pairs of units (K / 2).
"""

import torch
from torch import Tensor, nn

BASE = 10_000.0


def position_angles(num_positions: int, width: int) -> Tensor:
    """Angle t / BASE^(2p / width) of position t and pair p, in float64."""
    frequencies_P = BASE ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return torch.outer(torch.arange(num_positions, dtype=torch.float64), frequencies_P)


class Positions(nn.Module):
    """Where positions enter a trunk. Both methods take the positions (B, T) of the tokens, 0 to T - 1 by default."""

    def embed(self, hidden_BTD: Tensor, position_BT: Tensor | None = None) -> Tensor:
        """Mark the embedded tokens (B, T, D)."""
        raise NotImplementedError

    def rotate(self, heads_BHTK: Tensor, position_BT: Tensor | None = None) -> Tensor:
        """Mark queries or keys, or a stack of them (..., B, H, T, K)."""
        raise NotImplementedError


class RotaryPositions(Positions):
    """Rotary embedding (arXiv 2104.09864) of neighbouring pairs: units 2p and 2p + 1 turn together."""

    def __init__(self, head_width: int, max_positions: int) -> None:
        super().__init__()
        angles = position_angles(max_positions, head_width)
        table_TP2 = torch.stack((angles.cos(), angles.sin()), dim=-1).to(torch.get_default_dtype())
        self.table_TP2: Tensor
        self.register_buffer("table_TP2", table_TP2, persistent=False)

    def embed(self, hidden_BTD: Tensor, position_BT: Tensor | None = None) -> Tensor:
        """Return the embedding as it is."""
        return hidden_BTD

    def rotate(self, heads_BHTK: Tensor, position_BT: Tensor | None = None) -> Tensor:
        """Turn each pair of units of (..., B, H, T, K) by its position's angle, in the precision of the table."""
        table = self.table_TP2  # (T, P, 2), or (B, 1, T, P, 2) where rows have positions of their own
        table = table[: heads_BHTK.shape[-2]] if position_BT is None else table[position_BT].unsqueeze(1)
        pairs_BHTP2 = heads_BHTK.to(table.dtype).unflatten(-1, (-1, 2))
        if torch.compiler.is_compiling():  # the compiler fuses real arithmetic and cannot compile complex
            x, y = pairs_BHTP2.unbind(-1)
            cos, sin = table.unbind(-1)
            turned_BHTP2 = torch.stack((x * cos - y * sin, x * sin + y * cos), dim=-1)
        else:  # one pass instead of six; contiguous, because a pass over long rows is worth the copy
            turns = torch.view_as_complex(table)
            turned_BHTP2 = torch.view_as_real(torch.view_as_complex(pairs_BHTP2.contiguous()) * turns)
        return turned_BHTP2.flatten(-2).to(heads_BHTK.dtype)


class SinusoidalPositions(Positions):
    """Waves of geometric lengths added to the embedding (arXiv 1706.03762, section 3.5)."""

    def __init__(self, d_model: int, max_positions: int) -> None:
        super().__init__()
        angles = position_angles(max_positions, d_model)
        table_TD = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)[:, :d_model]
        self.table_TD: Tensor
        self.register_buffer("table_TD", table_TD.to(torch.get_default_dtype()), persistent=False)

    def embed(self, hidden_BTD: Tensor, position_BT: Tensor | None = None) -> Tensor:
        """Add the waves to (B, T, D)."""
        return hidden_BTD + self.table_TD[slice(hidden_BTD.shape[1]) if position_BT is None else position_BT]

    def rotate(self, heads_BHTK: Tensor, position_BT: Tensor | None = None) -> Tensor:
        """Return queries or keys as they are."""
        return heads_BHTK
