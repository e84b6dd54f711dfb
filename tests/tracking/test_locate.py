"""Runs by name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nano_llm.errors import RequestError
from nano_llm.tracking import locate as located
from nano_llm.tracking.locate import Place, locate, models_folder, shipped_models

ROOT = Path(__file__).resolve().parents[2]


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


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("name", ["latest", "nowhere"])
def test_who_has_no_model_hears_of_those_that_came_along(name: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="`imdb-mini`, which came with nano_llm"):
        locate(name, tmp_path / "outputs")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped models with one, and one that is being made."""
    folder = tmp_path / "models"
    for name in ("imdb-mini", ".imdb-mini.new"):
        (folder / name / "checkpoints/best").mkdir(parents=True)
    (folder / "README.md").write_text("all of them")
    monkeypatch.setattr(located, "models_folder", lambda: folder)
    return folder


def test_a_shipped_model_is_found_by_its_name_and_by_its_folder(models: Path, tmp_path: Path) -> None:
    shipped = Place(models / "imdb-mini/checkpoints/best", models / "imdb-mini", is_shipped=True)
    assert shipped_models() == ["imdb-mini"]
    assert locate("imdb-mini", tmp_path) == locate(str(models / "imdb-mini"), tmp_path) == shipped
    assert locate(str(shipped.checkpoint), tmp_path) == shipped
    assert not locate(str(run(tmp_path, "a-1", 100.0)), tmp_path).is_shipped


@pytest.mark.usefixtures("models")
def test_a_model_that_lies_here_goes_before_a_shipped_one_but_any_folder_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imdb-mini").mkdir()
    assert locate("imdb-mini", tmp_path).is_shipped
    (tmp_path / "imdb-mini/manifest.json").write_text("{}")
    assert not locate("imdb-mini", tmp_path).is_shipped


@pytest.mark.usefixtures("models")
def test_who_names_no_model_is_told_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="`imdb-mini`, which came with nano_llm"):
        locate("imdb-maxi", tmp_path)


def test_shipped_models_lie_in_a_checkout() -> None:
    assert models_folder() == ROOT / "experiments/models"
    assert models_folder().is_dir()


def test_shipped_models_lie_in_an_installed_package(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src/nano_llm", tmp_path / "nano_llm")
    (tmp_path / "nano_llm/models/imdb-mini/checkpoints/best").mkdir(parents=True)
    asked = "from nano_llm.tracking.locate import shipped_models; print(shipped_models())"
    done = subprocess.run([sys.executable, "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "['imdb-mini']\n"
