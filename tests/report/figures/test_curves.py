"""Loss curves of runs, from their metrics.jsonl."""

import json
from pathlib import Path

import pytest

from nano_llm.errors import OutputError
from nano_llm.report.figures import loss_curves

TRAINED = [(10, 3.0), (20, 2.0)]
VALIDATED = [(20, 2.5)]


def write(folder: Path, add: float = 0.0) -> Path:
    folder.mkdir(parents=True)
    rows = [{"split": "train", "step": step, "train_ce": ce + add} for step, ce in TRAINED]
    rows += [{"split": "validation", "step": step, "val_ce": ce + add} for step, ce in VALIDATED]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows) + '{"split": "tra')
    return folder


def test_training_and_validation_are_drawn_as_they_were_logged(tmp_path: Path) -> None:
    (axes,) = loss_curves([write(tmp_path / "tarnet-0123/seed-0")]).axes
    training, validation = axes.lines
    assert training.get_xydata().tolist() == [list(point) for point in TRAINED]
    assert validation.get_xydata().tolist() == [list(point) for point in VALIDATED]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "cross-entropy (nats a target)")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["tarnet", "training", "validation"]


def test_seeds_of_an_arm_look_alike_and_arms_do_not(tmp_path: Path) -> None:
    folders = ["a-01/seed-0", "a-01/seed-1", "b-02/seed-0"]
    (axes,) = loss_curves([write(tmp_path / folder, add=i) for i, folder in enumerate(folders)]).axes
    colours = [line.get_color() for line in axes.lines]
    assert colours[0] == colours[2] != colours[4]
    assert [line.get_ydata()[0] for line in axes.lines[::2]] == [3.0, 4.0, 5.0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "training", "validation"]


def test_arms_of_one_name_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    (axes,) = loss_curves([write(tmp_path / folder / "seed-0") for folder in ("a-01", "a-02")]).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()][:2] == ["a-01", "a-02"]


def test_a_folder_without_a_validation_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no validation in .*nowhere.metrics\.jsonl"):
        loss_curves([tmp_path / "nowhere"])
