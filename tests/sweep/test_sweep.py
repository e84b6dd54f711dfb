"""Sweeps from command line to exit status: nothing is lost, nothing is computed twice, every failure is named."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sweep_command import SweepCommand, figures, kill_hard, processes_below, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def sweep(tmp_path: Path, cache: Path) -> SweepCommand:
    return SweepCommand(tmp_path, cache)


def num_finished(sweep: SweepCommand) -> int:
    return len(list(sweep.study.glob("*/seed-*/summary.json")))


def test_a_sweep_killed_twice_computes_each_cell_once_and_ends_with_equal_numbers(
    sweep: SweepCommand, tmp_path: Path, cache: Path
) -> None:
    command = ("model=tarnet", "model.separation.weight=0,0.02,0.1", "sweep.seeds=2")
    for wanted in (1, 3):
        process = sweep.start(*command)
        wait_until(lambda wanted=wanted: num_finished(sweep) >= wanted)
        kill_hard(process)
    before = {path: path.joinpath("summary.json").stat().st_mtime_ns for path in sweep.folders() if
              path.joinpath("summary.json").exists()}  # fmt: skip
    done = sweep.run(*command)
    assert done.returncode == 0, done.stderr
    assert f"6 cells: {len(before)} reused" in done.stdout
    assert all(path.joinpath("summary.json").stat().st_mtime_ns == time for path, time in before.items())
    assert not processes_below(sweep.study)
    undisturbed = SweepCommand(tmp_path, cache)
    undisturbed.outputs = tmp_path / "undisturbed"
    undisturbed.study = undisturbed.outputs / "study"
    assert undisturbed.run(*command).returncode == 0
    assert figures(sweep.folders()) == figures(undisturbed.folders())
    assert len(sweep.folders()) == 6


def test_four_faults_leave_the_other_cells_alone_and_are_named(sweep: SweepCommand) -> None:
    command = ("model=vanilla", "seed=range(0,6)", "sweep.parallel=2", "sweep.timeout_minutes=0.4")
    sweep.set_faults({"seed-0": "raise", "seed-1": "exit", "seed-2": "kill", "seed-3": "hang"})
    done = sweep.run(*command)
    assert done.returncode == 1
    states = {name: status["state"] for name, status in sweep.statuses().items()}
    assert states == {f"seed-{n}": "failed" if n < 4 else "finished" for n in range(6)}
    assert "4 of 6 cells have no result" in done.stderr
    for seed, reason in enumerate(
        ("RuntimeError: the sky has fallen", "without a result", "killed by SIGKILL", "timed out after 0.4 minutes")
    ):
        assert reason in sweep.statuses()[f"seed-{seed}"]["error"]
        assert reason in done.stderr
    assert not processes_below(sweep.study)

    sweep.set_faults({})
    again = sweep.run(*command)
    assert again.returncode == 0, again.stderr
    assert "6 cells: 2 reused, 0 resumed, 4 computed" in again.stdout
    assert num_finished(sweep) == 6


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_cells_save_and_the_same_command_goes_on(
    sweep: SweepCommand, number: signal.Signals, status: int
) -> None:
    command = ("model=vanilla", "seed=0,1", "trainer.max_steps=400", "trainer.log_every=1")
    process = sweep.start(*command)
    wait_until(lambda: any(path.stat().st_size > 2000 for path in sweep.study.glob("*/seed-0/metrics.jsonl")))
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert "the same command goes on" in output
    assert sweep.statuses()["seed-0"]["state"] == "stopped"
    assert not processes_below(sweep.study)
    assert "2 cells: 0 reused, 1 resumed, 1 computed" in sweep.run(*command, "sweep.dry_run=true").stdout


def test_a_cell_stopped_while_it_starts_has_not_failed(sweep: SweepCommand) -> None:
    sweep.set_faults({"seed-0": "sleep"})
    process = sweep.start("model=vanilla")
    wait_until(lambda: bool(list(sweep.study.glob("*/seed-0/console.log"))))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not list(sweep.study.glob("*/seed-0/status.json"))


def test_a_retry_is_counted_and_goes_on(sweep: SweepCommand) -> None:
    sweep.set_faults({"seed-0": "kill"})
    process = sweep.start("model=vanilla", "sweep.retries=20")
    wait_until(lambda: any("killed by" in path.read_text() for path in sweep.study.glob("*/*/run.log")))
    sweep.set_faults({})
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "retry 1 of 20" in output
    (folder,) = sweep.folders()
    assert json.loads((folder / "cell.json").read_text())["attempts"] > 1


def test_fail_fast_starts_no_further_cell(sweep: SweepCommand) -> None:
    sweep.set_faults({"seed-0": "exit"})
    done = sweep.run("model=vanilla", "seed=0,1,2", "sweep.fail_fast=true")
    assert done.returncode == 1
    assert "seed 1: was not started" in done.stderr
    assert num_finished(sweep) == 0


def test_one_bad_cell_stops_the_sweep_before_it_starts(sweep: SweepCommand) -> None:
    done = sweep.run("model=vanilla,tarnet", "model.separation.weight=0.1")
    assert done.returncode == 2
    assert "exists with model=s_plus" in done.stderr
    assert "Traceback" not in done.stderr
    assert not sweep.outputs.exists()


def test_a_dry_run_lists_cells_and_writes_nothing(sweep: SweepCommand) -> None:
    done = sweep.run("model=vanilla,interblock", "seed=1,1,2", "sweep.dry_run=true")
    assert done.returncode == 0, done.stderr
    assert "4 cells: 0 reused, 0 resumed, 4 computed" in done.stdout
    assert not sweep.outputs.exists()


def test_two_sweeps_cannot_share_a_study(sweep: SweepCommand) -> None:
    sweep.set_faults({"seed-0": "hang"})
    process = sweep.start("model=vanilla")
    wait_until(lambda: bool(list(sweep.study.glob("*/seed-0/console.log"))))
    second = sweep.run("model=vanilla", "seed=7")
    kill_hard(process)
    for pid in processes_below(sweep.study):
        os.kill(pid, signal.SIGKILL)
    assert second.returncode == 1
    assert f"pid {process.pid}" in second.stderr


def test_a_finished_cell_without_its_best_checkpoint_is_computed_anew(sweep: SweepCommand) -> None:
    assert sweep.run("model=vanilla").returncode == 0
    (folder,) = sweep.folders()
    shutil.rmtree(folder / "checkpoints/best")
    again = sweep.run("model=vanilla")
    assert again.returncode == 0, again.stderr
    assert "0 reused" in again.stdout
    assert (folder / "checkpoints/best/manifest.json").exists()


def test_cells_are_frozen_before_the_first_one_starts(sweep: SweepCommand, tmp_path: Path) -> None:
    """What a file of ``conf/`` says later does not reach cells that wait."""
    schedule = "defaults: [_schema_linear, _self_]\nname: mine\nwarmup_steps: 1\nfinal_factor: {}\n"
    overlay = tmp_path / "overlay/schedule"
    overlay.mkdir(parents=True)
    chosen = overlay / "mine.yaml"
    chosen.write_text(schedule.format(0.1))
    process = sweep.start(f"hydra.searchpath=[file://{overlay.parent}]", "model=vanilla", "seed=0,1", "schedule=mine")
    wait_until(lambda: bool(list(sweep.study.glob("*/seed-0/status.json"))))
    chosen.write_text(schedule.format(0.9))
    assert process.wait(timeout=60) == 0
    process.communicate()
    (second,) = sweep.study.glob("*/seed-1/config.yaml")
    assert "final_factor: 0.1" in second.read_text()


def test_a_single_run_of_a_sweep_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nano_llm.run", "experiment=table512"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "add -m" in done.stderr
