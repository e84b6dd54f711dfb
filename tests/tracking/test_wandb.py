"""Runs in W&B, by its own client offline; what it has kept is read back with its own reader."""

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nano_llm.config.compose import compose_config
from nano_llm.session import run_session
from tiny_run import TINY_RUN, assert_equal_runs, only_run

TESTS = Path(__file__).resolve().parents[1]
BOTH = "tracker=[wandb,tensorboard]"
STEPS = [2, 4, 5, 6, 8, 10, 10, 12, 12]
STEPS_OF_SESSIONS = [[2, 4, 5, 6], [5, 6, 8, 10], [10, 12, 12]]
"""Of the rows that `wandb_sessions` tells: the second session ends between the two of step 10."""
FIRST_WORDS = 1000
"""Bytes of a .wandb file that has its run record."""


def variables(home: Path) -> dict[str, str]:
    """Return an environment in which W&B knows no key, and leaves nothing outside of a folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_") and name != "NETRC"}
    folders = {name: str(home / name) for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "HOME")}
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**kept, **folders, "PYTHONPATH": path}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The outputs of a process that has worked with W&B, and of a run without it in ``plain``."""
    folder = tmp_path_factory.mktemp("wandb")
    subprocess.run(
        [sys.executable, str(TESTS / "wandb_sessions.py"), str(folder), str(cache)], env=variables(folder), check=True
    )
    plain = [*TINY_RUN, f"paths.outputs={folder / 'plain'}", f"paths.cache={cache}"]
    run_session(compose_config(plain), plain, Console(quiet=True))
    return folder


@pytest.fixture(scope="module")
def sessions(work: Path) -> list[list[dict[str, Any]]]:
    """What W&B has kept of each of the three sessions of a run."""
    return [records(folder) for folder in kept(only_run(work / "tracked"))]


def kept(run: Path) -> list[Path]:
    return sorted((run / "wandb").glob("offline-run-*"))


