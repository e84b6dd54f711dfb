"""Weights of the reference system: every name has its place, and the numbers are the reference's."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model.building import build, composed, scatter_parameters, small_scale
from nano_llm.config.schema import LossAverage, ModelConfig, Position, ScaleConfig, TwoHeadConfig
from nano_llm.data.batches import Batch
from nano_llm.errors import CheckpointError
from nano_llm.model.accounting import num_parameters
from nano_llm.model.language_model import LanguageModel
from nano_llm.model.reference_names import reference_state
from nano_llm.objective import Objective

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "reference"


# ------------------------------------------------------------------------------- parity with recordings


@dataclass(frozen=True)
class Recording:
    """Weights, inputs and outputs of one model of the reference."""

    model: LanguageModel
    config: ModelConfig
    tokens_BT: Tensor
    targets_BT: Tensor
    treatment_B: Tensor
    logits_BTKV: Tensor
    expected: dict[str, float]


OVERRIDES = {
    "vanilla": ("model=vanilla",),
    "vanilla_sinusoidal": ("model=vanilla",),
    "interblock": ("model=interblock",),
    "tarnet": ("model=tarnet",),
}


@pytest.fixture(scope="module")
def recorded() -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not (RECORDED / "parity.safetensors").exists():
        pytest.skip("needs ../shared/reference/parity.safetensors and .json beside the checkout")
    return json.loads((RECORDED / "parity.json").read_text()), load_file(RECORDED / "parity.safetensors")


@pytest.fixture(params=OVERRIDES)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def parity(variant: str, recorded: tuple[dict[str, Any], dict[str, Tensor]]) -> Recording:
    about, everything = recorded
    tensors = {name.removeprefix(f"{variant}."): x for name, x in everything.items() if name.startswith(f"{variant}.")}
    dims = about["dims"]
    scale = ScaleConfig("parity", d_model=dims["d"], num_layers=dims["l"], num_heads=dims["h"], d_ff=dims["f"])
    config = composed(*OVERRIDES[variant]).model
    config = replace(config, position=Position.sinusoidal if variant == "vanilla_sinusoidal" else Position.rope)
    model = build(config, scale, vocab_size=about["vocab"], max_positions=dims["seq"]).eval()
    weights = {name.removeprefix("state."): x for name, x in tensors.items() if name.startswith("state.")}
    model.load_state_dict(reference_state(weights))
    logits = [tensors[name] for name in ("logits", "logits0", "logits1") if name in tensors]
    return Recording(
        model,
        config,
        tensors["input_ids"],
        tensors["targets"],
        tensors["treatment"],
        torch.stack(logits, dim=2),
        about["expected"][variant],
    )


def test_logits_are_the_references(parity: Recording) -> None:
    with torch.no_grad():
        logits = parity.model(parity.tokens_BT)
    torch.testing.assert_close(logits, parity.logits_BTKV, rtol=0, atol=1e-5)


def test_losses_are_the_references(parity: Recording) -> None:
    """One head averages tokens, two average rows; the penalty joins the loss and leaves "ce" alone."""
    with torch.no_grad():
        logits = parity.model(parity.tokens_BT)
    for weight, name in ((0.0, "ce"), (0.5, "total_loss_separation_0_5")):
        if name not in parity.expected:
            continue
        config = parity.config
        if isinstance(config, TwoHeadConfig):
            config = replace(config, separation=replace(config.separation, weight=weight))
        objective = Objective(config, LossAverage.row)
        ones = torch.ones_like(parity.treatment_B)
        batch = Batch(parity.tokens_BT, parity.targets_BT, parity.treatment_B, ones, ones, ones / 2)
        loss = objective.loss(objective.terms(logits, batch), objective.counts(batch))
        assert loss.item() == pytest.approx(parity.expected[name], abs=1e-5)


def test_parameters_are_as_many_as_the_references(parity: Recording) -> None:
    assert num_parameters(parity.model) == parity.expected["parameters"]


# ------------------------------------------------------------------------------------------- the names


def references_names(model: LanguageModel, *, interblock: bool, positions_of_hidden: int) -> dict[str, Tensor]:
    """Our parameters as the reference would store them: apart, and under its names.

    Args:
        model: The model.
        interblock: Whether its trunk mixes depths.
        positions_of_hidden: How far apart the reference counts hidden layers: activation and dropout have numbers.
    """
    ours = dict(model.state_dict())
    theirs = {"embed.weight": ours["trunk.embedding.weight"]}
    for kind in ("weight", "bias"):
        theirs[f"ln_f.{kind}"] = ours[f"trunk.final_norm.{kind}"]
        for layer in range(len(model.trunk.layers)):
            here, there = f"trunk.layers.{layer}", f"blocks.{layer}"
            theirs[f"{there}.ln1.{kind}"] = ours[f"{here}.attention_norm.{kind}"]
            theirs[f"{there}.ln2.{kind}"] = ours[f"{here}.feed_forward_norm.{kind}"]
            parts = ours[f"{here}.attention.query_key_value.{kind}"].chunk(3)
            theirs |= {f"{there}.attn.w{letter}.{kind}": part for letter, part in zip("qkv", parts, strict=True)}
            theirs[f"{there}.attn.wo.{kind}"] = ours[f"{here}.attention.output.{kind}"]
            theirs[f"{there}.ffn.0.{kind}"] = ours[f"{here}.feed_forward.up.{kind}"]
            theirs[f"{there}.ffn.3.{kind}"] = ours[f"{here}.feed_forward.down.{kind}"]
    if interblock:
        for mix in range(2 * len(model.trunk.layers)):
            there = f"blocks.{mix // 2}.{('attn', 'mlp')[mix % 2]}_res"
            theirs[f"{there}_proj.weight"] = ours[f"trunk.mixing.queries.{mix}"][None]
            theirs[f"{there}_norm.weight"] = ours[f"trunk.mixing.key_weights.{mix}"]
    heads = {
        "readout.perceptron": "head",
        "readout.shared": "tarnet_shared_head",
        "readout.deltas.0": "tarnet_sentiment_delta0",
        "readout.deltas.1": "tarnet_sentiment_delta1",
    }
    for name, tensor in ours.items():
        for here, there in heads.items():
            if name == f"{here}.output.weight":
                theirs[f"{there}.out.weight"] = tensor
            elif name.startswith(f"{here}.hidden."):
                rank = int(name.split(".")[-2])
                theirs[f"{there}.hidden.{rank * positions_of_hidden}.weight"] = tensor
    return theirs


VARIANTS = {
    "vanilla": (("model=vanilla",), False),
    "mlp": (("model=vanilla", "model/readout=mlp", "model.readout.hidden_layers=12"), False),
    "linear": (("model=vanilla", "model/readout=mlp", "model.readout.hidden_layers=0"), False),
    "interblock": (("model=interblock",), True),
    "tarnet": (("model=tarnet", "model.readout.delta1.hidden_width=5", "model.readout.delta0.hidden_layers=0"), True),
    "tarnet on vanilla": (("model=tarnet", "model/trunk=vanilla"), False),
}


def model_and_names(variant: str, positions_of_hidden: int = 3) -> tuple[LanguageModel, dict[str, Tensor]]:
    overrides, interblock = VARIANTS[variant]
    model = build(composed(*overrides).model, small_scale(11))
    scatter_parameters(model)
    return model, references_names(model, interblock=interblock, positions_of_hidden=positions_of_hidden)


@pytest.mark.parametrize("positions_of_hidden", [2, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_comes_back_under_our_name(variant: str, positions_of_hidden: int) -> None:
    model, theirs = model_and_names(variant, positions_of_hidden)
    assert sum(x.numel() for x in theirs.values()) == sum(p.numel() for p in model.parameters())
    state = reference_state(theirs)
    assert state.keys() == model.state_dict().keys()
    for name, parameter in model.state_dict().items():
        assert torch.equal(state[name], parameter), name


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("interblock", "blocks.0.attn.wz.weight"),
        ("interblock", "blocks.3.extra"),
        ("interblock", "module.ln_f.weight"),
        ("vanilla", "embed.bias"),
        ("mlp", "head.out.bias"),
        ("tarnet", "head.out.weight"),
        ("tarnet", "tarnet_sentiment_delta2.out.weight"),
    ],
)
def test_an_unknown_name_is_refused(variant: str, name: str) -> None:
    _, theirs = model_and_names(variant)
    with pytest.raises(CheckpointError, match="unknown parameters") as refusal:
        reference_state({**theirs, name: torch.zeros(1)})
    assert str(refusal.value).endswith(f": {name}")


@pytest.mark.parametrize(
    "name",
    [
        "embed.weight",
        "ln_f.bias",
        "blocks.0.attn.wk.bias",
        "blocks.10.ffn.3.weight",
        "blocks.4.mlp_res_proj.weight",
        "blocks.4.attn_res_norm.weight",
        "tarnet_shared_head.out.weight",
        "tarnet_sentiment_delta1.out.weight",
    ],
)
def test_a_missing_name_is_refused(name: str) -> None:
    _, theirs = model_and_names("tarnet")
    del theirs[name]
    with pytest.raises(CheckpointError, match="missing parameters") as refusal:
        reference_state(theirs)
    assert str(refusal.value).endswith(f": {name}")


def test_a_missing_layer_is_refused() -> None:
    _, theirs = model_and_names("vanilla")
    gone = [name for name in theirs if name.startswith("blocks.7.")]
    with pytest.raises(CheckpointError, match=r"missing parameters: blocks\.7\.attn\.wk\.bias, "):
        reference_state({name: x for name, x in theirs.items() if name not in gone})


def test_an_empty_checkpoint_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"missing parameters: embed\.weight, ln_f\.bias, ln_f\.weight"):
        reference_state({})
