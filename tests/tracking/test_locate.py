"""Runs by name."""

import os
from pathlib import Path

import pytest

from nano_llm.errors import RequestError
from nano_llm.tracking.locate import locate


def run(outputs: Path, name: str, age: float) -> Path:
    folder = outputs / "study" / name / "seed-0"
    manifest = folder / "checkpoints/best/manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    os.utime(manifest, (age, age))
    return folder


def test_a_run_a_checkpoint_and_the_latest(tmp_path: Path) -> None:
    old, new = run(tmp_path, "b-1", 100.0), run(tmp_path, "a-2", 200.0)
    best = old / "checkpoints/best"
    assert locate(str(old), tmp_path) == locate(str(best), tmp_path)
    assert locate(str(old), tmp_path).folder == old
    assert locate("latest", tmp_path).folder == new
    assert locate(str(old), tmp_path).checkpoint_name == "best"
    (old / "checkpoints/last").mkdir()
    assert locate(str(old / "checkpoints/last"), tmp_path).checkpoint_name == "last"


def test_a_checkpoint_outside_a_run_is_its_own_place(tmp_path: Path) -> None:
    (tmp_path / "imported").mkdir()
    (tmp_path / "imported/manifest.json").write_text("{}")
    found = locate(str(tmp_path / "imported"), tmp_path)
    assert found.folder == tmp_path / "imported"
    assert found.checkpoint_name == "best", "its records are not those of another one"


@pytest.mark.parametrize("name", ["latest", "nowhere"])
def test_what_is_not_there_is_refused_with_advice(name: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"outputs|Train one"):
        locate(name, tmp_path / "outputs")
