"""Depth mixing follows the rule of its specification: the oracle's values, gradients, sources and limits."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from model import oracle
from model.building import build, composed, scatter_parameters, small_scale, some_tokens
from model.oracle import Oracle
from nano_llm.config.schema import DepthPartial, DepthSource, InterblockTrunkConfig, ModelConfig, Position
from nano_llm.model.depth_mixing import DepthMemory, DepthMixing, Mix, plan_mixes, trim
from nano_llm.model.language_model import LanguageModel
from nano_llm.model.trunk import InterblockTrunk, Trunk


def interblock(
    macro_block_size: int = 2,
    source: str = "stream",
    partial: str = "reference",
    final_mix: bool = False,
    cap: int = 9,
    position: str = "rope",
) -> ModelConfig:
    base = composed("model=interblock", "model.dropout=0").model
    assert isinstance(base.trunk, InterblockTrunkConfig)
    trunk = replace(
        base.trunk,
        macro_block_size=macro_block_size,
        source=DepthSource(source),
        partial=DepthPartial(partial),
        final_mix=final_mix,
        max_block_representations=cap,
    )
    return replace(base, trunk=trunk, position=Position(position))


def oracle_of(trunk: Trunk, config: ModelConfig, dtype: torch.dtype = torch.float64) -> Oracle:
    """The same decoder by the book, with copies of the trunk's parameters."""
    assert isinstance(config.trunk, InterblockTrunkConfig)
    copies = {name: value.detach().to(dtype).requires_grad_() for name, value in trunk.state_dict().items()}
    return Oracle(
        copies,
        num_layers=len(trunk.layers),
        num_heads=2,
        position=config.position.name,
        macro_block_size=config.trunk.macro_block_size,
        max_block_representations=config.trunk.max_block_representations,
        source=config.trunk.source.name,
        partial=config.trunk.partial.name,
        final_mix=config.trunk.final_mix,
    )


