"""The run's folder: what is written, held, and survives faults."""

import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from nano_llm.config.compose import compose_config
from nano_llm.errors import OutputError
from nano_llm.tracking.run_folder import RunFolder


def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run", Console(quiet=True))


def test_status_keeps_details_and_the_first_start(tmp_path: Path) -> None:
    with folder(tmp_path) as one:
        one.set_status("running", phase="data")
        started = one.status()["started"]
        one.set_status("stopped", reason="SIGINT")
        status = one.status()
    assert (status["state"], status["reason"], status["phase"]) == ("stopped", "SIGINT", "data")
    assert (status["pid"], status["started"]) == (os.getpid(), started)


def test_a_heartbeat_is_written_only_when_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with folder(tmp_path) as one:
        one.set_status("running")
        one.beat("training", step=1)
        assert "step" not in one.status()
        monkeypatch.setattr("nano_llm.tracking.run_folder.HEARTBEAT_SECONDS", 0.0)
        one.beat("training", step=2)
        assert one.status()["step"] == 2


def test_rows_after_the_resumed_step_are_dropped_and_torn_lines_too(tmp_path: Path) -> None:
    with folder(tmp_path) as one:
        one.open_metrics(0)
        for step in (1, 2, 3):
            one.append_metrics({"step": step})
    path = tmp_path / "run/metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"step": "x"}\n\xff\n{"st')
    with folder(tmp_path) as again:
        again.open_metrics(2)
        again.append_metrics({"step": 3, "again": True})
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [{"step": 1}, {"step": 2}, {"step": 3, "again": True}]


def test_only_a_readable_summary_of_a_finished_run_counts(tmp_path: Path) -> None:
    with folder(tmp_path) as one:
        assert one.summary() is None
        one.finish({"steps": 3})
        assert one.summary() == {"steps": 3}
        (tmp_path / "run/summary.json").write_bytes(b"\xff")
        assert one.summary() is None


def test_what_is_run_is_written_down(tmp_path: Path) -> None:
    with folder(tmp_path) as one:
        one.describe(compose_config(["data=scm"]), ["data=scm"], "abc", {"fingerprint": "f"})
        one.say("two\nlines with [brackets]")
    written = tmp_path / "run"
    assert "id: abc" in (written / "config.yaml").read_text()
    assert (written / "overrides.yaml").read_text() == "- data=scm\n"
    assert json.loads((written / "environment.json").read_text())["packages"]["torch"]
    assert [line.split(" ", 1)[1] for line in (written / "run.log").read_text().splitlines()] == [
        "two",
        "lines with [brackets]",
    ]


def test_a_failure_is_kept_with_its_details(tmp_path: Path) -> None:
    with folder(tmp_path) as one:
        one.fail("short", details="Traceback\nlong")
    assert json.loads((tmp_path / "run/status.json").read_text())["error"] == "short"
    assert "long" in (tmp_path / "run/run.log").read_text()


def test_a_disk_that_is_full_from_the_start_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with folder(tmp_path) as one:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="disk is full"):
            one.set_status("running")
        one.fail("the disk is full", details="nothing can be written")


def test_an_outputs_folder_that_is_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        folder(tmp_path)
