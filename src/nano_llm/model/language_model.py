"""Language models: how each learner makes one or two distributions over the next token of trunks and readouts.

B windows, T positions, D d_model, K outcomes (1 or 2), V tokens of the vocabulary.

With the two halves of a trunk, embed and run_layers, and the vector e_k of treatment k:

| learner | class | logits of outcome k |
|---|---|---|
| S-learner, one outcome | ``Decoder`` | readout(run_layers(embed(x))); the prompt in x names the treatment |
| TARNet | ``Decoder`` | readout_k(run_layers(embed(x))) |
| S+ | ``TreatedDecoder`` | readout(run_layers(embed(x) + e_k)) |
| T-learner | ``DecoderPair`` | readout^k(run_layers^k(embed^k(x))), two models |
"""

from collections.abc import Sequence

import torch
from torch import LongTensor, Tensor, nn

from nano_llm.config.schema import (
    ModelConfig,
    ScaleConfig,
    SingleHeadConfig,
    TreatmentEmbeddingConfig,
    TwoHeadConfig,
    TwoModelsConfig,
)
from nano_llm.errors import ConfigError
from nano_llm.model.initial import set_initial_values
from nano_llm.model.layers import TreatmentEmbedding
from nano_llm.model.readout import Readout, build_readout, by_treatment
from nano_llm.model.trunk import Trunk, TrunkPast, build_trunk


class LanguageModel(nn.Module):
    """Base of the language models: tokens in, logits of one or two outcomes out."""

    @property
    def passes(self) -> list[tuple[Trunk, Readout]]:
        """The trunk and the readout of each pass of ``forward``; one that runs twice is named twice."""
        raise NotImplementedError

    @property
    def num_outcomes(self) -> int:
        """1, or 2 for the outcomes Y0 and Y1."""
        return sum(readout.num_outcomes for _, readout in self.passes)

    def forward(self, tokens_BT: LongTensor, treatment_B: Tensor | None = None) -> Tensor:
        """Logits (B, T, K, V) of the token after each of the tokens (B, T).

        Args:
            tokens_BT: The tokens.
            treatment_B: If only the factual outcome of each window is wanted, 0 or 1: K is 1 then, and what the other
                outcome alone would take is saved where it can be.
        """
        if treatment_B is not None and self.num_outcomes == 2:
            return self.factual(tokens_BT, treatment_B)
        return self.read_out(self.hidden_states(tokens_BT))

    def factual(self, tokens_BT: LongTensor, treatment_B: Tensor) -> Tensor:
        """Logits (B, T, 1, V) of each window's own outcome, of a model with two."""
        raise NotImplementedError

    def hidden_states(self, tokens_BT: LongTensor, pasts: Sequence[TrunkPast] | None = None) -> list[Tensor]:
        """Hidden states (B, T, D) of each pass over the tokens (B, T).

        Args:
            tokens_BT: The tokens.
            pasts: Of each pass, if the tokens are to be remembered or have some before them.
        """
        raise NotImplementedError

    def read_out(self, hidden_states: Sequence[Tensor]) -> Tensor:
        """Logits (B, T, K, V) of the hidden states (B, T, D) of each pass, or of any positions of them."""
        passes = zip(hidden_states, self.passes, strict=True)
        outcomes = [readout(hidden_BTD, trunk.embedding.weight) for hidden_BTD, (trunk, readout) in passes]
        return outcomes[0] if len(outcomes) == 1 else torch.cat(outcomes, dim=2)


class Decoder(LanguageModel):
    """A trunk and a readout; two outcomes, if the readout has them, share the trunk.

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
        set_initial_values(self, model)

    @property
    def passes(self) -> list[tuple[Trunk, Readout]]:
        """One pass."""
        return [(self.trunk, self.readout)]

    def hidden_states(self, tokens_BT: LongTensor, pasts: Sequence[TrunkPast] | None = None) -> list[Tensor]:
        """Hidden states (B, T, D) of the one pass."""
        return [self.trunk(tokens_BT, pasts[0] if pasts else None)]

    def factual(self, tokens_BT: LongTensor, treatment_B: Tensor) -> Tensor:
        """Logits (B, T, 1, V) of each window's own outcome."""
        return self.readout.factual(self.trunk(tokens_BT), self.trunk.embedding.weight, treatment_B)


