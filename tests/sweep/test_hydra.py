"""Cells through the launchers of others, and what a search learns of its trials."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hydra import compose
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from sweep_command import SweepCommand

from nano_llm.config.compose import compose_config, composing
from nano_llm.config.plugins import JOBLIB, LAUNCHER
from nano_llm.config.strict import convert
from nano_llm.errors import ConfigError
from nano_llm.sweep.cell import Cell
from nano_llm.sweep.hydra import _hand_over, _job_return, demand_own_gpus
from nano_llm.sweep.plan import Plan
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


def plan_of(cells: list[Cell], parallel: int = 1) -> Plan:
    with composing():
        settings = convert(compose("config", overrides=["data=scm", f"sweep.parallel={parallel}"])).sweep
    return Plan(cells[0].path.parent.parent, settings, cells)


def test_the_value_of_a_trial_is_the_mean_over_its_seeds(tmp_path: Path) -> None:
    cells = [finished_cell(tmp_path, 0, val_bpb=1.0), finished_cell(tmp_path, 1, val_bpb=2.0)]
    assert _job_return(plan_of(cells), []).return_value == 1.5


@pytest.mark.parametrize("metrics", [{}, {"val_bpb": float("nan")}])
def test_a_trial_without_a_finite_value_has_failed(tmp_path: Path, metrics: dict[str, float]) -> None:
    returned = _job_return(plan_of([finished_cell(tmp_path, 0, **metrics)]), [])
    with pytest.raises(FailedCellsError, match="val_bpb is"):
        _ = returned.return_value


def test_joblib_is_refused_where_its_workers_would_all_take_the_first_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [finished_cell(tmp_path, seed) for seed in (0, 1)]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"sweep\.parallel=2"):
        demand_own_gpus(JOBLIB["_target_"], plan_of(cells, parallel=2))
    demand_own_gpus(LAUNCHER["_target_"], plan_of(cells, parallel=2))
    demand_own_gpus(JOBLIB["_target_"], plan_of(cells, parallel=1))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    demand_own_gpus(JOBLIB["_target_"], plan_of(cells, parallel=2))


class LosingLauncher(Launcher):
    """Raises at the first job that is lost, as submitit's does, while others wait in the queue."""

    def setup(self, **_: object) -> None:
        """Need nothing."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        raise RuntimeError("job 17 has no output")


def test_cells_that_may_still_wait_are_not_called_failed(tmp_path: Path) -> None:
    done = finished_cell(tmp_path, 0)
    waiting = finished_cell(tmp_path, 1)
    (waiting.path / "status.json").unlink()
    with pytest.raises(FailedCellsError) as caught:
        _hand_over(LosingLauncher(), plan_of([done, waiting]), [done, waiting])
    message = str(caught.value)
    assert "job 17 has no output" in message
    assert "1 of 2 cells have no result" in message
    assert "may still wait or run" in message
    assert not (waiting.path / "status.json").exists()
    _hand_over(LosingLauncher(), plan_of([done]), [done])