def gradients(hidden: Tensor, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of an arbitrary linear function of the hidden states, 0 where there is none."""
    generator = torch.Generator().manual_seed(3)
    direction = torch.randn(hidden.shape, generator=generator, dtype=torch.float64).to(hidden.dtype)
    wanted = {name: p for name, p in parameters.items() if p.requires_grad}
    found = torch.autograd.grad((hidden * direction).sum(), list(wanted.values()), allow_unused=True)
    given = dict(zip(wanted, found, strict=True))
    return {name: torch.zeros_like(p) if given.get(name) is None else given[name] for name, p in parameters.items()}


def compared(model: LanguageModel, config: ModelConfig, num_positions: int = 5) -> tuple[dict[str, Tensor], ...]:
    """Hidden states and gradients of the fast trunk and of the oracle, by name."""
    scatter_parameters(model)
    tokens = some_tokens(2, num_positions)
    by_the_book = oracle_of(model.trunk, config)
    ours, theirs = model.trunk(tokens), by_the_book.hidden(tokens)
    return (
        {"hidden": ours.detach(), **gradients(ours, dict(model.trunk.named_parameters()))},
        {"hidden": theirs.detach(), **gradients(theirs, by_the_book.parameters)},
    )


SWITCHES = list(product(["stream", "delta"], ["reference", "cumulative"], [False, True]))


@pytest.mark.parametrize(("source", "partial", "final_mix"), SWITCHES)
@pytest.mark.parametrize("num_layers", [1, 5, 6])
@pytest.mark.parametrize("macro_block_size", [1, 2, 3])
def test_values_and_all_gradients_equal_the_oracles(
    macro_block_size: int, num_layers: int, source: str, partial: str, final_mix: bool
) -> None:
    config = interblock(macro_block_size, source, partial, final_mix)
    ours, theirs = compared(build(config, small_scale(num_layers), dtype=torch.float64), config)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("source", "final_mix"), list(product(["stream", "delta"], [False, True])))
@pytest.mark.parametrize("cap", [0, 1, 2, 3])
def test_capped_snapshots_equal_the_oracles(cap: int, source: str, final_mix: bool) -> None:
    config = interblock(1, source, "cumulative", final_mix, cap)
    ours, theirs = compared(build(config, small_scale(6), dtype=torch.float64), config)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_an_open_block_and_a_cap_meet_in_the_final_mix() -> None:
    config = interblock(2, "delta", "reference", final_mix=True, cap=2, position="sinusoidal")
    ours, theirs = compared(build(config, small_scale(5), dtype=torch.float64), config)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("d_model", [8, 512])
def test_single_precision_stays_near_the_exact_values(d_model: int) -> None:
    config = interblock()
    model = build(config, small_scale(6, d_model=d_model, d_ff=48))
    tokens = some_tokens(1, 12)
    exact = oracle_of(model.trunk, config)
    ours, theirs = model.trunk(tokens), exact.hidden(tokens)
    assert (ours - theirs).abs().max() <= 1e-5
    grads, exact_grads = gradients(ours, dict(model.trunk.named_parameters())), gradients(theirs, exact.parameters)
    for name, grad in grads.items():
        assert (grad - exact_grads[name]).norm() <= 1e-4 * exact_grads[name].norm(), name


@pytest.mark.parametrize("learns", [False, True])
def test_a_listener_hears_the_weights_of_every_choice_while_it_listens(learns: bool) -> None:
    config = interblock(2, "delta", "cumulative", final_mix=True)
    model = build(config, small_scale(5), dtype=torch.float64)
    scatter_parameters(model)
    tokens = some_tokens(2, 5)
    heard: dict[int, Tensor] = {}
    with torch.set_grad_enabled(learns), model.trunk.mixing.heard(heard.__setitem__):
        model.trunk(tokens)
    by_the_book = oracle_of(model.trunk, config)
    by_the_book.hidden(tokens)
    expected = {
        m: oracle.depth_weights(
            sources, by_the_book.parameters[f"mixing.queries.{m}"], by_the_book.parameters[f"mixing.key_weights.{m}"]
        )
        for m, sources in enumerate(by_the_book.mixed)
        if len(sources) > 1
    }
    torch.testing.assert_close(heard, {m: weights.detach() for m, weights in expected.items()})
    heard.clear()
    model.trunk(tokens)
    assert not heard


# ------------------------------------------------------------------------------------------- the plan


def num_sources(mixes: list[Mix]) -> list[int]:
    return [mix.num_sources for mix in mixes]


@pytest.mark.parametrize(
    ("num_layers", "macro_block_size", "cap", "final_mix", "expected"),
    [
        (6, 2, 9, False, [1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4]),
        (6, 2, 0, True, [1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4]),
        (3, 1, 9, False, [1, 2, 2, 3, 3, 4]),
        (5, 3, 9, True, [1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3]),
        (6, 1, 2, False, [1, 2, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3]),
        (4, 2, 1, True, [1, 2, 2, 2, 1, 2, 2, 2, 1]),
    ],
)
def test_slot_table(num_layers: int, macro_block_size: int, cap: int, final_mix: bool, expected: list[int]) -> None:
    assert num_sources(plan_mixes(num_layers, macro_block_size, cap, final_mix)) == expected


@pytest.mark.parametrize(("num_layers", "macro_block_size", "cap"), list(product([1, 5, 6], [1, 2, 3], [0, 1, 2, 9])))
def test_the_plan_has_the_oracles_sources(num_layers: int, macro_block_size: int, cap: int) -> None:
    config = interblock(macro_block_size, final_mix=True, cap=cap)
    trunk = build(config, small_scale(num_layers)).trunk
    by_the_book = oracle_of(trunk, config)
    by_the_book.hidden(some_tokens(1, 2))
    assert isinstance(trunk, InterblockTrunk)
    assert num_sources(trunk.mixing.mixes) == [len(sources) for sources in by_the_book.mixed]


@pytest.mark.parametrize(
    ("cap", "kept"), [(3, (0, 3, 4)), (2, (0, 4)), (1, (0,)), (0, (0, 1, 2, 3, 4)), (5, (0, 1, 2, 3, 4))]
)
def test_a_cap_keeps_the_embedding_and_the_most_recent(cap: int, kept: tuple[int, ...]) -> None:
    assert trim((0, 1, 2, 3, 4), cap) == kept


# -------------------------------------------------------------------------------------------- one mix


def memory_of(plan: list[Mix], queries: Tensor, key_weights: Tensor) -> DepthMemory:
    mixing = DepthMixing(queries.shape[-1], plan).to(queries.dtype)
    with torch.no_grad():
        for number in range(len(plan)):
            mixing.queries[number].copy_(queries[number])
            mixing.key_weights[number].copy_(key_weights[number])
    return mixing.open()


def drawn(*shape: int, seed: int = 4) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PLAN = plan_mixes(num_layers=2, macro_block_size=1, max_snapshots=0, final_mix=False)  # 1, 2, 2 and 3 sources


def test_a_single_source_passes_unchanged_and_uncopied() -> None:
    embedding = drawn(2, 3, 8)
    memory = memory_of(PLAN, drawn(4, 8), drawn(4, 8))
    memory.keep(embedding)
    mixed = memory.mix(0)
    assert torch.equal(mixed, embedding)
    assert mixed.data_ptr() == embedding.data_ptr()


def test_zero_queries_give_the_mean() -> None:
    embedding, snapshot, partial = drawn(3, 2, 3, 8)
    memory = memory_of(PLAN, torch.zeros(4, 8, dtype=torch.float64), drawn(4, 8))
    memory.keep(embedding)
    torch.testing.assert_close(memory.mix(1, partial), (embedding + partial) / 2)
    memory.keep(snapshot)
    torch.testing.assert_close(memory.mix(2), (embedding + snapshot) / 2)
    torch.testing.assert_close(memory.mix(3, partial), (embedding + snapshot + partial) / 3)


@pytest.mark.parametrize("scaled", [0, 1, 2])
def test_a_source_ten_times_as_large_keeps_its_weight(scaled: int) -> None:
    sources = drawn(3, 2, 3, 8)
    queries, key_weights = drawn(4, 8, seed=5), drawn(4, 8, seed=6)
    factors = torch.ones(3, 1, 1, 1, dtype=torch.float64)
    factors[scaled] = 10
    mixes = []
    for embedding, snapshot, partial in (sources, sources * factors):
        memory = memory_of(PLAN, queries, key_weights)
        memory.keep(embedding)
        memory.keep(snapshot)
        mixes.append(memory.mix(3, partial))
    weight = oracle.depth_weights(list(sources), queries[3], key_weights[3])[scaled].unsqueeze(-1)
    # Not to the last digit: the epsilon of the norm shrinks a score by about 1e-6 of itself.
    torch.testing.assert_close(mixes[1] - mixes[0], 9 * weight * sources[scaled], rtol=0, atol=2e-4)


def test_gradients_hold_near_zero_where_the_norm_is_guarded() -> None:
    """Sources as small as the square root of the norm's epsilon, and one that is zero."""
    queries, key_weights = drawn(4, 4, seed=5), drawn(4, 4, seed=6)

    def mixed(embedding: Tensor, snapshot: Tensor, partial: Tensor, queries: Tensor, weights: Tensor) -> Tensor:
        mixing = DepthMixing(4, PLAN).double()
        replaced = {f"queries.{i}": row for i, row in enumerate(queries)}
        replaced |= {f"key_weights.{i}": row for i, row in enumerate(weights)}
        memory = torch.func.functional_call(Opening(mixing), {f"mixing.{k}": v for k, v in replaced.items()})
        memory.keep(embedding)
        first = memory.mix(1, partial)
        memory.keep(snapshot)
        return torch.stack((first, memory.mix(2), memory.mix(3, partial)))

    sources = drawn(3, 1, 2, 4) * torch.tensor([1e-3, 1.0, 1e-3], dtype=torch.float64).view(3, 1, 1, 1)
    sources[0, :, 0] = 0
    inputs = [x.clone().requires_grad_() for x in (*sources, queries, key_weights)]
    assert torch.autograd.gradcheck(mixed, inputs, eps=1e-7, atol=1e-4, check_undefined_grad=False)


class Opening(torch.nn.Module):
    """``DepthMixing.open`` as a forward pass, so that its parameters can be replaced."""

    def __init__(self, mixing: DepthMixing) -> None:
        super().__init__()
        self.mixing = mixing

    def forward(self) -> DepthMemory:
        return self.mixing.open()


def test_large_scores_stay_finite() -> None:
    memory = memory_of(PLAN, 1e4 * drawn(4, 8, seed=5), torch.ones(4, 8, dtype=torch.float64))
    memory.keep(1e6 * drawn(2, 3, 8))
    assert memory.mix(1, 1e-6 * drawn(2, 3, 8, seed=7)).isfinite().all()


# ----------------------------------------------------------------------------- what is read, and when


class Recorder(DepthMemory):
    """Remembers what a trunk hands to its memory."""

    kept: list[Tensor]
    partials: dict[int, Tensor | None]

    @classmethod
    def of(cls, trunk: InterblockTrunk, monkeypatch: pytest.MonkeyPatch) -> type["Recorder"]:
        cls.kept, cls.partials = [], {}
        opened = trunk.mixing.open

        def open_recorded() -> DepthMemory:
            memory = opened()
            memory.__class__ = cls
            return memory

        monkeypatch.setattr(trunk.mixing, "open", open_recorded)
        return cls

    def keep(self, snapshot_BTD: Tensor) -> None:
        self.kept.append(snapshot_BTD.detach().clone())
        super().keep(snapshot_BTD)

    def mix(self, index: int, partial_BTD: Tensor | None = None) -> Tensor:
        self.partials[index] = None if partial_BTD is None else partial_BTD.detach().clone()
        return super().mix(index, partial_BTD)


def sublayer_outputs(trunk: Trunk) -> list[Tensor]:
    """Filled, in the order of the sublayers, by each forward pass."""
    outputs: list[Tensor] = []
    for layer in trunk.layers:
        for sublayer in (layer.attention, layer.feed_forward):
            sublayer.register_forward_hook(lambda _, __, output: outputs.append(output.detach().clone()))
    return outputs


@pytest.mark.parametrize("partial", ["reference", "cumulative"])
def test_what_a_mix_reads_of_the_open_block(partial: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trunk = build(interblock(3, partial=partial), small_scale(3), dtype=torch.float64).trunk
    assert isinstance(trunk, InterblockTrunk)
    outputs, recorder = sublayer_outputs(trunk), Recorder.of(trunk, monkeypatch)
    trunk(some_tokens(1, 4))
    da0, dm0, da1, dm1, da2, _ = outputs
    cumulative = partial == "cumulative"
    expected = {
        0: None,
        1: da0,
        2: da0 + dm0,
        3: da0 + dm0 + da1 if cumulative else da1,
        4: da0 + dm0 + da1 + dm1 if cumulative else da1 + dm1,
        5: da0 + dm0 + da1 + dm1 + da2 if cumulative else da2,
    }
    torch.testing.assert_close(recorder.partials, expected)


@pytest.mark.parametrize("source", ["stream", "delta"])
@pytest.mark.parametrize("macro_block_size", [1, 2, 3])
def test_block_deltas_add_up_to_the_stream(source: str, macro_block_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trunk = build(interblock(macro_block_size, source), small_scale(6), dtype=torch.float64).trunk
    assert isinstance(trunk, InterblockTrunk)
    outputs, recorder = sublayer_outputs(trunk), Recorder.of(trunk, monkeypatch)
    last: list[Tensor] = []
    trunk.final_norm.register_forward_pre_hook(lambda _, args: last.append(args[0]))
    trunk(some_tokens(1, 4))
    assert len(recorder.kept) == 1 + 6 // macro_block_size
    torch.testing.assert_close(last[0], recorder.kept[0] + sum(outputs))
    torch.testing.assert_close(last[0], sum(recorder.kept) if source == "delta" else recorder.kept[-1])


def test_a_final_mix_with_a_zero_query_is_the_mean_of_all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    trunk = build(interblock(2, "delta", final_mix=True), small_scale(6), dtype=torch.float64).trunk
    assert isinstance(trunk, InterblockTrunk)
    torch.nn.init.zeros_(trunk.mixing.queries[12])
    recorder = Recorder.of(trunk, monkeypatch)
    last: list[Tensor] = []
    trunk.final_norm.register_forward_pre_hook(lambda _, args: last.append(args[0]))
    trunk(some_tokens(1, 4))
    torch.testing.assert_close(last[0], torch.stack(recorder.kept).mean(0))


# ------------------------------------------------------------------------------- training and numbers


@pytest.mark.parametrize(("cap", "final_mix", "dead_mixes"), [(9, False, {0}), (0, True, {0}), (1, False, {0, 4, 8})])
def test_only_mixes_without_a_choice_are_dead(cap: int, final_mix: bool, dead_mixes: set[int]) -> None:
    model = build(interblock(final_mix=final_mix, cap=cap), small_scale(6))
    tokens = some_tokens(4, 20)
    torch.nn.functional.cross_entropy(model(tokens).flatten(0, 2), tokens.flatten()).backward()
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    dead = {f"trunk.mixing.{kind}.{mix}" for kind in ("queries", "key_weights") for mix in dead_mixes}
    assert frozen == dead
    assert without == dead


def test_zero_queries_learn_before_their_key_weights() -> None:
    """The key weights' gradient is a multiple of the query; the query's is not, so nothing is stuck."""
    model = build(composed("model=interblock", "model.dropout=0", "model.trunk.query_init=zero").model, small_scale(2))
    model(some_tokens(2, 5)).square().sum().backward()
    assert isinstance(model.trunk, InterblockTrunk)
    for number in (1, 2, 3):
        query, key_weight = model.trunk.mixing.queries[number], model.trunk.mixing.key_weights[number]
        assert query.grad.any()
        assert not key_weight.grad.any()


def test_scores_are_taken_in_fp32_under_autocast() -> None:
    """Three sources of different length and nearly one direction: in bf16, scores of 100 would be wrong by halves."""
    directions = drawn(2, 3, 32) + 0.003 * drawn(3, 2, 3, 32, seed=7)
    embedding, snapshot = directions[0].float(), 10 * directions[1].float()
    partial = (3 * directions[2]).bfloat16()
    queries, key_weights = 30 * drawn(4, 32, seed=5).float(), torch.ones(4, 32)
    memory = memory_of(PLAN, queries, key_weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        memory.keep(embedding)
        memory.keep(snapshot)
        mixed = memory.mix(3, partial)
    sources = [x.double() for x in (embedding, snapshot, partial)]
    weights = oracle.depth_weights(sources, queries[3].double(), key_weights[3].double())
    assert weights.amax(0).median() < 0.9, "the mixes are undecided"
    exact = oracle.mix(sources, queries[3].double(), key_weights[3].double())
    torch.testing.assert_close(mixed.double(), exact, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("preset", ["interblock", "interblock_paper"])
def test_autocast_stays_finite_and_near_fp32(preset: str) -> None:
    config = composed("model=interblock", f"model/trunk={preset}", "model.dropout=0").model
    model = build(config, small_scale(6, d_model=32, d_ff=48))
    tokens = some_tokens(2, 20)
    losses = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            logits = model(tokens)
        losses.append(torch.nn.functional.cross_entropy(logits.float().flatten(0, 2), tokens.flatten()))
        losses[-1].backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    torch.testing.assert_close(losses[1], losses[0], rtol=2e-2, atol=0)
