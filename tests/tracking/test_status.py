"""States as others see them, and the table of a study."""

import json
import os
import shutil
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nano_llm.cli.status import main, overview, study_runs
from nano_llm.tracking.lock import take_hold
from nano_llm.tracking.run_folder import RunFolder
from nano_llm.tracking.status import last_metrics, read_status, read_summary


def write_status(folder: Path, **details: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat()
    (folder / "status.json").write_text(json.dumps({"heartbeat": now, "host": socket.gethostname(), **details}))
    return folder


def test_a_run_without_a_status_is_queued(tmp_path: Path) -> None:
    assert read_status(tmp_path).state == "queued"


def test_a_run_that_is_held_runs_and_one_whose_process_id_another_has_now_does_not(tmp_path: Path) -> None:
    with RunFolder(tmp_path, Console(quiet=True)) as folder:
        folder.set_status("running")
        assert read_status(tmp_path).state == "running"
    vanished = read_status(tmp_path)
    assert vanished.details["pid"] == os.getpid()
    assert vanished.state == "stopped"
    assert "vanished" in str(vanished.reason)


def test_of_a_copy_on_the_same_host_nobody_is_at_work(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", Console(quiet=True)) as folder:
        folder.set_status("running")
        shutil.copytree(tmp_path / "run", tmp_path / "copy")
        assert read_status(tmp_path / "copy").state == "stopped"


@pytest.mark.parametrize(("minutes", "state"), [(1, "running"), (60, "stopped")])
def test_on_another_host_the_heartbeat_decides(tmp_path: Path, minutes: int, state: str) -> None:
    beat = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()
    assert read_status(write_status(tmp_path, state="running", pid=1, host="elsewhere", heartbeat=beat)).state == state


def test_a_failure_tells_its_first_line(tmp_path: Path) -> None:
    assert read_status(write_status(tmp_path, state="failed", error="no\nbecause")).reason == "no"


@pytest.mark.parametrize("content", ["", "[1]", "{", "\x00"])
def test_a_damaged_summary_is_none(tmp_path: Path, content: str) -> None:
    write_status(tmp_path, state="finished")
    (tmp_path / "summary.json").write_text(content)
    assert read_summary(tmp_path) is None


def test_last_metrics_survive_a_torn_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"val_ce": 2.0, "step": 1}\n{"train_ce": 1.5, "step": 2}\n{"train_')
    assert last_metrics(tmp_path) == {"val_ce": 2.0, "train_ce": 1.5, "step": 2}


def test_the_table_shows_runs_and_cells_that_wait(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_status(tmp_path / "arm-1/seed-0", state="failed", error="the sky has fallen", step=7)
    write_status(tmp_path / "arm-1/seed-1", state="running", step=50, share=0.5, training_seconds=120.0)
    (tmp_path / "sweep.json").write_text(json.dumps({"cells": [{"folder": "arm-1/seed-2"}]}))
    console = Console(width=160, record=True, quiet=False)
    with take_hold(tmp_path / "arm-1/seed-1"):
        console.print(overview(tmp_path, study_runs(tmp_path)))
    text = console.export_text()
    assert "the sky has fallen" in text
    assert "2.0 min" in text
    assert "3 runs: 1 queued, 1 failed, 1 running" in text
    assert main([str(tmp_path)]) == 0
    assert "3 runs" in capsys.readouterr().out


def test_the_live_view_goes_on_while_a_sweep_holds_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first cell and between two of them no run is at work."""
    (tmp_path / "sweep.json").write_text(json.dumps({"cells": [{"folder": "arm-1/seed-0"}]}))
    monkeypatch.setenv("FORCE_COLOR", "1")
    lock = take_hold(tmp_path)
    naps = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            lock.close()

    monkeypatch.setattr("nano_llm.cli.status.time.sleep", nap)
    assert main([str(tmp_path)]) == 0
    assert len(naps) == 3
