"""What a dry run foretells, beside what is built, prepared and trained."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from nano_llm.checkpoint import build_model
from nano_llm.config.compose import compose_config, composing
from nano_llm.config.schema import SweepConfig
from nano_llm.config.strict import convert
from nano_llm.data.prepare import prepare
from nano_llm.model.accounting import num_parameters
from nano_llm.sweep.cell import Cell
from nano_llm.sweep.forecast import EFFICIENCY, FLOPS_PER_PARAMETER, forecast, show_forecast
from nano_llm.sweep.plan import Plan
from tiny_run import TINY_RUN

SPEED = 1e9
"""FLOP/s of a machine that is not measured."""


def cell(tmp_path: Path, *overrides: str) -> Cell:
    places = [f"paths.outputs={tmp_path / 'outputs'}", f"paths.cache={tmp_path / 'cache'}"]
    words = [*TINY_RUN, *places, *overrides]
    return Cell.of(compose_config(words), words)


def sweep_settings() -> SweepConfig:
    from hydra import compose

    with composing():
        return convert(compose("config")).sweep


def test_without_prepared_data_every_window_counts_in_full(tmp_path: Path) -> None:
    one = cell(tmp_path, "model=tarnet", "trainer.num_micro_batches=2")
    made = forecast(one, {"cpu": SPEED})
    assert made.tokens == 12 * 8 * 2 * one.config.data.window_length
    assert made.seconds == pytest.approx(made.tokens * FLOPS_PER_PARAMETER * made.parameters / (EFFICIENCY * SPEED))
    assert not (tmp_path / "cache").exists()
    console = Console(width=80, record=True)
    console.print(show_forecast(Plan(one.path.parent.parent, sweep_settings(), [one])), soft_wrap=True)
    assert f"≤ {made.tokens:,}" in (text := console.export_text())
    assert "≤ until the data are prepared" in " ".join(text.split())


def test_overrides_are_whole_also_on_a_narrow_screen(tmp_path: Path) -> None:
    cells = [cell(tmp_path, f"model.separation.weight={weight}") for weight in (0, 0.125)]
    console = Console(width=80, record=True)
    console.print(show_forecast(Plan(cells[0].path.parent.parent, sweep_settings(), cells)), soft_wrap=True)
    assert f"{cells[1].label}: model.separation.weight=0.125\n" in console.export_text()


def test_the_tightest_budget_counts_and_epochs_need_prepared_data(tmp_path: Path) -> None:
    assert forecast(cell(tmp_path, "trainer.max_tokens=1000"), {"cpu": SPEED}).tokens == 1000
    epochs = cell(tmp_path, "trainer.max_steps=null", "trainer.max_epochs=2")
    assert forecast(epochs, {"cpu": SPEED}).tokens is None
    assert forecast(epochs, {"cpu": SPEED}).seconds is None
    minutes = cell(tmp_path, "trainer.max_minutes=0.001")
    assert forecast(minutes, {"cpu": 1.0}).seconds == pytest.approx(0.06)


@pytest.mark.parametrize("model", ["vanilla", "tarnet", "interblock"])
def test_with_prepared_data_parameters_and_tokens_are_exact(tmp_path: Path, model: str) -> None:
    one = cell(tmp_path, f"model={model}", "trainer.max_steps=null", "trainer.max_epochs=2")
    outcomes = 2 if model == "tarnet" else 1
    data = prepare(one.config.data, one.config.protocol, outcomes, tmp_path / "cache", lambda _: None)
    made = forecast(one, {"cpu": SPEED})
    assert made.parameters == num_parameters(build_model(one.config, data.tokenizer.vocab_size))
    assert made.tokens == 2 * data.record["counts"]["windows"]["train"]["targets"]


def test_the_speed_of_a_finished_seed_gives_the_minutes(tmp_path: Path) -> None:
    known, wanted = (
        cell(tmp_path, f"seed={seed}", "trainer.max_steps=null", "trainer.max_tokens=36000") for seed in (0, 1)
    )
    known.path.mkdir(parents=True)
    (known.path / "status.json").write_text(json.dumps({"state": "finished"}))
    (known.path / "summary.json").write_text(json.dumps({"tokens_per_second": 100.0}))
    assert forecast(wanted, {}).seconds == pytest.approx(360.0)
    console = Console(width=300, record=True)
    console.print(show_forecast(Plan(wanted.path.parent.parent, sweep_settings(), [wanted])), soft_wrap=True)
    text = console.export_text()
    assert "36,000" in text
    assert "6.0" in text
    assert f"{forecast(wanted, {}).parameters:,}" in text
    assert "about 6 minutes" in text
