"""What a model costs: parameters and floating-point operations."""

from itertools import pairwise

from torch import nn

from nano_llm.config.schema import (
    HeadConfig,
    InterblockTrunkConfig,
    MlpReadoutConfig,
    ModelConfig,
    ReadoutConfig,
    ScaleConfig,
    SymmetricReadoutConfig,
    TreatmentEmbeddingConfig,
    TwoHeadReadoutConfig,
    TwoModelsConfig,
)
from nano_llm.model.language_model import LanguageModel, TreatedDecoder
from nano_llm.model.readout import Readout, TiedReadout
from nano_llm.model.trunk import InterblockTrunk, Trunk


def num_parameters(model: LanguageModel) -> int:
    """Number of parameters, those without gradient included; a tied readout has none of its own."""
    return sum(parameter.numel() for parameter in model.parameters())


def expected_parameters(model: ModelConfig, scale: ScaleConfig, vocab_size: int) -> int:
    """The number of parameters that a config means, without building the model.

    With D = d_model, F = d_ff and V = vocab_size:

    | part | parameters |
    |---|---|
    | token embedding | V D |
    | each layer | attention 4 D (D + 1), feed-forward 2 D F + F + D, two norms 4 D |
    | final norm | 2 D |
    | depth mixing | 2 D for each of two mixes a layer, and for the final one |
    | each perceptron of the readout | its matrices, see ``expected_perceptron`` |
    | treatment embedding (S+) | 2 D |

    A T-learner has all of it twice.
    """
    width, d_ff = scale.d_model, scale.d_ff
    layer = 4 * width * (width + 1) + 2 * width * d_ff + d_ff + width + 4 * width
    num_mixes = 0
    if isinstance(model.trunk, InterblockTrunkConfig):
        num_mixes = 2 * scale.num_layers + model.trunk.final_mix
    trunk = vocab_size * width + scale.num_layers * layer + 2 * width + 2 * width * num_mixes
    decoder = trunk + sum(expected_perceptron(head, width, vocab_size) for head in perceptrons(model.readout))
    if isinstance(model, TwoModelsConfig):
        return 2 * decoder
    if isinstance(model, TreatmentEmbeddingConfig):
        return decoder + 2 * width
    return decoder


def perceptrons(readout: ReadoutConfig) -> list[HeadConfig | MlpReadoutConfig]:
    """The perceptrons of a readout; a tied one has none."""
    if isinstance(readout, TwoHeadReadoutConfig):
        return [readout.shared, readout.delta0, readout.delta1]
    if isinstance(readout, SymmetricReadoutConfig):
        return [readout.shared, readout.delta]
    return [readout] if isinstance(readout, MlpReadoutConfig) else []


def expected_perceptron(head: HeadConfig | MlpReadoutConfig, d_model: int, vocab_size: int) -> int:
    """Entries of the matrices of one perceptron: d_model -> hidden layers -> vocabulary, no biases."""
    width = d_model if head.hidden_width is None else head.hidden_width
    widths = [d_model, *[width] * head.hidden_layers, vocab_size]
    return sum(fan_in * fan_out for fan_in, fan_out in pairwise(widths))


def forward_flops_per_token(model: LanguageModel, window_length: int, *, factual: bool = False) -> float:
    """Floating-point operations of ``forward`` for one token: twice the multiply-adds, in each pass of a trunk, of

    - every linear map, readouts included (a tied one too): one for each entry of its matrix;
    - attention, in each layer: D for the score and D for the value of each key that a query sees, (T + 1) / 2 keys
      on average over a window;
    - depth mixing: D for the score and D for the value of each source, in every mix with a choice.

    Work on single elements is left out: norms, activations, rotations, softmax, dropout, biases, residual sums.

    A model with two passes makes both for every window, whichever outcome is its factual one, but for an S+ that is
    asked for that one alone. (On a CPU others save work then, too: they part the windows by treatment.)

    Args:
        model: The model; T positions, D d_model.
        window_length: T, the positions of a window.
        factual: Whether only the factual outcome is asked for.
    """
    passes = model.passes[:1] if factual and isinstance(model, TreatedDecoder) else model.passes
    return sum(_pass_flops(trunk, readout, window_length) for trunk, readout in passes)


def _pass_flops(trunk: Trunk, readout: Readout, window_length: int) -> float:
    width = trunk.embedding.embedding_dim
    modules = (*trunk.modules(), *readout.modules())
    linear = sum(module.weight.numel() for module in modules if isinstance(module, nn.Linear))
    if isinstance(readout, TiedReadout):
        linear += trunk.embedding.weight.numel()
    attention = len(trunk.layers) * 2 * width * (window_length + 1) / 2
    depth_mixing = 0
    if isinstance(trunk, InterblockTrunk):
        slots = [mix.num_sources for mix in trunk.mixing.mixes]
        depth_mixing = 2 * width * sum(number for number in slots if number > 1)
    return 2.0 * (linear + attention + depth_mixing)