def records(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a session, in the order in which they were made."""
    reading = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    done = subprocess.run(reading, env=variables(folder.parent), capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def of_type(session: list[dict[str, Any]], name: str) -> list[Any]:
    return [record[name] for record in session if record["type"] == name]


def rows_told(session: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that a session has told, W&B's own figures left out."""
    rows = [history["item"] for history in of_type(session, "history")]
    return [{name: row[name] for name in row if not name.startswith("_")} for row in rows]


def test_a_run_with_trackers_is_bit_for_bit_the_run_without(work: Path) -> None:
    plain, tracked = only_run(work / "plain"), only_run(work / "tracked")
    assert_equal_runs(plain, tracked)
    assert plain.parent.name == tracked.parent.name


def test_every_row_is_told_although_sessions_ended_between_two_of_a_step(
    work: Path, sessions: list[list[dict[str, Any]]]
) -> None:
    """A row that is taken again is told again: its last telling is that of metrics.jsonl."""
    lines = (only_run(work / "tracked") / "metrics.jsonl").read_text().splitlines()
    rows = [{name: value for name, value in json.loads(line).items() if name != "split"} for line in lines]
    last = {(row["step"], "val_js" in row): row for session in sessions for row in rows_told(session)}
    assert list(last.values()) == rows
    assert [[row["step"] for row in rows_told(session)] for session in sessions] == STEPS_OF_SESSIONS


def test_rows_of_all_sessions_stand_on_the_axis_of_steps(sessions: list[list[dict[str, Any]]]) -> None:
    """W&B drops a row whose own number does not grow, within a session and when all are uploaded."""
    numbers = [history["item"]["_step"] for session in sessions for history in of_type(session, "history")]
    assert all(one < next_one for one, next_one in pairwise(numbers))
    for session in sessions:
        assert {"step"} == {record["step_metric"] for record in of_type(session, "metric") if "step_metric" in record}


def test_sessions_are_one_run_of_its_study_and_arm(work: Path, sessions: list[list[dict[str, Any]]]) -> None:
    folder = only_run(work / "tracked")
    opened = [run for session in sessions for run in of_type(session, "run")]
    arm_id = folder.parent.name.rpartition("-")[2]
    assert {run["run_id"].rpartition("-")[0] for run in opened} == {f"{arm_id}-0"}
    assert len({run["run_id"] for run in opened}) == 1
    for run in opened:
        assert run["resume"] is True
        assert (run["project"], run["run_group"], run["job_type"]) == ("reviews", "runs", folder.parent.name)
        assert (run["display_name"], run["tags"]) == ("tarnet-scm-tiny-seed-0", ["one", "two words"])
        assert run["config"]["update"]["model"]["readout"]["type"] == "TwoHeadReadoutConfig"
        assert run["config"]["update"]["id"] == arm_id
        assert run["config"]["update"]["trainer"]["precision"] == "fp32", "what `auto` stood for"


def test_the_same_run_in_another_folder_is_another_one_for_wandb(work: Path) -> None:
    """Two people who train the same must not write into one run."""
    names = {path.name.split("-", 3)[3] for which in ("tracked", "log") for path in kept(only_run(work / which))}
    assert len(names) == 2


def test_a_run_that_is_begun_anew_is_another_one_for_wandb(work: Path) -> None:
    """Also in the same folder, and in a process in which a run was left open."""
    first, anew = (records(folder) for folder in kept(only_run(work / "finish")))
    assert of_type(first, "run")[0]["run_id"] != of_type(anew, "run")[0]["run_id"]
    assert [row["step"] for row in rows_told(anew)] == [row["step"] for row in rows_told(first)] != []


def test_a_run_of_the_users_own_in_the_process_stays_its_own(work: Path) -> None:
    (own,) = kept(work / "own")
    assert rows_told(records(own)) == [{"mine": 1}]


def test_a_run_whose_tracker_has_failed_is_closed(work: Path) -> None:
    """Else it stays open, and the next session of the process writes into it."""
    (left,) = kept(only_run(work / "log"))
    (end,) = of_type(records(left), "exit")
    assert end["exit_code"] == 1


def test_the_end_tells_the_figures_of_the_best_checkpoint_and_keeps_it(
    work: Path, sessions: list[list[dict[str, Any]]]
) -> None:
    summary = json.loads((only_run(work / "tracked") / "summary.json").read_text())
    told: dict[str, Any] = {}
    for update in of_type(sessions[-1], "summary"):
        told |= update["update"]
    for name, value in {**summary, **summary["metrics"]}.items():
        if name != "metrics":
            assert told[name] == value, name
    (artifact,) = of_type(sessions[-1], "artifact")
    assert (artifact["type"], "best" in artifact["aliases"]) == ("model", True)
    best = only_run(work / "tracked") / "checkpoints/best"
    assert {content["path"] for content in artifact["manifest"]["contents"]} == {path.name for path in best.iterdir()}
    assert not [record for session in sessions[:-1] for record in of_type(session, "artifact")]


def test_a_session_ends_as_its_run_stands(sessions: list[list[dict[str, Any]]]) -> None:
    assert [of_type(session, "exit")[-1].get("exit_code", 0) for session in sessions] == [1, 1, 0]
    assert [any(record["type"] == "preempting" for record in session) for session in sessions] == [False, True, False]


def test_an_offline_run_says_how_to_upload_it(work: Path) -> None:
    folder = only_run(work / "tracked")
    line = f"W&B keeps this run offline; upload it with: wandb sync {folder / 'wandb'}"
    assert (folder / "run.log").read_text().count(line) == 3
    assert line in (work / "tracked.console").read_text()


@pytest.mark.parametrize("point", ["log", "finish"])
def test_a_client_that_fails_is_left_out_and_the_run_goes_on(work: Path, point: str) -> None:
    folder = only_run(work / point)
    assert_equal_runs(only_run(work / "plain"), folder)
    line = "The tracker wandb has failed and is left out from here on (Broken: the client is broken)."
    for told in ((folder / "run.log").read_text(), (work / f"{point}.console").read_text()):
        assert told.count("has failed") == 1
        assert line in told
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert list((folder / "tensorboard").iterdir()), "the other tracker goes on"


def test_wandb_is_online_only_with_a_key(work: Path) -> None:
    assert json.loads((work / "modes.json").read_text()) == {
        "key": "online",
        "netrc": "online",
        "a run that is online": "online",
        "a run that is offline": "offline",
        "key, chosen offline": "offline",
        "shared, no key": "offline",
        "shared, key": "shared",
        "disabled, no key": "disabled",
    }


@pytest.mark.slow
def test_each_cell_of_a_multirun_is_a_run_of_its_own_and_a_killed_one_stays_readable(
    tmp_path: Path, cache: Path
) -> None:
    chosen = [*TINY_RUN, BOTH, f"paths.outputs={tmp_path / 'outputs'}", f"paths.cache={cache}"]
    command = [sys.executable, "-m", "nano_llm.run", *chosen]
    sweep = [*command[:3], "-m", *command[3:], "seed=0,1", "study=sweep"]
    subprocess.run(sweep, env=variables(tmp_path), capture_output=True, check=True)
    opened = [records(kept(folder)[0]) for folder in sorted((tmp_path / "outputs/sweep").glob("*/seed-*"))]
    (first,), (second,) = (of_type(session, "run") for session in opened)
    assert first["run_id"] != second["run_id"]
    assert first["run_group"] == second["run_group"] == "sweep"
    assert [row["step"] for session in opened for row in rows_told(session)] == 2 * STEPS

    process = subprocess.Popen([*command, "study=killed", "trainer.max_steps=200000"], env=variables(tmp_path))
    # The client writes in the background; killed before its first words are on disk, a run would leave none.
    files = (tmp_path / "outputs/killed").glob
    while not any(file.stat().st_size > FIRST_WORDS for file in files("*/*/wandb/offline-run-*/*.wandb")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    (killed,) = (tmp_path / "outputs/killed").glob("*/seed-0")
    (opened_run,) = of_type(records(kept(killed)[0]), "run")
    assert opened_run["run_group"] == "killed"
    assert opened_run["config"]["update"]["trainer"]["max_steps"] == 200000
