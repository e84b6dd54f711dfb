"""Cells through the launchers of others, and what a search learns of its trials."""

import json
from pathlib import Path

import pytest
from sweep_command import SweepCommand

from nano_llm.config.compose import compose_config
from nano_llm.sweep.cell import Cell
from nano_llm.sweep.hydra import _job_return
from nano_llm.sweep.sweep import FailedCellsError


@pytest.fixture
def sweep(tmp_path: Path, cache: Path) -> SweepCommand:
    return SweepCommand(tmp_path, cache)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "package"),
    [("joblib", "hydra_plugins.hydra_joblib_launcher"), ("submitit_local", "hydra_plugins.hydra_submitit_launcher")],
)
def test_other_launchers_run_the_same_cells_and_a_killed_one_is_named(
    sweep: SweepCommand, launcher: str, package: str
) -> None:
    pytest.importorskip(package)
    sweep.set_faults({"seed-1": "kill"})
    command = ("model=vanilla", "seed=0,1", f"hydra/launcher={launcher}")
    done = sweep.run(*command)
    assert done.returncode == 1
    assert "seed 1: killed by SIGKILL" in done.stderr
    assert {name: status["state"] for name, status in sweep.statuses().items()} == {
        "seed-0": "finished",
        "seed-1": "failed",
    }
    sweep.set_faults({})
    again = sweep.run("model=vanilla", "seed=0,1")
    assert again.returncode == 0, again.stderr
    assert "2 cells: 1 reused, 0 resumed, 1 computed" in again.stdout


def finished_cell(folder: Path, seed: int, **metrics: float) -> Cell:
    cell = Cell.of(compose_config(["data=scm", f"seed={seed}", f"paths.outputs={folder}"]), [])
    (cell.path / "checkpoints/best").mkdir(parents=True)
    (cell.path / "status.json").write_text(json.dumps({"state": "finished"}))
    (cell.path / "summary.json").write_text(json.dumps({"id": cell.id, "metrics": metrics}))
    return cell


def test_the_value_of_a_trial_is_the_mean_over_its_seeds(tmp_path: Path) -> None:
    cells = [finished_cell(tmp_path, 0, val_bpb=1.0), finished_cell(tmp_path, 1, val_bpb=2.0)]
    assert _job_return(cells, [], "val_bpb").return_value == 1.5


@pytest.mark.parametrize("metrics", [{}, {"val_bpb": float("nan")}])
def test_a_trial_without_a_finite_value_has_failed(tmp_path: Path, metrics: dict[str, float]) -> None:
    returned = _job_return([finished_cell(tmp_path, 0, **metrics)], [], "val_bpb")
    with pytest.raises(FailedCellsError, match="val_bpb is"):
        _ = returned.return_value
