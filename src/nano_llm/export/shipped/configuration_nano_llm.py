"""Settings of a nano_llm model in transformers."""

from typing import Any

from transformers import PreTrainedConfig


class NanoLlmConfig(PreTrainedConfig):  # type: ignore[misc]
    """A decoder with one law of the next token, or with two: of the outcomes Y0 and Y1.

    Args:
        vocab_size: Tokens of the vocabulary.
        hidden_size: Width of the residual stream.
        num_hidden_layers: Layers of all decoders together.
        num_attention_heads: Heads of a layer.
        intermediate_size: Width of the feed-forward hidden layer.
        max_position_embeddings: The window that the model was trained on, in tokens.
        position: ``rope`` or ``sinusoidal``.
        dropout: Share of units dropped in training.
        learner: ``decoder``; ``treated_decoder``, to whose input a vector of the outcome is added; ``decoder_pair``, a
            decoder for each outcome.
        trunk: ``vanilla``, or ``interblock``, whose sublayers read mixes of earlier states as the settings below say.
        depth_source: What a finished macro-block leaves: ``stream`` or ``delta``.
        depth_partial: What is read of an open macro-block: ``reference`` or ``cumulative``.
        final_mix: Whether the final norm reads a mix too.
        macro_block_size: Layers in a macro-block.
        max_block_representations: States kept, the embedding included; 0 keeps all.
        readout: ``tied``, ``mlp``, ``two_head`` or ``symmetric``.
        perceptrons: Of a readout that has any: its name -> the widths of its hidden layers.
        outcome: 0 or 1: what a model with two outcomes speaks for unless told otherwise.
        use_cache: Whether keys and values are kept by default.
        **kwargs: Settings of transformers.
    """

    model_type = "nano_llm"
    keys_to_ignore_at_inference = ("past_key_values",)

    def __init__(
        self,
        vocab_size: int = 384,
        hidden_size: int = 128,
        num_hidden_layers: int = 4,
        num_attention_heads: int = 4,
        intermediate_size: int = 512,
        max_position_embeddings: int = 256,
        position: str = "rope",
        dropout: float = 0.0,
        learner: str = "decoder",
        trunk: str = "vanilla",
        depth_source: str = "stream",
        depth_partial: str = "reference",
        final_mix: bool = False,
        macro_block_size: int = 2,
        max_block_representations: int = 0,
        readout: str = "tied",
        perceptrons: dict[str, list[int]] | None = None,
        outcome: int | None = None,
        use_cache: bool = True,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.max_position_embeddings = max_position_embeddings
        self.position = position
        self.dropout = dropout
        self.learner = learner
        self.trunk = trunk
        self.depth_source = depth_source
        self.depth_partial = depth_partial
        self.final_mix = final_mix
        self.macro_block_size = macro_block_size
        self.max_block_representations = max_block_representations
        self.readout = readout
        self.perceptrons = perceptrons or {}
        self.outcome = outcome
        self.use_cache = use_cache
        # A tied readout has no weights of its own, so that there is nothing for transformers to tie.
        kwargs.setdefault("tie_word_embeddings", False)
        super().__init__(**kwargs)

    @property
    def num_outcomes(self) -> int:
        """1, or 2 for the outcomes Y0 and Y1."""
        return 2 if self.learner != "decoder" or self.readout in ("two_head", "symmetric") else 1
