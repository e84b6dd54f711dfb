"""Trunks are causal, follow their rules and compile to the same numbers."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.building import build, composed, scatter_parameters, small_scale, some_tokens
from model.oracle import Oracle
from nano_llm.config.schema import InterblockTrunkConfig, ModelConfig, Position, TrunkConfig
from nano_llm.errors import ConfigError
from nano_llm.model.trunk import Trunk, build_trunk

TRUNKS = ["vanilla", "interblock", "interblock_paper"]


def decoder(trunk: str, position: str = "rope", dropout: float = 0.0) -> ModelConfig:
    composed_model = composed("model=vanilla", f"model/trunk={trunk}").model
    return replace(composed_model, position=Position(position), dropout=dropout)


@pytest.fixture(params=[(trunk, position) for trunk in TRUNKS for position in ("rope", "sinusoidal")], ids="-".join)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return decoder(*request.param)


def trunk_of(config: ModelConfig, num_layers: int = 3, dtype: torch.dtype = torch.float64) -> Trunk:
    trunk = build(config, small_scale(num_layers), dtype=dtype).trunk
    scatter_parameters(trunk)
    return trunk


def hidden_with_seed(trunk: Trunk, tokens: Tensor) -> Tensor:
    torch.manual_seed(5)
    return trunk(tokens)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_changed_tokens_change_no_earlier_hidden_state(config: ModelConfig, dropout: float) -> None:
    trunk = trunk_of(replace(config, dropout=dropout))
    tokens = some_tokens(2, 12)
    before = hidden_with_seed(trunk, tokens)
    for position in (0, 5, 11):
        changed = tokens.clone()
        changed[:, position] = (changed[:, position] + 1) % 19
        after = hidden_with_seed(trunk, changed)
        torch.testing.assert_close(after[:, :position], before[:, :position], rtol=0, atol=1e-12)
        assert ((after - before)[:, position:].abs().amax(-1) > 1e-6).all(), "every later position sees the change"


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_no_gradient_flows_from_a_position_to_later_ones(config: ModelConfig, dropout: float) -> None:
    trunk = trunk_of(replace(config, dropout=dropout))
    embedded: list[Tensor] = []
    trunk.embedding.register_forward_hook(lambda _, __, output: embedded.append(output))
    hidden = hidden_with_seed(trunk, some_tokens(2, 7))
    weights = torch.arange(1.0, 9.0, dtype=torch.float64)
    for position in range(7):
        (grad,) = torch.autograd.grad((hidden[:, position] * weights).sum(), embedded, retain_graph=True)
        assert not grad[:, position + 1 :].any()
        assert grad[:, : position + 1].any(-1).all()


def test_windows_do_not_see_each_other(config: ModelConfig) -> None:
    trunk = trunk_of(config)
    tokens = some_tokens(3, 6)
    alone = torch.cat([trunk(window[None]) for window in tokens])
    torch.testing.assert_close(trunk(tokens), alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("position", ["rope", "sinusoidal"])
def test_the_vanilla_trunk_equals_the_oracle(position: str) -> None:
    trunk = trunk_of(decoder("vanilla", position))
    tokens = some_tokens(2, 6)
    copies = {name: p.detach().clone().requires_grad_() for name, p in trunk.named_parameters()}
    theirs = Oracle(copies, num_layers=3, num_heads=2, position=position).hidden(tokens)
    ours = trunk(tokens)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    direction = torch.linspace(-1, 2, ours.numel(), dtype=torch.float64).view_as(ours)
    grads = torch.autograd.grad((ours * direction).sum(), list(trunk.parameters()))
    exact = torch.autograd.grad((theirs * direction).sum(), list(copies.values()))
    torch.testing.assert_close(grads, exact, rtol=1e-10, atol=1e-10)


def test_a_window_longer_than_the_tables_is_refused(config: ModelConfig) -> None:
    with pytest.raises(RuntimeError, match="must match"):
        trunk_of(config)(some_tokens(1, 41))


def test_an_unknown_trunk_is_refused() -> None:
    config = replace(decoder("vanilla"), trunk=TrunkConfig(name="mine"))
    with pytest.raises(ConfigError, match="TrunkConfig is not a trunk"):
        build_trunk(config, small_scale(1), 19, 8)


# -------------------------------------------------------------------------------------------- compiled


@pytest.fixture
def compiler() -> Iterator[None]:
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("torch.compile needs a C++ compiler")
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compilable(trunk: str, dropout: float = 0.0) -> Trunk:
    """Two layers with, if they mix, 1, 2, 2 and 3 sources."""
    config = decoder(trunk, dropout=dropout)
    if isinstance(config.trunk, InterblockTrunkConfig):
        config = replace(config, trunk=replace(config.trunk, macro_block_size=1))
    return build(config, small_scale(2, d_model=32, d_ff=48)).trunk


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("trunk", ["vanilla", "interblock"])
def test_a_compiled_trunk_is_one_graph_with_the_eager_numbers(trunk: str, compiler: None) -> None:
    eager = compilable(trunk)
    compiled = torch.compile(eager, fullgraph=True, dynamic=False)
    trainable = [p for p in eager.parameters() if p.requires_grad]
    for seed in range(3):
        tokens = torch.randint(19, (2, 24), generator=torch.Generator().manual_seed(seed))
        results = []
        with torch.compiler.set_stance("default" if seed == 0 else "fail_on_recompile"):
            for module in (eager, compiled):
                hidden = module(tokens)
                direction = torch.linspace(-1, 2, hidden.numel()).view_as(hidden)
                results.append((hidden.detach(), torch.autograd.grad((hidden * direction).sum(), trainable)))
        (ours, grads), (theirs, compiled_grads) = results
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)
        for grad, compiled_grad in zip(grads, compiled_grads, strict=True):
            assert (compiled_grad - grad).norm() <= 1e-4 * grad.norm()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("trunk", ["vanilla", "interblock_paper"])
def test_training_with_dropout_is_traced_in_one_graph(trunk: str) -> None:
    torch.compiler.reset()
    eager = compilable(trunk, dropout=0.1)
    hidden = torch.compile(eager, fullgraph=True, backend="aot_eager")(some_tokens(2, 24))
    hidden.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in eager.parameters() if p.requires_grad)
    torch.compiler.reset()