class TreatedDecoder(LanguageModel):
    """A trunk and a readout that run once for each treatment, whose vector is added at every position.

    The arguments are those of ``Decoder``.
    """

    def __init__(self, model: ModelConfig, scale: ScaleConfig, vocab_size: int, max_positions: int) -> None:
        super().__init__()
        self.trunk = build_trunk(model, scale, vocab_size, max_positions)
        self.readout = build_readout(model, scale.d_model, vocab_size)
        self.treatment_embedding = TreatmentEmbedding(scale.d_model)
        set_initial_values(self, model)

    @property
    def passes(self) -> list[tuple[Trunk, Readout]]:
        """One pass for each treatment, by the same trunk and readout."""
        return [(self.trunk, self.readout)] * 2

    def hidden_states(self, tokens_BT: LongTensor, pasts: Sequence[TrunkPast] | None = None) -> list[Tensor]:
        """Hidden states (B, T, D) of the pass of each treatment."""
        past_by_treatment = pasts or (None, None)
        embedded_BTD = self.trunk.embed(tokens_BT, past_by_treatment[0])
        return [
            self.trunk.run_layers(self.treatment_embedding(embedded_BTD, treatment), past)
            for treatment, past in enumerate(past_by_treatment)
        ]

    def factual(self, tokens_BT: LongTensor, treatment_B: Tensor) -> Tensor:
        """Logits (B, T, 1, V) of each window's own outcome."""
        treated_BTD = self.treatment_embedding(self.trunk.embed(tokens_BT), treatment_B)
        logits_BTKV: Tensor = self.readout(self.trunk.run_layers(treated_BTD), self.trunk.embedding.weight)
        return logits_BTKV


class DecoderPair(LanguageModel):
    """Two decoders, one an outcome; a loss that reads the factual outcome teaches that one's decoder alone.

    The arguments are those of ``Decoder``; trunk, readout and scale are those of each of the two.
    """

    decoders: Sequence[Decoder]

    def __init__(self, model: ModelConfig, scale: ScaleConfig, vocab_size: int, max_positions: int) -> None:
        super().__init__()
        decoders = [Decoder(model, scale, vocab_size, max_positions) for _ in (0, 1)]
        self.decoders = nn.ModuleList(decoders)  # type: ignore[assignment]

    @property
    def passes(self) -> list[tuple[Trunk, Readout]]:
        """The pass of each decoder."""
        return [a_pass for decoder in self.decoders for a_pass in decoder.passes]

    def hidden_states(self, tokens_BT: LongTensor, pasts: Sequence[TrunkPast] | None = None) -> list[Tensor]:
        """Hidden states (B, T, D) of the pass of each decoder."""
        past_by_decoder = pasts or (None, None)
        decoders = zip(self.decoders, past_by_decoder, strict=True)
        return [decoder.trunk(tokens_BT, past) for decoder, past in decoders]

    def factual(self, tokens_BT: LongTensor, treatment_B: Tensor) -> Tensor:
        """Logits (B, T, 1, V) of each window's own outcome."""
        return by_treatment(tokens_BT, treatment_B, self.decoders)


def build_language_model(model: ModelConfig, scale: ScaleConfig, vocab_size: int, max_positions: int) -> LanguageModel:
    """The language model of an architecture, with fresh initial values.

    Args:
        model: The architecture.
        scale: Its size.
        vocab_size: Tokens of the vocabulary.
        max_positions: Longest sequence that the position tables cover.

    Raises:
        ConfigError: The config names no model, no trunk or no readout that can be built.
    """
    if isinstance(model, SingleHeadConfig | TwoHeadConfig):
        return Decoder(model, scale, vocab_size, max_positions)
    if isinstance(model, TreatmentEmbeddingConfig):
        return TreatedDecoder(model, scale, vocab_size, max_positions)
    if isinstance(model, TwoModelsConfig):
        return DecoderPair(model, scale, vocab_size, max_positions)
    raise ConfigError(f"model: {type(model).__name__} is not a model that can be built")
