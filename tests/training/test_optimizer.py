"""Optimizer groups: every parameter once, decay and Muon only where they belong."""

import inspect
import subprocess
import sys

import pytest
import torch

from nano_llm.config.compose import compose_config
from nano_llm.model.language_model import LanguageModel, build_language_model
from nano_llm.objective import Objective
from nano_llm.training.optimizer import Optimizer, hidden_matrices


def build(*overrides: str) -> tuple[LanguageModel, Optimizer]:
    config = compose_config(["scale=tiny", *overrides])
    torch.manual_seed(0)
    model = build_language_model(config.model, config.scale, 32, 16)
    return model, Optimizer(config.optimizer, model)


def names(model: LanguageModel, parameters: list[torch.Tensor]) -> set[str]:
    ids = {id(p) for p in parameters}
    return {name for name, p in model.named_parameters() if id(p) in ids}


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "reference"])
@pytest.mark.parametrize("model", ["vanilla", "interblock", "tarnet", "tarnet_symmetric", "s_plus", "t_learner"])
def test_every_trainable_parameter_is_in_exactly_one_group(model: str, optimizer: str) -> None:
    built, grouped = build(f"model={model}", f"optimizer={optimizer}")
    ids = [id(p) for group in grouped._groups() for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in built.parameters() if p.requires_grad)


def test_decay_spares_vectors_and_queries() -> None:
    model, optimizer = build("model=interblock")
    spared = names(model, [p for g in optimizer._groups() if g["weight_decay"] == 0 for p in g["params"]])
    shapes = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
    assert spared == {name for name, shape in shapes.items() if len(shape) == 1 or min(shape) == 1}
    assert spared


def test_the_reference_decays_everything() -> None:
    _, optimizer = build("optimizer=reference")
    assert {g["weight_decay"] for g in optimizer._groups()} == {0.01}


@pytest.mark.parametrize("name", ["interblock", "tarnet", "tarnet_symmetric", "s_plus"])
def test_muon_takes_the_linear_maps_of_the_layers_only(name: str) -> None:
    model, _ = build(f"model={name}", "optimizer=muon")
    assert names(model, hidden_matrices(model)) == maps_of_the_layers()


def test_muon_takes_the_linear_maps_of_both_trunks() -> None:
    model, _ = build("model=t_learner", "model/readout=mlp", "optimizer=muon")
    both = {f"decoders.{label}.{name}" for label in (0, 1) for name in maps_of_the_layers()}
    assert names(model, hidden_matrices(model)) == both


def maps_of_the_layers() -> set[str]:
    maps = ("attention.query_key_value", "attention.output", "feed_forward.up", "feed_forward.down")
    return {f"trunk.layers.{layer}.{name}.weight" for layer in (0, 1) for name in maps}


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "reference"])
def test_parameters_of_the_objective_are_trained_without_decay(optimizer: str) -> None:
    config = compose_config(["scale=tiny", "model/separation=bayes", f"optimizer={optimizer}"])
    model = build_language_model(config.model, config.scale, 32, 16)
    objective = Objective(config.model, config.protocol.loss_average)
    own = set(map(id, objective.parameters()))
    built = Optimizer(config.optimizer, model, objective)
    assert len(own) == 2
    decays = [g["weight_decay"] for g in built._groups() for p in g["params"] if id(p) in own]
    assert decays == [0, 0]
    before = [p.detach().clone() for p in objective.parameters()]
    for p in built.parameters:
        p.grad = torch.ones_like(p)
    built.step(1.0)
    assert all((p < old).all() for p, old in zip(objective.parameters(), before, strict=True))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_restored_optimizer_takes_the_same_next_step(optimizer: str) -> None:
    models = [build(f"optimizer={optimizer}") for _ in range(2)]
    tokens_BT = torch.randint(0, 32, (2, 8))

    def step(model: LanguageModel, optimizer: Optimizer) -> None:
        model.eval()
        model(tokens_BT).square().mean().backward()
        optimizer.step(0.5)
        optimizer.drop_gradients()

    (one, first), (other, second) = models
    step(one, first)
    other.load_state_dict(one.state_dict())
    second.load_tensors({name: tensor.clone() for name, tensor in first.tensors().items()})
    step(one, first)
    step(other, second)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_clipping_returns_the_norm_before_and_bounds_it_after() -> None:
    model, optimizer = build("optimizer.grad_clip=0.1")
    for p in optimizer.parameters:
        p.grad = torch.ones_like(p)
    expected = sum(p.numel() for p in optimizer.parameters) ** 0.5
    assert float(optimizer.clip()) == pytest.approx(expected, rel=1e-5)
    assert sum(float(p.grad.square().sum()) for p in optimizer.parameters if p.grad is not None) ** 0.5 <= 0.1001
    assert model is not None


def test_without_a_limit_the_norm_is_told_and_gradients_are_left_alone() -> None:
    model, optimizer = build("optimizer.grad_clip=null")
    first, *others = optimizer.parameters
    assert others
    first.grad = torch.full_like(first, 1e30)  # its square is no number of fp32
    assert optimizer.clip() == torch.inf
    assert torch.equal(first.grad, torch.full_like(first, 1e30))
    assert model is not None


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_updates_are_those_of_the_library_bit_for_bit(name: str) -> None:
    """Ours leave out only the guards against being traced."""
    (ours, optimizer), (theirs, plain) = (build("model=tarnet", f"optimizer={name}") for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    libraries = [torch.optim.AdamW, torch.optim.Muon]
    plain._optimizers = [
        library([{**group} for group in replaced.param_groups], **library_defaults(library, replaced))
        for library, replaced in zip(libraries, plain._optimizers, strict=False)
    ]
    for step in range(3):
        for model, chosen in ((ours, optimizer), (theirs, plain)):
            torch.manual_seed(step)
            for p in model.parameters():
                p.grad = torch.randn_like(p)
            chosen.step(1.0)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def library_defaults(library: type[torch.optim.Optimizer], optimizer: torch.optim.Optimizer) -> dict[str, object]:
    known = inspect.signature(library).parameters
    return {name: value for name, value in optimizer.defaults.items() if name in known}


def test_training_leaves_the_compiler_unimported() -> None:
    code = """
import sys, torch
from nano_llm.config.compose import compose_config
from nano_llm.training.optimizer import Optimizer
model = torch.nn.ModuleDict({"trunk": torch.nn.Sequential(torch.nn.Linear(2, 2))})
optimizer = Optimizer(compose_config(["optimizer=muon"]).optimizer, model)
for parameter in model.parameters():
    parameter.grad = torch.ones_like(parameter)
optimizer.step(1.0)
optimizer.load_tensors(optimizer.tensors())
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
