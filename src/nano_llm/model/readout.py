"""Readouts: hidden states in, logits of one or two outcomes out.

B windows, T positions, D d_model, K outcomes (1 or 2), V tokens of the vocabulary.

A readout is also given the token embedding (V, D), so that a tied one has no parameter of its own.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nano_llm.config.schema import (
    HeadConfig,
    MlpReadoutConfig,
    ModelConfig,
    SymmetricReadoutConfig,
    TiedReadoutConfig,
    TwoHeadReadoutConfig,
)
from nano_llm.errors import ConfigError
from nano_llm.model.dropout import Dropout
from nano_llm.model.linear import Linear, linear


class Perceptron(nn.Module):
    """Hidden layers of Linear, exact GELU and dropout, then Linear to the vocabulary; no biases."""

    def __init__(self, head: HeadConfig | MlpReadoutConfig, d_model: int, vocab_size: int, dropout: float) -> None:
        super().__init__()
        width = d_model if head.hidden_width is None else head.hidden_width
        widths = [d_model] + [width] * head.hidden_layers
        self.hidden = nn.ModuleList(Linear(fan_in, width, bias=False) for fan_in in widths[:-1])
        self.output = Linear(widths[-1], vocab_size, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """Map (B, T, D) to logits (B, T, V)."""
        for layer in self.hidden:
            hidden_BTD = self.dropout(nn.functional.gelu(layer(hidden_BTD)))
        logits_BTV: Tensor = self.output(hidden_BTD)
        return logits_BTV


class Readout(nn.Module):
    """Base of the readouts."""

    num_outcomes: int

    def forward(self, hidden_BTD: Tensor, embedding_VD: Tensor) -> Tensor:
        """Map hidden states (B, T, D) to logits (B, T, K, V)."""
        raise NotImplementedError

    def factual(self, hidden_BTD: Tensor, embedding_VD: Tensor, treatment_B: Tensor) -> Tensor:
        """Map hidden states (B, T, D) to logits (B, T, 1, V) of each window's own outcome, 0 or 1."""
        logits_BTKV: Tensor = self(hidden_BTD, embedding_VD)  # of readouts with one outcome
        return logits_BTKV


class TiedReadout(Readout):
    """Logits by the transposed embedding."""

    num_outcomes = 1

    def forward(self, hidden_BTD: Tensor, embedding_VD: Tensor) -> Tensor:
        """Map hidden states (B, T, D) to logits (B, T, 1, V)."""
        return linear(hidden_BTD, embedding_VD).unsqueeze(2)


class MlpReadout(Readout):
    """Logits by a perceptron of its own."""

    num_outcomes = 1

    def __init__(self, config: MlpReadoutConfig, d_model: int, vocab_size: int, dropout: float) -> None:
        super().__init__()
        self.perceptron = Perceptron(config, d_model, vocab_size, dropout)

    def forward(self, hidden_BTD: Tensor, embedding_VD: Tensor) -> Tensor:
        """Map hidden states (B, T, D) to logits (B, T, 1, V)."""
        logits_BTV: Tensor = self.perceptron(hidden_BTD)
        return logits_BTV.unsqueeze(2)


class TwoHeadReadout(Readout):
    """logits_k = shared(h) + delta_k(h) for the outcomes k = 0, 1 (TARNet, arXiv 1606.03976)."""

    num_outcomes = 2
    deltas: Sequence[Perceptron]

    def __init__(self, config: TwoHeadReadoutConfig, d_model: int, vocab_size: int, dropout: float) -> None:
        super().__init__()
        self.shared = Perceptron(config.shared, d_model, vocab_size, dropout)
        deltas = [Perceptron(head, d_model, vocab_size, dropout) for head in (config.delta0, config.delta1)]
        self.deltas = nn.ModuleList(deltas)  # type: ignore[assignment]

    def forward(self, hidden_BTD: Tensor, embedding_VD: Tensor) -> Tensor:
        """Map hidden states (B, T, D) to logits (B, T, 2, V)."""
        shared_BTV = self.shared(hidden_BTD)
        return torch.stack([shared_BTV + delta(hidden_BTD) for delta in self.deltas], dim=2)

    def factual(self, hidden_BTD: Tensor, embedding_VD: Tensor, treatment_B: Tensor) -> Tensor:
        """Map hidden states (B, T, D) to logits (B, T, 1, V) of each window's own outcome, 0 or 1."""
        logits_BTV: Tensor = self.shared(hidden_BTD) + by_treatment(hidden_BTD, treatment_B, self.deltas)
        return logits_BTV.unsqueeze(2)


class SymmetricReadout(Readout):
    """logits_0 = shared(h) - delta(h), logits_1 = shared(h) + delta(h).

    With two deltas, a function added to the shared logits and taken from both deltas changes no outcome. Here
    shared(h) is the mean of the outcomes' logits and delta(h) half of their difference.
    """

    num_outcomes = 2

    def __init__(self, config: SymmetricReadoutConfig, d_model: int, vocab_size: int, dropout: float) -> None:
        super().__init__()
        self.shared = Perceptron(config.shared, d_model, vocab_size, dropout)
        self.delta = Perceptron(config.delta, d_model, vocab_size, dropout)

    def forward(self, hidden_BTD: Tensor, embedding_VD: Tensor) -> Tensor:
        """Map hidden states (B, T, D) to logits (B, T, 2, V)."""
        shared_BTV, delta_BTV = self.shared(hidden_BTD), self.delta(hidden_BTD)
        return torch.stack([shared_BTV - delta_BTV, shared_BTV + delta_BTV], dim=2)

    def factual(self, hidden_BTD: Tensor, embedding_VD: Tensor, treatment_B: Tensor) -> Tensor:
        """Map hidden states (B, T, D) to logits (B, T, 1, V) of each window's own outcome, 0 or 1."""
        sign_B11 = (2 * treatment_B - 1).to(hidden_BTD.dtype)[:, None, None]
        logits_BTV: Tensor = self.shared(hidden_BTD) + sign_B11 * self.delta(hidden_BTD)
        return logits_BTV.unsqueeze(2)


def by_treatment(x_BT: Tensor, treatment_B: Tensor, functions: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    """Apply to each row (T, ...) of a batch the function of its treatment, 0 or 1; all return one shape."""
    if not (x_BT.device.type == "cpu" and not torch.compiler.is_compiling()):
        # How many rows each function gets would have to be fetched from the device, and changes the shapes.
        zero, one = (function(x_BT) for function in functions)
        return torch.where(treatment_B.view(-1, *[1] * (zero.dim() - 1)) == 1, one, zero)
    order_B = treatment_B.argsort(stable=True)
    parts = x_BT[order_B].split([int((treatment_B == 0).sum()), int((treatment_B == 1).sum())])
    y_BT = torch.cat([function(part) for function, part in zip(functions, parts, strict=True)])
    return y_BT[order_B.argsort()]


def build_readout(model: ModelConfig, d_model: int, vocab_size: int) -> Readout:
    """The readout that a model's config names."""
    config = model.readout
    if isinstance(config, TiedReadoutConfig):
        return TiedReadout()
    if isinstance(config, MlpReadoutConfig):
        return MlpReadout(config, d_model, vocab_size, model.dropout)
    if isinstance(config, TwoHeadReadoutConfig):
        return TwoHeadReadout(config, d_model, vocab_size, model.dropout)
    if isinstance(config, SymmetricReadoutConfig):
        return SymmetricReadout(config, d_model, vocab_size, model.dropout)
    raise ConfigError(f"model.readout: {type(config).__name__} is not a readout that can be built")
