"""Trunks: tokens in, hidden states after the final norm out.

B windows, T positions, D d_model.
"""

from collections.abc import Sequence

from torch import LongTensor, Tensor, nn

from nano_llm.config.schema import (
    DepthPartial,
    DepthSource,
    InterblockTrunkConfig,
    ModelConfig,
    Position,
    ScaleConfig,
    VanillaTrunkConfig,
)
from nano_llm.errors import ConfigError
from nano_llm.model.depth_mixing import DepthMixing, plan_mixes
from nano_llm.model.layers import Layer
from nano_llm.model.past import LayerPast, Past
from nano_llm.model.positions import Positions, RotaryPositions, SinusoidalPositions

TrunkPast = Sequence[LayerPast]
"""What a pass goes on from, layer by layer."""


class Trunk(nn.Module):
    """Embedding, then layers and final norm. How the layers are joined is the variants' matter."""

    layers: Sequence[Layer]

    def __init__(self, model: ModelConfig, scale: ScaleConfig, vocab_size: int, max_positions: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, scale.d_model)
        self.positions = build_positions(model.position, scale, max_positions)
        layers = [Layer(scale, model.dropout, self.positions) for _ in range(scale.num_layers)]
        self.layers = nn.ModuleList(layers)  # type: ignore[assignment]
        self.final_norm = nn.LayerNorm(scale.d_model)

    def forward(self, tokens_BT: LongTensor, past: TrunkPast | None = None) -> Tensor:
        """Map tokens (B, T) to hidden states (B, T, D)."""
        return self.run_layers(self.embed(tokens_BT, past), past)

    def embed(self, tokens_BT: LongTensor, past: TrunkPast | None = None) -> Tensor:
        """Map tokens (B, T) to what the first layer reads (B, T, D)."""
        return self.positions.embed(self.embedding(tokens_BT), past[0].position_B1 if past else None)

    def run_layers(self, stream_BTD: Tensor, past: TrunkPast | None = None) -> Tensor:
        """Map embedded tokens (B, T, D) to hidden states (B, T, D).

        Args:
            stream_BTD: The embedded tokens.
            past: Of each layer, if the tokens are to be remembered or have some before them.
        """
        raise NotImplementedError

    def open_past(self, num_rows: int, num_positions: int) -> Past:
        """Room for the keys and values of so many rows of tokens, which have read nothing."""
        num_heads = self.layers[0].attention.num_heads
        width = self.embedding.embedding_dim // num_heads
        shape_NRHLK = (len(self.layers), num_rows, num_heads, num_positions, width)
        return Past(shape_NRHLK, like=self.embedding.weight)


class VanillaTrunk(Trunk):
    """Pre-norm decoder: x = x + attention(norm(x)); x = x + feed_forward(norm(x))."""

    def run_layers(self, stream_BTD: Tensor, past: TrunkPast | None = None) -> Tensor:
        """Map embedded tokens (B, T, D) to hidden states (B, T, D)."""
        for index, layer in enumerate(self.layers):
            stream_BTD = stream_BTD + layer.attend(stream_BTD, past[index] if past else None)
            stream_BTD = stream_BTD + layer.transform(stream_BTD)
        hidden_BTD: Tensor = self.final_norm(stream_BTD)
        return hidden_BTD


class InterblockTrunk(Trunk):
    """Decoder whose sublayers read depth mixes; see ``depth_mixing`` and, for the switches, the config.

    A layer's outputs join the stream as in the vanilla trunk. What differs is each sublayer's input.
    """

    def __init__(
        self,
        model: ModelConfig,
        trunk: InterblockTrunkConfig,
        scale: ScaleConfig,
        vocab_size: int,
        max_positions: int,
    ) -> None:
        super().__init__(model, scale, vocab_size, max_positions)
        self.config = trunk
        mixes = plan_mixes(scale.num_layers, trunk.macro_block_size, trunk.max_block_representations, trunk.final_mix)
        self.mixing = DepthMixing(scale.d_model, mixes)

    def run_layers(self, stream_BTD: Tensor, past: TrunkPast | None = None) -> Tensor:
        """Map embedded tokens (B, T, D) to hidden states (B, T, D)."""
        delta = self.config.source is DepthSource.delta
        cumulative = self.config.partial is DepthPartial.cumulative
        memory = self.mixing.open()
        memory.keep(stream_BTD)
        output_BTD: Tensor | None = None  # of the last layer
        block_BTD: Tensor | None = None  # of the open macro-block so far
        for index, layer in enumerate(self.layers):
            earlier_BTD = block_BTD if cumulative else output_BTD
            attended_BTD = layer.attend(memory.mix(2 * index, earlier_BTD), past[index] if past else None)
            partial_BTD = add(block_BTD, attended_BTD) if cumulative else attended_BTD
            transformed_BTD = layer.transform(memory.mix(2 * index + 1, partial_BTD))
            output_BTD = attended_BTD + transformed_BTD
            stream_BTD = stream_BTD + output_BTD
            block_BTD = add(block_BTD, output_BTD)
            if (index + 1) % self.config.macro_block_size == 0:
                memory.keep(block_BTD if delta else stream_BTD)
                output_BTD = block_BTD = None
        if self.config.final_mix:
            open_BTD = block_BTD if delta or block_BTD is None else stream_BTD
            stream_BTD = memory.mix(2 * len(self.layers), open_BTD)
        hidden_BTD: Tensor = self.final_norm(stream_BTD)
        return hidden_BTD


def add(sum_BTD: Tensor | None, term_BTD: Tensor) -> Tensor:
    """Extend a sum that may not have begun."""
    return term_BTD if sum_BTD is None else sum_BTD + term_BTD


def build_positions(position: Position, scale: ScaleConfig, max_positions: int) -> Positions:
    """The positions that a model's config names."""
    if position is Position.rope:
        return RotaryPositions(scale.d_model // scale.num_heads, max_positions)
    return SinusoidalPositions(scale.d_model, max_positions)


def build_trunk(model: ModelConfig, scale: ScaleConfig, vocab_size: int, max_positions: int) -> Trunk:
    """The trunk that a model's config names."""
    if isinstance(model.trunk, InterblockTrunkConfig):
        return InterblockTrunk(model, model.trunk, scale, vocab_size, max_positions)
    if isinstance(model.trunk, VanillaTrunkConfig):
        return VanillaTrunk(model, scale, vocab_size, max_positions)
    raise ConfigError(f"model.trunk: {type(model.trunk).__name__} is not a trunk that can be built")
