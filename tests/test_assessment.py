"""A trained run through the suite: figures, records, what is skipped, and the same again."""

import json
from pathlib import Path

import pandas as pd
import pytest

from nano_llm.cli.main import main
from nano_llm.config.schema import Suite
from nano_llm.errors import ConfigError
from nano_llm.evaluation.suite import GROUPS, chosen_groups
from nano_llm.metrics import METRICS
from tiny_run import Run, only_run

SIZED = ("data.num_train=200", "data.num_validation=60", "data.num_test=60")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    from nano_llm.evaluation import suite

    small = suite.Sizes(reviews=40, law_reviews=30, pairs=30, samples=0)
    monkeypatch.setitem(suite.SIZES, Suite.quick, small)


@pytest.mark.usefixtures("quick")
def test_a_run_ends_with_the_quick_suite_and_the_command_repeats_it(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = run("model=tarnet", "trainer.evaluation=quick", *SIZED)
    assert summary is not None
    folder = only_run(tmp_path / "outputs")
    records = {path.stem: json.loads(path.read_text()) for path in (folder / "evaluation").glob("*.json")}
    figures = {name: figure for record in records.values() for name, figure in record.get("figures", {}).items()}
    assert len(figures) >= 12
    assert {"cf_kl", "token_pehe", "posterior_accuracy", "pair_order", "bpb_mixture"} <= set(figures)
    for name, figure in figures.items():
        assert summary["metrics"][name] == figure["value"]
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert figure["unit"] == METRICS[name].unit
    assert len(pd.read_parquet(folder / "evaluation/truth.parquet")) == 30
    assert len(records["divergence"]["by_position"]) == 10
    before = {path.name: path.read_bytes() for path in (folder / "evaluation").iterdir()}
    assert main(["evaluate", str(folder), "--device", "cpu"]) == 0
    assert {path.name: path.read_bytes() for path in (folder / "evaluation").iterdir()} == before
    shown = capsys.readouterr().out
    assert "cf_kl ↓" in shown
    assert "skipped confounding_bias: the prompt tells the topic" in shown


@pytest.mark.usefixtures("quick")
def test_one_head_gets_what_makes_sense_for_it(run: Run, tmp_path: Path) -> None:
    """Told the sentiment by its prompt, it has two outcomes; with a silent prompt it has one."""
    told = run("model=vanilla", "trainer.evaluation=quick", *SIZED)
    silent = run("model=vanilla", "data.conditioning=command", "trainer.evaluation=quick", *SIZED, outputs="silent")
    assert told is not None
    assert silent is not None
    assert {"cf_kl", "pair_order"} <= set(told["metrics"])
    assert "bpb" in silent["metrics"]
    assert not {"cf_kl", "posterior_accuracy", "bpb_other"} & set(silent["metrics"])
    log = (only_run(tmp_path / "silent") / "run.log").read_text()
    assert "skipped posterior_accuracy" in log


@pytest.mark.usefixtures("quick")
def test_chosen_metrics_go_where_they_are_sent(run: Run, tmp_path: Path) -> None:
    run("model=tarnet", *SIZED)
    folder = only_run(tmp_path / "outputs")
    assert main(["evaluate", str(folder), "--metrics", "pair_order", "--to", str(tmp_path / "records")]) == 0
    (record,) = (tmp_path / "records").glob("*.json")
    assert list(json.loads(record.read_text())["figures"]) == ["pair_order"]


def test_an_unknown_metric_suggests_a_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "latest", "--metrics", "cf_lk"]) == 2
    assert "did you mean cf_kl" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        chosen_groups(Suite.quick, ["nothing"])


def test_every_metric_of_the_suite_has_unit_direction_and_meaning() -> None:
    names = [name for group in GROUPS for name in group.metrics]
    assert len(names) == len(set(names))
    assert set(names) <= set(METRICS)
