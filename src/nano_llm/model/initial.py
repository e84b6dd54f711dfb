"""The initial value of every parameter."""

import torch
from torch import nn

from nano_llm.config.schema import ModelConfig, QueryInit
from nano_llm.model.layers import Layer, TreatmentEmbedding
from nano_llm.model.readout import Perceptron, SymmetricReadout, TwoHeadReadout
from nano_llm.model.trunk import InterblockTrunk, Trunk

ATTENTION_STD = 0.02


def set_initial_values(decoder: nn.Module, model: ModelConfig) -> None:
    """Draw all parameters of a trunk, its readout and what stands beside them anew, from PyTorch's default generator.

    | parameter | initial value |
    |---|---|
    | token embedding | N(0, ``embedding_std``^2) |
    | attention: the four projections | N(0, 0.02^2), biases 0 |
    | feed-forward: both matrices and their biases | U(-1/sqrt(fan_in), 1/sqrt(fan_in)) |
    | layer norms | weight 1, bias 0 |
    | depth mixing: pseudo-queries | U(-1/sqrt(d), 1/sqrt(d)), or 0 with ``query_init=zero`` |
    | depth mixing: key weights | 1 |
    | readouts: every matrix | U(-1/sqrt(fan_in), 1/sqrt(fan_in)) |
    | two heads: last matrix of both deltas, or of the one of symmetric heads | 0, so that the outcomes start equal |
    | treatment embedding (S+) | 0, so that the outcomes start equal |

    The two models of a T-learner are drawn one after the other, so its outcomes start apart.
    """
    for module in decoder.modules():
        if isinstance(module, Trunk):
            nn.init.normal_(module.embedding.weight, std=model.embedding_std)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, Layer):
            for linear in (module.attention.query_key_value, module.attention.output):
                nn.init.normal_(linear.weight, std=ATTENTION_STD)
                nn.init.zeros_(linear.bias)
            for linear in (module.feed_forward.up, module.feed_forward.down):
                uniform_by_fan_in(linear.weight, linear.in_features)
                uniform_by_fan_in(linear.bias, linear.in_features)
        elif isinstance(module, Perceptron):
            for linear in (*module.hidden, module.output):
                uniform_by_fan_in(linear.weight, linear.in_features)
    for module in decoder.modules():
        if isinstance(module, InterblockTrunk):
            for query, key_weight in zip(module.mixing.queries, module.mixing.key_weights, strict=True):
                nn.init.ones_(key_weight)
                if module.config.query_init is QueryInit.zero:
                    nn.init.zeros_(query)
                else:
                    uniform_by_fan_in(query, query.numel())
        elif isinstance(module, TwoHeadReadout):
            for delta in module.deltas:
                nn.init.zeros_(delta.output.weight)
        elif isinstance(module, SymmetricReadout):
            nn.init.zeros_(module.delta.output.weight)
        elif isinstance(module, TreatmentEmbedding):
            nn.init.zeros_(module.weight)


def uniform_by_fan_in(parameter: torch.Tensor, fan_in: int) -> None:
    """Draw from U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    nn.init.uniform_(parameter, -(fan_in**-0.5), fan_in**-0.5)
