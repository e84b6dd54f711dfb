"""The initial value of every parameter."""

import torch
from torch import nn

from nano_llm.config.schema import ModelConfig, QueryInit
from nano_llm.model.layers import Layer
from nano_llm.model.readout import Perceptron, Readout, TwoHeadReadout
from nano_llm.model.trunk import InterblockTrunk, Trunk

ATTENTION_STD = 0.02


def set_initial_values(trunk: Trunk, readout: Readout, model: ModelConfig) -> None:
    """Draw all parameters anew, from PyTorch's default generator.

    | parameter | initial value |
    |---|---|
    | token embedding | N(0, ``embedding_std``^2) |
    | attention: the four projections | N(0, 0.02^2), biases 0 |
    | feed-forward: both matrices and their biases | U(-1/sqrt(fan_in), 1/sqrt(fan_in)) |
    | layer norms | weight 1, bias 0 |
    | depth mixing: pseudo-queries | U(-1/sqrt(d), 1/sqrt(d)), or 0 with ``query_init=zero`` |
    | depth mixing: key weights | 1 |
    | readouts: every matrix | U(-1/sqrt(fan_in), 1/sqrt(fan_in)) |
    | two heads: last matrix of both deltas | 0, so that the outcomes start equal |
    """
    nn.init.normal_(trunk.embedding.weight, std=model.embedding_std)
    for module in (*trunk.modules(), *readout.modules()):
        if isinstance(module, nn.LayerNorm):
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
    if isinstance(trunk, InterblockTrunk):
        for query, key_weight in zip(trunk.mixing.queries, trunk.mixing.key_weights, strict=True):
            nn.init.ones_(key_weight)
            if trunk.config.query_init is QueryInit.zero:
                nn.init.zeros_(query)
            else:
                uniform_by_fan_in(query, query.numel())
    if isinstance(readout, TwoHeadReadout):
        for delta in readout.deltas:
            nn.init.zeros_(delta.output.weight)


def uniform_by_fan_in(parameter: torch.Tensor, fan_in: int) -> None:
    """Draw from U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    nn.init.uniform_(parameter, -(fan_in**-0.5), fan_in**-0.5)
