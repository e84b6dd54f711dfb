"""Every way to write has a row; times are never asserted."""

import math
from collections.abc import Callable

import pytest
from torch import nn

from nano_llm.bench import decode
from nano_llm.bench.harness import Way
from nano_llm.config.compose import compose_config
from nano_llm.model.language_model import build_language_model

OURS = [("ours", choice, texts) for choice in ("greedy", "sampled") for texts in (1, 2, 32)]
PEERS = [("generate", choice, texts) for choice in ("greedy", "sampled") for texts in (1, 2, 32)]
LOOPS = [("loop", "greedy", 1), ("loop", "greedy", 32)]
NO_CACHE = [("no cache", "greedy", 1)]


def check(machine: Way) -> None:
    measured = decode.measure(["tiny"], 1, 5, machine)
    keys = [(row["model"], row["way"], row["choice"], row["texts"]) for row in measured.rows]
    ours = [(model, *key) for model in ("tarnet", "vanilla") for key in OURS + NO_CACHE]
    assert keys == ours + [("gpt2", *key) for key in PEERS + LOOPS + NO_CACHE]
    spreads = [value for row in measured.rows for value in row.values() if isinstance(value, dict)]
    assert all(math.isfinite(value) and value > 0 for figure in spreads for value in figure.values())
    of = dict(zip(keys, measured.rows, strict=True))
    assert of["gpt2", "generate", "sampled", 2]["speed_over_gpt2_generate"]["median"] == 1
    assert of["tarnet", "ours", "greedy", 1]["speed_over_one_text"]["median"] == 1
    first = of["tarnet", "ours", "greedy", 1]
    expected = 20e9 / (1e6 * first["megabytes_a_step"])
    assert first["limit_tokens_per_second"]["median"] == pytest.approx(expected)
    assert len(measured.table().splitlines()) == 2 + len(keys)


def test_every_way_has_finite_figures(
    machine: Way, fake_gpt2: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "build_gpt2", fake_gpt2)
    check(machine)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of arguments that later versions of transformers rename
def test_every_way_has_finite_figures_beside_the_real_gpt2(machine: Way) -> None:
    pytest.importorskip("transformers")
    check(machine)


def test_rows_of_the_embedding_alone_are_read_unless_it_is_the_readout() -> None:
    config = compose_config(["model=tarnet", "scale=tiny"])
    model = build_language_model(config.model, config.scale, decode.VOCAB_SIZE, decode.WINDOW)
    embedding = model.passes[0][0].embedding
    everything = decode.weight_bytes(model, [])
    assert everything == 4 * sum(weight.numel() for weight in model.parameters())
    assert everything - decode.weight_bytes(model, [embedding]) == embedding.weight.nbytes
