"""Event files, as TensorBoard itself reads them."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tiny_run import TINY_RUN, Killed, Run, assert_equal_runs, kill_after, only_run


def shown(run_folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(run_folder / "tensorboard"))
    events.Reload()
    return events


def scalars(events: EventAccumulator, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(name)]


def logged(run_folder: Path, split: str, name: str) -> list[tuple[int, float]]:
    """Return what metrics.jsonl has of a figure, in the precision of event files."""
    rows = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], float(np.float32(row[name]))) for row in rows if row["split"] == split and name in row]


def test_a_resumed_run_shows_what_metrics_jsonl_has(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of work are lost, and taken again at another speed."""
    often = ("tracker=tensorboard", "trainer.checkpoint_minutes=0")
    with monkeypatch.context() as faulty:
        kill_after(4, faulty)
        with pytest.raises(Killed):
            run(*often)
    folder = only_run(tmp_path / "outputs")
    assert max(step for step, _ in scalars(shown(folder), "train/train_ce")) == 6
    summary = run(*often)
    events = shown(folder)
    names = {("train", "train_ce"), ("train", "lr"), ("train", "tokens_per_second"), ("train", "tokens"),
             ("validation", "val_bpb"), ("validation", "val_js"), ("validation", "training_seconds")}  # fmt: skip
    for split, name in names:
        assert scalars(events, f"{split}/{name}") == logged(folder, split, name) != []
    assert summary is not None
    for name, value in summary["metrics"].items():
        assert scalars(events, f"summary/{name}") == [(summary["best_step"], float(np.float32(value)))]
    run("trainer.checkpoint_minutes=0", outputs="plain")
    assert_equal_runs(only_run(tmp_path / "plain"), folder)
    assert only_run(tmp_path / "plain").parent.name == folder.parent.name


def test_the_configuration_is_shown_as_text(run: Run, tmp_path: Path) -> None:
    run("tracker=tensorboard", "trainer.max_steps=2")
    (event,) = shown(only_run(tmp_path / "outputs")).Tensors("config/text_summary")
    text: Any = event.tensor_proto.string_val[0].decode()
    assert "TwoHeadReadoutConfig" in text
    assert "max_steps: 2" in text


@pytest.mark.slow
def test_a_killed_run_leaves_all_of_its_rows_readable(tmp_path: Path, cache: Path) -> None:
    chosen = [*TINY_RUN, "tracker=tensorboard", "trainer.max_steps=2000", f"paths.outputs={tmp_path / 'outputs'}"]
    process = subprocess.Popen([sys.executable, "-m", "nano_llm.run", *chosen, f"paths.cache={cache}"])
    while not list((tmp_path / "outputs").glob("*/*/*/checkpoints/best/manifest.json")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    folder = only_run(tmp_path / "outputs")
    rows = logged(folder, "train", "train_ce")
    # The very last row may have been on its way.
    assert scalars(shown(folder), "train/train_ce") in (rows, rows[:-1])
    assert len(rows) >= 2
