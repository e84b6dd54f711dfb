"""The language model: a trunk and a readout.

B windows, T positions, D d_model, K outcomes (1 or 2), V tokens of the vocabulary.
"""

from torch import LongTensor, Tensor, nn

from nano_llm.config.schema import ModelConfig, ScaleConfig
from nano_llm.model.initial import set_initial_values
from nano_llm.model.readout import build_readout
from nano_llm.model.trunk import build_trunk


class LanguageModel(nn.Module):
    """A decoder with one or two distributions over the next token.

    Args:
        model: The architecture.
        scale: Its size.
        vocab_size: Tokens of the vocabulary.
        max_positions: Longest sequence that the position tables cover.

    Raises:
        ConfigError: The config names no trunk or no readout that can be built.
    """

    def __init__(self, model: ModelConfig, scale: ScaleConfig, vocab_size: int, max_positions: int) -> None:
        super().__init__()
        self.trunk = build_trunk(model, scale, vocab_size, max_positions)
        self.readout = build_readout(model, scale.d_model, vocab_size)
        set_initial_values(self.trunk, self.readout, model)

    @property
    def num_outcomes(self) -> int:
        """1, or 2 for the outcomes Y0 and Y1."""
        return self.readout.num_outcomes

    def forward(self, tokens_BT: LongTensor) -> Tensor:
        """Logits (B, T, K, V) of the token after each of the tokens (B, T)."""
        hidden_BTD = self.trunk(tokens_BT)
        logits_BTKV: Tensor = self.readout(hidden_BTD, self.trunk.embedding.weight)
        return logits_BTKV
