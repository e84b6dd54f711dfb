"""The parts of a decoder layer, shared by all trunks, and the treatment's part in what a trunk reads.

B windows, T positions, D d_model, F width of the feed-forward hidden layer.
"""

import torch
from torch import Tensor, nn

from nano_llm.config.schema import ScaleConfig
from nano_llm.model.attention import Attention
from nano_llm.model.dropout import Dropout, ReluDropoutLinear
from nano_llm.model.linear import Linear
from nano_llm.model.past import LayerPast
from nano_llm.model.positions import Positions


class FeedForward(nn.Module):
    """Linear, ReLU, dropout, Linear, dropout."""

    def __init__(self, d_model: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.up = Linear(d_model, d_ff)
        self.down = ReluDropoutLinear(d_ff, d_model, dropout)
        self.dropout = Dropout(dropout)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        output_BTD: Tensor = self.dropout(self.down(self.up(hidden_BTD)))
        return output_BTD


class Layer(nn.Module):
    """The two pre-norm sublayers of a layer. What they read, and where their outputs go, is the trunk's."""

    def __init__(self, scale: ScaleConfig, dropout: float, positions: Positions) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(scale.d_model)
        self.attention = Attention(scale.d_model, scale.num_heads, dropout, positions)
        self.feed_forward_norm = nn.LayerNorm(scale.d_model)
        self.feed_forward = FeedForward(scale.d_model, scale.d_ff, dropout)

    def attend(self, hidden_BTD: Tensor, past: LayerPast | None = None) -> Tensor:
        """Output of the attention sublayer (B, T, D), without the residual."""
        output_BTD: Tensor = self.attention(self.attention_norm(hidden_BTD), past)
        return output_BTD

    def transform(self, hidden_BTD: Tensor) -> Tensor:
        """Output of the feed-forward sublayer (B, T, D), without the residual."""
        output_BTD: Tensor = self.feed_forward(self.feed_forward_norm(hidden_BTD))
        return output_BTD


class TreatmentEmbedding(nn.Module):
    """A vector for each treatment, the same at every position."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2, d_model))

    def forward(self, embedded_BTD: Tensor, treatment: int | Tensor) -> Tensor:
        """Add the vector of treatment 0 or 1, of all windows or of each (B,), to embedded tokens (B, T, D)."""
        return embedded_BTD + (self.weight[treatment] if isinstance(treatment, int) else self.weight[treatment, None])
