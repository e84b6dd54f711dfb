"""The peer that a tutorial would write: a small pre-norm decoder of PyTorch's own modules, and its training step.

B windows, T positions, D d_model, H heads, K width of a head, V tokens of the vocabulary.
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nano_llm.config.schema import Precision, ScaleConfig


class PlainAttention(nn.Module):
    """Causal self-attention."""

    def __init__(self, scale: ScaleConfig, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = scale.num_heads, dropout
        self.query_key_value = nn.Linear(scale.d_model, 3 * scale.d_model)
        self.output = nn.Linear(scale.d_model, scale.d_model)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        query_key_value = self.query_key_value(hidden_BTD).chunk(3, dim=-1)
        query, key, value = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in query_key_value)
        dropout = self.dropout if self.training else 0.0
        mixed_BHTK = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        output_BTD: Tensor = self.output(mixed_BHTK.transpose(1, 2).flatten(-2))
        return output_BTD


class PlainLayer(nn.Module):
    """x = x + attention(norm(x)); x = x + feed_forward(norm(x))."""

    def __init__(self, scale: ScaleConfig, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(scale.d_model)
        self.attention = PlainAttention(scale, dropout)
        self.feed_forward_norm = nn.LayerNorm(scale.d_model)
        self.feed_forward = nn.Sequential(
            nn.Linear(scale.d_model, scale.d_ff),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(scale.d_ff, scale.d_model),
            nn.Dropout(dropout),
        )

    def forward(self, stream_BTD: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        stream_BTD = stream_BTD + self.attention(self.attention_norm(stream_BTD))
        output_BTD: Tensor = stream_BTD + self.feed_forward(self.feed_forward_norm(stream_BTD))
        return output_BTD


class PlainDecoder(nn.Module):
    """A decoder with learned positions whose readout is its embedding; otherwise what our vanilla model computes."""

    def __init__(self, scale: ScaleConfig, vocab_size: int, window: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, scale.d_model)
        self.position = nn.Embedding(window, scale.d_model)
        self.layers = nn.Sequential(*(PlainLayer(scale, dropout) for _ in range(scale.num_layers)))
        self.final_norm = nn.LayerNorm(scale.d_model)
        for embedding in (self.embedding, self.position):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Map tokens (B, T) to logits (B, T, V)."""
        position_T = torch.arange(tokens_BT.shape[1])
        hidden_BTD = self.layers(self.embedding(tokens_BT) + self.position(position_T))
        return F.linear(self.final_norm(hidden_BTD), self.embedding.weight)


def next_token_loss(model: nn.Module, tokens_BT: Tensor) -> Tensor:
    """Return the mean nats of all tokens but the first."""
    logits_BTV = model(tokens_BT[:, :-1])
    return F.cross_entropy(logits_BTV.flatten(0, 1), tokens_BT[:, 1:].flatten())


def plain_step(model: nn.Module, loss: Callable[[], Tensor], precision: Precision) -> Callable[[], object]:
    """Return one training step of a plain loop: forward, loss, backward, clip, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if precision is Precision.bf16 else nullcontext():
            measured = loss()
        measured.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step
