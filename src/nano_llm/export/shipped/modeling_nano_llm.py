"""A nano_llm model in transformers, under the names of its own weights; with torch and transformers alone.

B rows, T tokens of a pass, S tokens seen so far, D hidden_size, H heads, K width of a head, P pairs of its units
(K / 2), V tokens of the vocabulary.

Inside, ``outcome`` is 0 or 1 for all rows, or a tensor (B, 1, 1) with one for each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_nano_llm import NanoLlmConfig

BASE, MIX_EPS = 10_000.0, 1e-6


@dataclass(frozen=True)
class Pass:
    """What all layers know of the tokens of a pass."""

    angle_BTX: Tensor
    """Of each position: X is P where queries and keys turn, D / 2 where waves are added to the embedding."""
    visible_BHTS: Tensor | None
    """What each token may look at, broadcast over B and H; None: all that came before it."""
    cache: Cache | None


class Attention(nn.Module):
    """Causal self-attention; one matrix projects queries, keys and values."""

    def __init__(self, config: NanoLlmConfig) -> None:
        super().__init__()
        self.num_heads, self.dropout = config.num_attention_heads, config.dropout
        self.turns = config.position == "rope"
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_BTD: Tensor, this: Pass, layer: int) -> Tensor:
        """Map (B, T, D) to (B, T, D); the keys and values join those of the cache's layer of this number."""
        heads_BT3HK = self.query_key_value(hidden_BTD).unflatten(-1, (3, self.num_heads, -1))
        query_BHTK, key, value = heads_BT3HK.permute(2, 0, 3, 1, 4).unbind(0)
        if self.turns:
            query_BHTK, key = turned(query_BHTK, this.angle_BTX), turned(key, this.angle_BTX)
        if this.cache is not None:
            key, value = this.cache.update(key, value, layer)
        mixed_BHTK = F.scaled_dot_product_attention(
            query_BHTK,
            key,
            value,
            attn_mask=this.visible_BHTS,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=this.visible_BHTS is None and query_BHTK.shape[2] > 1,
        )
        output_BTD: Tensor = self.output(mixed_BHTK.transpose(1, 2).flatten(-2))
        return output_BTD


