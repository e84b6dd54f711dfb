"""Sweeps from command line to exit status: nothing is lost, nothing is computed twice, every failure is named."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sweep_command import SweepCommand, figures, is_stuck, kill_hard, processes_below, wait_until

from nano_llm import checkpoint
from nano_llm.config.compose import compose_config
from nano_llm.session import run_session
from nano_llm.sweep.cell import Cell
from nano_llm.sweep.process import CellProcess
from nano_llm.tracking.run_folder import RunFolder
from tiny_run import TINY_RUN, Run

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


def test_faults_leave_the_other_cells_alone_and_are_named(sweep: SweepCommand) -> None:
    command = ("model=vanilla", "seed=range(0,7)", "sweep.parallel=2", "sweep.timeout_minutes=0.4")
    sweep.set_faults({"seed-0": "raise", "seed-1": "exit", "seed-2": "kill", "seed-3": "hang", "seed-4": "leave"})
    done = sweep.run(*command)
    assert done.returncode == 1
    states = {name: status["state"] for name, status in sweep.statuses().items()}
    assert states == {f"seed-{n}": "failed" if n < 5 else "finished" for n in range(7)}
    assert "5 of 7 cells have no result" in done.stderr
    reasons = (
        "RuntimeError: the sky has fallen",
        "without a result",
        "killed by SIGKILL",
        "timed out after 0.4 minutes",
        "without a result",
    )
    for seed, reason in enumerate(reasons):
        assert reason in sweep.statuses()[f"seed-{seed}"]["error"]
        assert reason in done.stderr
    assert not processes_below(sweep.study)

    sweep.set_faults({})
    again = sweep.run(*command)
    assert again.returncode == 0, again.stderr
    assert "7 cells: 2 reused, 0 resumed, 5 computed" in again.stdout
    assert num_finished(sweep) == 7


def test_a_cell_that_has_stopped_at_its_minutes_is_no_failure_but_one_that_then_exits_is(sweep: SweepCommand) -> None:
    """What an earlier attempt wrote says nothing of the present one."""
    command = ("model=vanilla", "trainer.session_minutes=0.000001")
    first = sweep.run(*command)
    assert first.returncode == 0, first.stderr
    assert sweep.statuses()["seed-0"]["reason"] == "session_minutes"
    sweep.set_faults({"seed-0": "exit"})
    second = sweep.run(*command)
    assert second.returncode == 1
    assert "without a result" in second.stderr
    assert sweep.statuses()["seed-0"]["state"] == "failed"


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


def test_a_cell_ended_by_somebody_else_has_no_result(sweep: SweepCommand) -> None:
    process = sweep.start("model=vanilla", "trainer.max_steps=4000", "trainer.log_every=1")
    wait_until(lambda: any(path.stat().st_size > 2000 for path in sweep.study.glob("*/seed-0/metrics.jsonl")))
    os.kill(sweep.statuses()["seed-0"]["pid"], signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "seed 0: stopped (SIGTERM)" in errors


def test_a_cell_that_hears_the_same_signal_twice_saves_all_the_same(sweep: SweepCommand) -> None:
    """As where a machine goes down: every process is asked to stop, and the sweep asks its cells once more."""
    sweep.set_faults({"seed-0": "echo"})
    done = sweep.run("model=vanilla")
    assert done.returncode == 1
    assert "seed 0: stopped (SIGTERM)" in done.stderr
    (folder,) = sweep.folders()
    assert sweep.statuses()["seed-0"]["step"] == 7
    assert checkpoint.load(folder / "checkpoints/last").metrics["step"] == 7


def test_a_sweep_goes_on_when_nobody_reads_its_output_any_more(sweep: SweepCommand) -> None:
    """As with ``| head -1``."""
    process = sweep.start("model=vanilla", "seed=0,1")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors.count("Nobody reads the output")) == (0, 1), errors
    assert {name: status["state"] for name, status in sweep.statuses().items()} == {
        "seed-0": "finished",
        "seed-1": "finished",
    }


def test_a_signal_while_the_sweep_waits_for_an_orphan_ends_it_with_a_table(sweep: SweepCommand) -> None:
    assert sweep.run("model=vanilla", "trainer.session_minutes=0.000001").returncode == 0
    (folder,) = sweep.folders()
    with RunFolder(folder, Console(quiet=True)) as busy:
        busy.set_status("running")
        process = sweep.start("model=vanilla", "trainer.session_minutes=0.000001")
        assert process.stdout is not None
        told = iter(process.stdout.readline, "")
        before = "".join(itertools.takewhile(lambda line: "Waiting for" not in line, told))
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 143, before
    assert "Traceback" not in errors
    assert "The report is" in output
    assert "the same command goes on" in output


def test_a_second_signal_kills_and_the_table_knows_it(sweep: SweepCommand) -> None:
    sweep.set_faults({"seed-0": "stuck"})
    process = sweep.start("model=vanilla")
    wait_until(lambda: any(map(is_stuck, sweep.folders())))
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "its process vanished" in output
    assert "| running" not in output
    assert not processes_below(sweep.study)


def test_a_cell_whose_sweep_was_killed_saves_and_ends_by_itself(sweep: SweepCommand) -> None:
    process = sweep.start("model=vanilla", "trainer.max_steps=4000", "trainer.log_every=1")
    wait_until(lambda: any(path.stat().st_size > 2000 for path in sweep.study.glob("*/seed-0/metrics.jsonl")))
    kill_hard(process)
    wait_until(lambda: not processes_below(sweep.study))
    status = sweep.statuses()["seed-0"]
    assert (status["state"], status["reason"]) == ("stopped", "SIGTERM")
    (folder,) = sweep.folders()
    assert checkpoint.load(folder / "checkpoints/last").metrics["step"] == status["step"] > 0


def test_a_stuck_cell_does_not_outlive_its_killed_sweep(sweep: SweepCommand) -> None:
    sweep.set_faults({"seed-0": "stuck"})
    process = sweep.start("model=vanilla")
    wait_until(lambda: any(map(is_stuck, sweep.folders())))
    kill_hard(process)
    wait_until(lambda: not processes_below(sweep.study), seconds=20)


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


def test_a_manifest_tells_commands_and_the_time_of_all_calls_with_work(sweep: SweepCommand) -> None:
    def manifest() -> dict[str, Any]:
        content: dict[str, Any] = json.loads((sweep.study / "sweep.json").read_text())
        return content

    command = ("model=vanilla", "hydra/launcher=process")
    began = time.monotonic()
    first = sweep.run(*command, "trainer.session_minutes=0.000001")
    one = manifest()
    assert 0 < one["wall_seconds"] < time.monotonic() - began
    assert f"{one['wall_seconds'] / 60:.1f} minutes" in first.stdout
    assert sweep.run(*command).returncode == 0
    two = manifest()
    assert two["wall_seconds"] > one["wall_seconds"]
    assert datetime.fromisoformat(two["ended"]) > datetime.fromisoformat(one["ended"])
    assert sweep.run(*command).returncode == 0
    assert manifest() == two
    assert [words[-1] for words in two["commands"]] == ["hydra/launcher=process"] * 2


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
    assert "0 reused, 0 resumed, 1 computed" in again.stdout
    assert (folder / "checkpoints/best/manifest.json").exists()


def test_a_finished_cell_without_its_best_checkpoint_is_computed_anew_also_after_a_sweep_that_did_not_come_to_it(
    sweep: SweepCommand, run: Run
) -> None:
    run("study=study", "model=vanilla", "seed=1")
    (folder,) = sweep.folders()
    shutil.rmtree(folder / "checkpoints/best")
    sweep.set_faults({"seed-0": "exit"})
    cut_short = sweep.run("model=vanilla", "seed=0,1", "sweep.fail_fast=true")
    assert "seed 1: its summary or its best checkpoint is missing" in cut_short.stderr
    assert "0 reused, 0 resumed, 1 computed" in sweep.run("model=vanilla", "seed=1", "sweep.dry_run=true").stdout


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


def test_a_cell_that_is_finished_has_not_timed_out(tmp_path: Path, cache: Path) -> None:
    """Its process may still wait for an upload when the time is over."""
    chosen = [*TINY_RUN, f"paths.outputs={tmp_path}", f"paths.cache={cache}"]
    config = compose_config(chosen)
    run_session(config, chosen, Console(quiet=True))
    process = CellProcess(Cell.of(config, chosen), {}, timeout_minutes=0)
    while (outcome := process.poll()) is None:
        time.sleep(0.05)
    assert (outcome.state, outcome.reason) == ("finished", None)
