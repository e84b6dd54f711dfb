"""Searches with Optuna: continued to a total, judged by a validation figure, failures recorded."""

import json
import sqlite3
from pathlib import Path

import pytest
from sweep_command import SweepCommand, is_stuck, kill_hard, processes_below, wait_until

from full_disk import small_disk
from nano_llm.config.compose import compose_config
from nano_llm.config.plugins import missing_extra
from nano_llm.errors import ConfigError

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")

SPACE = (
    "model=tarnet",
    "hydra/sweeper=optuna",
    "model.separation.weight=interval(0.0,0.2)",
    "hydra.sweeper.sampler.seed=7",
)


@pytest.fixture
def sweep(tmp_path: Path, cache: Path) -> SweepCommand:
    return SweepCommand(tmp_path, cache)


def trials(sweep: SweepCommand) -> list[tuple[int, str, float | None]]:
    """Return number, state and point of every trial, read from the database itself."""
    with sqlite3.connect(sweep.study / "search.db") as database:
        rows = database.execute(
            "select number, state, param_value from trials left join trial_params using (trial_id) order by number"
        )
        return [(number, state, point) for number, state, point in rows]


@pytest.mark.slow
def test_a_second_call_continues_to_the_total_with_new_points(sweep: SweepCommand) -> None:
    outlook = sweep.run(*SPACE, "hydra.sweeper.n_trials=2", "sweep.dry_run=true")
    assert outlook.returncode == 0, outlook.stderr
    assert "2 trials: 0 have results, 2 to run" in outlook.stdout
    assert "model.separation.weight: interval(0.0,0.2)" in outlook.stdout
    assert not sweep.outputs.exists()
    for total in (2, 3, 3):
        done = sweep.run(*SPACE, f"hydra.sweeper.n_trials={total}")
        assert done.returncode == 0, done.stderr
        assert [state for _, state, _ in trials(sweep)] == ["COMPLETE"] * total
    points = {point for _, _, point in trials(sweep)}
    assert len(points) == 3
    assert len(sweep.folders()) == 3
    assert "Best of 3 trials" in done.stdout
    outlook = sweep.run(*SPACE, "hydra.sweeper.n_trials=5", "sweep.dry_run=true")
    assert "5 trials: 3 have results, 2 to run" in outlook.stdout
    assert len(trials(sweep)) == 3
    manifest = json.loads((sweep.study / "sweep.json").read_text())
    assert manifest["wall_seconds"] > 0
    commands = [words for words in manifest["commands"] if set(SPACE) <= set(words)]
    assert manifest["commands"] == commands
    assert [words[-1] for words in commands] == ["hydra.sweeper.n_trials=2", "hydra.sweeper.n_trials=3"]


@pytest.mark.slow
def test_a_killed_search_repeats_the_lost_point_and_ends_at_the_total(sweep: SweepCommand) -> None:
    sweep.set_faults({"seed-0": "stuck"})
    process = sweep.start(*SPACE, "hydra.sweeper.n_trials=2")
    wait_until(lambda: any(map(is_stuck, sweep.folders())))
    kill_hard(process)
    ((_, state, lost),) = trials(sweep)
    assert state == "RUNNING"
    sweep.set_faults({})
    done = sweep.run(*SPACE, "hydra.sweeper.n_trials=2")
    assert done.returncode == 0, done.stderr
    assert [state for _, state, _ in trials(sweep)] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert trials(sweep)[1][2] == pytest.approx(lost)
    assert len(sweep.folders()) == 2
    assert not processes_below(sweep.study)


@pytest.mark.slow
def test_failed_trials_are_recorded_and_the_search_goes_on(sweep: SweepCommand) -> None:
    sweep.set_faults({"seed-0": "exit"})
    done = sweep.run(*SPACE, "hydra.sweeper.n_trials=2")
    assert done.returncode == 1
    assert [state for _, state, _ in trials(sweep)] == ["FAIL", "FAIL"]
    assert "2 of 2 trials of the search have no result" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])
def test_an_invalid_point_is_a_failed_trial_and_a_home_is_one(sweep: SweepCommand, tmp_path: Path, batch: int) -> None:
    sweep.variables["HOME"] = str(tmp_path)
    grid = (
        "model=tarnet", "hydra/sweeper=optuna", "hydra/sweeper/sampler=grid", "model.dropout=choice(0.1,1.5)",
        f"hydra.sweeper.n_jobs={batch}",
    )  # fmt: skip
    done = sweep.run(*grid, "hydra.sweeper.n_trials=9", "paths.outputs='~/outputs'")
    assert done.returncode == 1
    assert sorted(state for _, state, _ in trials(sweep)) == ["COMPLETE", "FAIL"]
    assert "model.dropout=1.5: must be" in done.stdout
    assert "1 of 2 trials of the search have no result" in done.stderr
    assert (sweep.study / "report/table.md").exists()


@pytest.mark.slow
def test_a_damaged_database_is_told_and_left_as_it_is(sweep: SweepCommand) -> None:
    database = sweep.study / "search.db"
    sweep.study.mkdir(parents=True)
    with sqlite3.connect(database) as connection:
        connection.execute("create table notes (line text)")
    connection.close()
    content = database.read_bytes()
    database.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    damaged = database.read_bytes()
    for words in (["sweep.dry_run=true"], []):
        done = sweep.run(*SPACE, "hydra.sweeper.n_trials=1", *words)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"Error: The search cannot use {database}: ")
        assert "file is not a database" in line
        assert "move it away" in line
        assert database.read_bytes() == damaged


@pytest.mark.slow
def test_a_search_on_a_full_disk_says_so_and_goes_on_once_there_is_space(tmp_path: Path, cache: Path) -> None:
    with small_disk(tmp_path / "disk", 96) as disk:  # too small for Optuna's tables
        sweep = SweepCommand(tmp_path, cache)
        sweep.outputs = disk.path / "outputs"
        sweep.study = sweep.outputs / "study"
        done = sweep.run(*SPACE, "hydra.sweeper.n_trials=1")
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"Error: The search cannot use {sweep.study}/search.db: ")
        assert "database or disk is full" in line
        disk.resize(1 << 16)
        assert sweep.run(*SPACE, "hydra.sweeper.n_trials=1").returncode == 0
        assert [state for _, state, _ in trials(sweep)] == ["COMPLETE"]


def test_another_launcher_is_refused(sweep: SweepCommand) -> None:
    done = sweep.run(*SPACE, "hydra/launcher=joblib")
    assert done.returncode == 2
    assert "sweep.parallel" in done.stderr
    assert not sweep.outputs.exists()


def test_a_test_figure_is_no_objective() -> None:
    with pytest.raises(ConfigError, match=r"sweep\.objective=test_bpb"):
        compose_config(["sweep.objective=test_bpb"])


def test_missing_packages_are_named() -> None:
    assert missing_extra("hydra/launcher/submitit_slurm") == "slurm"
    assert missing_extra("hydra/launcher/nonsense") is None