class FeedForward(nn.Module):
    """Linear, ReLU, Linear."""

    def __init__(self, config: NanoLlmConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        output_BTD: Tensor = self.dropout(self.down(self.dropout(F.relu(self.up(hidden_BTD)))))
        return output_BTD


class Layer(nn.Module):
    """The two pre-norm sublayers."""

    def __init__(self, config: NanoLlmConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size)
        self.feed_forward = FeedForward(config)

    def attend(self, hidden_BTD: Tensor, this: Pass, layer: int) -> Tensor:
        """Output of the attention sublayer (B, T, D), without the residual."""
        output_BTD: Tensor = self.attention(self.attention_norm(hidden_BTD), this, layer)
        return output_BTD

    def transform(self, hidden_BTD: Tensor) -> Tensor:
        """Output of the feed-forward sublayer (B, T, D), without the residual."""
        output_BTD: Tensor = self.feed_forward(self.feed_forward_norm(hidden_BTD))
        return output_BTD


class DepthMixing(nn.Module):
    """Mixes of earlier states of the same token (arXiv 2603.15031), by a query and a key weight each."""

    def __init__(self, d_model: int, num_mixes: int) -> None:
        super().__init__()
        self.queries = nn.ParameterList(torch.zeros(d_model) for _ in range(num_mixes))
        self.key_weights = nn.ParameterList(torch.ones(d_model) for _ in range(num_mixes))

    def forward(self, index: int, kept: list[Tensor], open_BTD: Tensor | None) -> Tensor:
        """Mix what is kept and, if there is one, the open macro-block, all (B, T, D), by the mix of this number."""
        sources = kept if open_BTD is None else [*kept, open_BTD]
        if len(sources) == 1:
            return sources[0]
        value_SBTD = torch.stack(sources)
        exact_SBTD = value_SBTD.float()
        scale_SBT = torch.rsqrt(exact_SBTD.square().mean(-1) + MIX_EPS)
        score_SBT = exact_SBTD @ (self.queries[index] * self.key_weights[index]).float() * scale_SBT
        weight_SBT = score_SBT.softmax(0).to(value_SBTD.dtype)
        mixed_BTD: Tensor = (weight_SBT.unsqueeze(-1) * value_SBTD).sum(0)
        return mixed_BTD


class Trunk(nn.Module):
    """Embedding, layers and final norm."""

    layers: Sequence[Layer]

    def __init__(self, config: NanoLlmConfig, num_layers: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(num_layers))  # type: ignore[assignment]
        if config.trunk == "interblock":
            self.mixing = DepthMixing(config.hidden_size, 2 * num_layers + int(config.final_mix))
        self.final_norm = nn.LayerNorm(config.hidden_size)

    def forward(self, tokens_BT: Tensor, this: Pass, first_layer: int, treatment_BTD: Tensor | None) -> Tensor:
        """Map tokens (B, T) to hidden states (B, T, D).

        Args:
            tokens_BT: The tokens.
            this: What the layers know of them.
            first_layer: Of the cache, that is the trunk's.
            treatment_BTD: Added to the embedding, broadcast over B and T.
        """
        stream_BTD = self.embedding(tokens_BT)
        if self.config.position == "sinusoidal":
            stream_BTD = stream_BTD + waves(this.angle_BTX, self.config.hidden_size).to(stream_BTD.dtype)
        if treatment_BTD is not None:
            stream_BTD = stream_BTD + treatment_BTD
        run = self.run_mixed if self.config.trunk == "interblock" else self.run
        hidden_BTD: Tensor = self.final_norm(run(stream_BTD, this, first_layer))
        return hidden_BTD

    def run(self, stream_BTD: Tensor, this: Pass, first_layer: int) -> Tensor:
        """Each sublayer reads the stream."""
        for index, layer in enumerate(self.layers):
            stream_BTD = stream_BTD + layer.attend(stream_BTD, this, first_layer + index)
            stream_BTD = stream_BTD + layer.transform(stream_BTD)
        return stream_BTD

    def run_mixed(self, stream_BTD: Tensor, this: Pass, first_layer: int) -> Tensor:
        """Each sublayer reads a mix of what the macro-blocks have left; its output joins the stream."""
        config, delta = self.config, self.config.depth_source == "delta"
        cumulative, most = config.depth_partial == "cumulative", config.max_block_representations
        kept = [stream_BTD]
        output_BTD: Tensor | None = None  # of the last layer
        block_BTD: Tensor | None = None  # of the open macro-block so far
        for index, layer in enumerate(self.layers):
            read_BTD = self.mixing(2 * index, kept, block_BTD if cumulative else output_BTD)
            attended_BTD = layer.attend(read_BTD, this, first_layer + index)
            partial_BTD = attended_BTD if block_BTD is None or not cumulative else block_BTD + attended_BTD
            output_BTD = attended_BTD + layer.transform(self.mixing(2 * index + 1, kept, partial_BTD))
            stream_BTD = stream_BTD + output_BTD
            block_BTD = output_BTD if block_BTD is None else block_BTD + output_BTD
            if (index + 1) % config.macro_block_size == 0:
                kept = [*kept, block_BTD if delta else stream_BTD]
                if 0 < most < len(kept):  # the embedding and the newest of the others
                    kept = [kept[0], *kept[len(kept) - most + 1 :]]
                output_BTD = block_BTD = None
        if config.final_mix:
            open_BTD = block_BTD if delta or block_BTD is None else stream_BTD
            stream_BTD = self.mixing(2 * len(self.layers), kept, open_BTD)
        return stream_BTD


class Perceptron(nn.Module):
    """Hidden layers of Linear and exact GELU, then Linear to the vocabulary; no biases."""

    def __init__(self, config: NanoLlmConfig, name: str) -> None:
        super().__init__()
        widths = [config.hidden_size, *config.perceptrons[name]]
        self.hidden = nn.ModuleList(nn.Linear(fan_in, width, bias=False) for fan_in, width in pairwise(widths))
        self.output = nn.Linear(widths[-1], config.vocab_size, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """Map (B, T, D) to logits (B, T, V)."""
        for layer in self.hidden:
            hidden_BTD = self.dropout(F.gelu(layer(hidden_BTD)))
        logits_BTV: Tensor = self.output(hidden_BTD)
        return logits_BTV


class Readout(nn.Module):
    """Hidden states to logits of one outcome."""

    deltas: Sequence[Perceptron]

    def __init__(self, config: NanoLlmConfig) -> None:
        super().__init__()
        self.kind = config.readout
        if self.kind == "mlp":
            self.perceptron = Perceptron(config, "perceptron")
        elif self.kind == "two_head":
            self.shared = Perceptron(config, "shared")
            deltas = [Perceptron(config, name) for name in ("delta0", "delta1")]
            self.deltas = nn.ModuleList(deltas)  # type: ignore[assignment]
        elif self.kind == "symmetric":
            self.shared, self.delta = Perceptron(config, "shared"), Perceptron(config, "delta")
        elif self.kind != "tied":
            raise ValueError(f"readout={self.kind!r}: this code knows tied, mlp, two_head and symmetric.")

    def forward(self, hidden_BTD: Tensor, embedding_VD: Tensor, outcome: int | Tensor) -> Tensor:
        """Map (B, T, D) to logits (B, T, V) of the outcome, where there are two."""
        if self.kind == "tied":
            return F.linear(hidden_BTD, embedding_VD)
        if self.kind == "mlp":
            logits_BTV: Tensor = self.perceptron(hidden_BTD)
        elif self.kind == "two_head":
            logits_BTV = self.shared(hidden_BTD) + by_outcome(outcome, self.deltas, hidden_BTD)
        else:
            logits_BTV = self.shared(hidden_BTD) + (2 * outcome - 1) * self.delta(hidden_BTD)
        return logits_BTV


class TreatmentEmbedding(nn.Module):
    """A vector for each outcome."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, d_model))

    def forward(self, outcome: int | Tensor) -> Tensor:
        """Return the vector (D,) of an outcome, or (B, 1, D) of the outcome of each row."""
        if isinstance(outcome, int):
            return self.weight[outcome]
        return torch.where(outcome == 1, self.weight[1], self.weight[0])


class Decoder(nn.Module):
    """A trunk and a readout of one outcome: a half of a pair."""

    def __init__(self, config: NanoLlmConfig, num_layers: int) -> None:
        super().__init__()
        self.trunk = Trunk(config, num_layers)
        self.readout = Readout(config)

    def forward(self, tokens_BT: Tensor, this: Pass, first_layer: int, kept: slice) -> Tensor:
        """Map tokens (B, T) to logits (B, T, V) at the positions that are kept."""
        hidden_BTD = self.trunk(tokens_BT, this, first_layer, None)[:, kept]
        logits_BTV: Tensor = self.readout(hidden_BTD, self.trunk.embedding.weight, 0)
        return logits_BTV


class NanoLlmForCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A language model; ``generate(..., outcome=0)`` writes with Y0, ``outcome=1`` with Y1."""

    decoders: Sequence[Decoder]

    config_class = NanoLlmConfig
    _no_split_modules = ("Layer",)
    _supports_sdpa = True

    def __init__(self, config: NanoLlmConfig) -> None:
        super().__init__(config)
        if config.learner == "decoder_pair":
            decoders = [Decoder(config, config.num_hidden_layers // 2) for _ in (0, 1)]
            self.decoders = nn.ModuleList(decoders)  # type: ignore[assignment]
        else:
            self.trunk = Trunk(config, config.num_hidden_layers)
            self.readout = Readout(config)
        if config.learner == "treated_decoder":
            self.treatment_embedding = TreatmentEmbedding(config.hidden_size)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: Tensor | None = None,
        outcome: int | Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        return_dict: bool | None = None,
    ) -> CausalLMOutputWithPast | tuple[Tensor, ...]:
        """Logits (B, T, V) of the token after each of the tokens (B, T), under the outcome asked for.

        Args:
            input_ids: The tokens.
            attention_mask: (B, S), 0 where a row is padded.
            position_ids: (B, T), by default the number of tokens before each one that are no padding.
            past_key_values: A growing cache of the tokens before these, all read under the same outcome.
            labels: Tokens (B, T), -100 where there is no target; asks for the mean cross-entropy of the next one.
            outcome: 0 or 1, or a tensor (B,) of one for each row; by default that of the config.
            use_cache: Whether keys and values are kept; by default as the config says, but not in training.
            logits_to_keep: How many of the last positions are wanted; 0: all.
            return_dict: False asks for a tuple.

        Raises:
            ValueError: The model has no such outcome, or its window no room for so many tokens.
        """
        chosen = self._checked(outcome, len(input_ids))
        if past_key_values is None and (
            self.config.use_cache and not self.training if use_cache is None else use_cache
        ):
            past_key_values = DynamicCache(config=self.config)
        this = self._open(input_ids, attention_mask, position_ids, past_key_values)
        logits_BTV = self._logits(input_ids, chosen, this, slice(-logits_to_keep or None, None))
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        output = CausalLMOutputWithPast(loss=loss, logits=logits_BTV, past_key_values=past_key_values)
        return output.to_tuple() if return_dict is False else output

    def prepare_inputs_for_generation(self, *args: Any, tokenizer: object = None, **kwargs: Any) -> dict[str, Any]:
        """Return the arguments of ``forward`` for a step, ``outcome`` among them.

        The tokenizer, which stop strings need, is not one of them, though transformers hands it on.
        """
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(*args, **kwargs)
        return inputs

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding, if there is one alone."""
        if self.config.learner == "decoder_pair":
            raise NotImplementedError("A pair of decoders has two token embeddings.")
        return self.trunk.embedding

    def _checked(self, outcome: int | Tensor | None, num_rows: int) -> int | Tensor:
        if self.config.num_outcomes == 1:
            if outcome is not None:
                raise ValueError(
                    "This model has one law of the next token, and its prompt tells it more: no `outcome`."
                )
            return 0
        if outcome is None:
            outcome = self.config.outcome
        if isinstance(outcome, Tensor) and outcome.ndim > 0:
            if outcome.shape != (num_rows,) or not ((outcome == 0) | (outcome == 1)).all():
                raise ValueError(f"outcome={outcome.tolist()}: give 0 or 1 for each of the {num_rows} rows.")
            return outcome.to(self.device).view(-1, 1, 1)
        if outcome not in (0, 1):
            raise ValueError(f"outcome={outcome!r}: give 0, 1, or a tensor of one for each row.")
        return int(outcome)

    def _open(
        self, tokens_BT: Tensor, attention_mask: Tensor | None, position_BT: Tensor | None, cache: Cache | None
    ) -> Pass:
        """Return what the layers are to know of the tokens."""
        num_new, num_past = tokens_BT.shape[1], 0 if cache is None else int(cache.get_seq_length())
        if num_past + num_new > self.config.max_position_embeddings:
            raise ValueError(
                f"{num_past + num_new} tokens, but the model's window has {self.config.max_position_embeddings}. "
                "Generate with a smaller max_length or max_new_tokens, or start again from a part of the text."
            )
        if attention_mask is not None and attention_mask.shape != (len(tokens_BT), num_past + num_new):
            raise ValueError(
                f"attention_mask {tuple(attention_mask.shape)}: expected {(len(tokens_BT), num_past + num_new)}, a "
                "column a token so far. Only caches that grow are supported, such as DynamicCache."
            )
        if position_BT is None:
            is_text_BS = tokens_BT.new_ones(1, num_past + num_new) if attention_mask is None else attention_mask
            position_BT = (is_text_BS.cumsum(-1) - 1).clamp(min=0)[:, -num_new:]
        rotary = self.config.position == "rope"
        width = self.config.hidden_size // (self.config.num_attention_heads if rotary else 1)
        return Pass(angles(position_BT, width), visible(attention_mask, num_past, num_new, tokens_BT.device), cache)

    def _logits(self, tokens_BT: Tensor, outcome: int | Tensor, this: Pass, kept: slice) -> Tensor:
        """Logits of the outcome at the positions that are kept."""
        learner = self.config.learner
        if learner != "decoder_pair":
            treatment_BTD = self.treatment_embedding(outcome) if learner == "treated_decoder" else None
            hidden_BTD = self.trunk(tokens_BT, this, 0, treatment_BTD)[:, kept]
            logits_BTV: Tensor = self.readout(hidden_BTD, self.trunk.embedding.weight, outcome)
            return logits_BTV
        if isinstance(outcome, int):
            decoder: Callable[..., Tensor] = self.decoders[outcome]
            return decoder(tokens_BT, this, 0, kept)
        # Each reads all rows, and has layers of the cache of its own.
        first_layer = self.config.num_hidden_layers // 2
        zero_BTV = self.decoders[0](tokens_BT, this, 0, kept)
        one_BTV = self.decoders[1](tokens_BT, this, first_layer, kept)
        return torch.where(outcome == 1, one_BTV, zero_BTV)


def by_outcome(outcome: int | Tensor, functions: Sequence[Callable[[Tensor], Tensor]], x_BTD: Tensor) -> Tensor:
    """Apply the function of the outcome; both, where each row has an outcome of its own."""
    if isinstance(outcome, int):
        return functions[outcome](x_BTD)
    zero, one = (function(x_BTD) for function in functions)
    return torch.where(outcome == 1, one, zero)


def angles(position_BT: Tensor, width: int) -> Tensor:
    """Angle t / BASE^(2p / width) of position t and pair p, in float64 where the device has it."""
    exact = torch.float32 if position_BT.device.type == "mps" else torch.float64
    frequency_P = BASE ** (-torch.arange(0, width, 2, dtype=exact, device=position_BT.device) / width)
    return position_BT.to(exact).unsqueeze(-1) * frequency_P


def turned(heads_BHTK: Tensor, angle_BTP: Tensor) -> Tensor:
    """Turn units 2p and 2p + 1 together (arXiv 2104.09864), in float32."""
    cos, sin = angle_BTP.cos().float().unsqueeze(1), angle_BTP.sin().float().unsqueeze(1)
    x, y = heads_BHTK.float().reshape(*heads_BHTK.shape[:-1], -1, 2).unbind(-1)
    return torch.stack((x * cos - y * sin, x * sin + y * cos), dim=-1).flatten(-2).to(heads_BHTK.dtype)


def waves(angle_BTP: Tensor, width: int) -> Tensor:
    """Sines and cosines in turn (arXiv 1706.03762, section 3.5), (B, T, width)."""
    return torch.stack((angle_BTP.sin(), angle_BTP.cos()), dim=-1).flatten(-2)[..., :width]


def visible(attention_mask_BS: Tensor | None, num_past: int, num_new: int, device: torch.device) -> Tensor | None:
    """Where each new token may look, (B, 1, T, S); None where it is all that came before, without a mask."""
    if attention_mask_BS is None and (num_past == 0 or num_new == 1):
        return None
    slot_S = torch.arange(num_past + num_new, device=device)
    own_T1 = slot_S[num_past:].unsqueeze(-1)
    before_BTS = (slot_S <= own_T1).unsqueeze(0)
    if attention_mask_BS is not None:
        # Padding sees itself: of nothing, some kernels make what is not a number, which no mask would hide from others.
        before_BTS = before_BTS & attention_mask_BS.bool().unsqueeze(1) | (slot_S == own_T1)
    return before_BTS.unsqueeze(1)
