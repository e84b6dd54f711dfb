"""What a model costs: closed formulas against the modules, the counter of PyTorch and the published counts."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model.building import build, composed, small_scale, some_tokens
from nano_llm.config.schema import Config, InterblockTrunkConfig
from nano_llm.model.accounting import (
    expected_parameters,
    forward_flops_per_token,
    num_parameters,
)
from nano_llm.model.language_model import LanguageModel, build_language_model
from nano_llm.model.trunk import InterblockTrunk

VOCAB_SIZE = 256
VARIANTS = {
    "vanilla": ("model=vanilla",),
    "vanilla, mlp": ("model=vanilla", "model/readout=mlp", "model.readout.hidden_width=24"),
    "vanilla, linear": ("model=vanilla", "model/readout=mlp", "model.readout.hidden_layers=0"),
    "interblock": ("model=interblock",),
    "interblock, paper": ("model=interblock", "model/trunk=interblock_paper"),
    "tarnet": ("model=tarnet",),
    "tarnet, vanilla": ("model=tarnet", "model/trunk=vanilla"),
    "tarnet, unequal": (
        "model=tarnet",
        "model.readout.shared.hidden_layers=3",
        "model.readout.delta0.hidden_width=20",
        "model.readout.delta1.hidden_layers=0",
    ),
    "symmetric": ("model=tarnet_symmetric",),
    "symmetric, unequal": ("model=tarnet_symmetric", "model.readout.delta.hidden_width=20"),
    "s_plus": ("model=s_plus",),
    "s_plus, mlp": ("model=s_plus", "model/readout=mlp", "model/trunk=vanilla"),
    "t_learner": ("model=t_learner",),
    "t_learner, mlp": ("model=t_learner", "model/readout=mlp", "model/trunk=interblock_paper"),
}


def weightless(config: Config) -> LanguageModel:
    """A model of any size in no memory."""
    with torch.device("meta"):
        return build_language_model(config.model, config.scale, VOCAB_SIZE, 40)


# ----------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("overrides", "parameters"),
    [
        (("model=vanilla",), 18_062_400),
        (("model=interblock",), 18_074_688),
        (("model=tarnet",), 20_040_768),
        (("model=interblock", "model/trunk=interblock_paper"), 18_075_712),
    ],
    ids=["vanilla", "interblock", "tarnet", "interblock_paper"],
)
def test_published_sizes(overrides: tuple[str, ...], parameters: int) -> None:
    config = composed("scale=w512", *overrides)
    assert expected_parameters(config.model, config.scale, VOCAB_SIZE) == parameters
    assert num_parameters(weightless(config)) == parameters


@pytest.mark.parametrize(
    ("scale", "parameters"),
    [("tiny", 25_344), ("nano", 826_112), ("mini", 4_804_608), ("w512", 18_062_400)],
)
def test_the_dial_has_these_sizes(scale: str, parameters: int) -> None:
    """Vanilla with a vocabulary of 256; a change here changes what every result of that size means."""
    model, scale_config = composed("model=vanilla").model, composed(f"scale={scale}").scale
    assert expected_parameters(model, scale_config, VOCAB_SIZE) == parameters
    assert num_parameters(weightless(replace(composed(), model=model, scale=scale_config))) == parameters


@pytest.mark.parametrize("num_layers", [1, 2, 5])
@pytest.mark.parametrize("overrides", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_formula_counts_the_modules(overrides: tuple[str, ...], num_layers: int) -> None:
    config = replace(composed(*overrides), scale=small_scale(num_layers, d_model=16, d_ff=28))
    model = weightless(config)
    assert expected_parameters(config.model, config.scale, VOCAB_SIZE) == num_parameters(model)
    assert num_parameters(model) == sum(tensor.numel() for tensor in model.state_dict().values())


def test_sizes_of_the_learners() -> None:
    """On one trunk, at nano with a vocabulary of 256; an S-learner is the inter-block decoder."""
    names = ("interblock", "s_plus", "t_learner", "tarnet", "tarnet_symmetric")
    sizes = {name: num_parameters(weightless(composed("scale=nano", f"model={name}"))) for name in names}
    assert sizes == {
        "interblock": 828_160,
        "s_plus": 828_416,
        "t_learner": 1_656_320,
        "tarnet": 1_024_768,
        "tarnet_symmetric": 959_232,
    }
    half = num_parameters(weightless(composed("scale=nano", "model=t_learner", "scale.num_layers=2")))
    assert half - sizes["interblock"] == VOCAB_SIZE * 128 + 2 * 128  # an embedding and a final norm more


# ---------------------------------------------------------------------------------------------- FLOPs


def test_flops_of_the_published_size() -> None:
    """Layers 35.8 M, attention 1.6 M, tied readout 0.26 M."""
    vanilla = forward_flops_per_token(weightless(composed("scale=w512", "model=vanilla")), 256)
    assert vanilla == 12 * (4 * 512**2 + 2 * 512 * 1888) + 6 * 4 * 512 * 128.5 + 2 * 512 * 256
    assert vanilla == pytest.approx(37.6e6, rel=2e-3)
    interblock = forward_flops_per_token(weightless(composed("scale=w512", "model=interblock")), 256)
    assert interblock - vanilla == 4 * 512 * 32


@pytest.mark.parametrize("num_positions", [1, 8])
@pytest.mark.parametrize("overrides", VARIANTS.values(), ids=VARIANTS.keys())
def test_flops_equal_what_pytorch_counts(overrides: tuple[str, ...], num_positions: int) -> None:
    """PyTorch counts the whole square of attention, and no sum over sources, which is no matrix product."""
    config = composed(*overrides).model
    model = build(config, small_scale(3, d_model=16, d_ff=28)).eval()
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        model(some_tokens(2, num_positions))
    trunks = [trunk for trunk, _ in model.passes]
    unseen_square = len(trunks) * 3 * 4 * 16 * (num_positions - 1) / 2
    slots = [mix.num_sources for trunk in trunks if isinstance(trunk, InterblockTrunk) for mix in trunk.mixing.mixes]
    weighted_sums = 2 * 16 * sum(number for number in slots if number > 1)
    expected = forward_flops_per_token(model, num_positions) + unseen_square - weighted_sums
    assert counter.get_total_flops() == 2 * num_positions * expected


def test_a_second_outcome_by_another_pass_doubles_the_work() -> None:
    one, *two = (weightless(composed("scale=nano", f"model={name}")) for name in ("interblock", "s_plus", "t_learner"))
    for model in two:
        assert forward_flops_per_token(model, 64) == 2 * forward_flops_per_token(one, 64)
    s_plus, t_learner = (forward_flops_per_token(model, 64, factual=True) for model in two)
    assert s_plus == forward_flops_per_token(one, 64)
    assert t_learner == 2 * s_plus


def test_attention_flops_grow_with_the_window() -> None:
    model = build(composed("model=vanilla").model, small_scale(3, d_model=16))
    assert forward_flops_per_token(model, 101) - forward_flops_per_token(model, 1) == 3 * 4 * 16 * 50


def test_a_mix_without_a_choice_costs_nothing() -> None:
    config = composed("model=interblock").model
    assert isinstance(config.trunk, InterblockTrunkConfig)
    capped = replace(config, trunk=replace(config.trunk, macro_block_size=1, max_block_representations=1))
    vanilla = composed("model=vanilla").model
    costs = [forward_flops_per_token(build(model, small_scale(3)), 8) for model in (capped, vanilla)]
    assert costs[0] - costs[1] == 3 * 2 * 4 * 8  # the feed-forward mixes alone, two sources each
