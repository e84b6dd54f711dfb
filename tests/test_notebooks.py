"""Notebooks: each equals its plain Python file, and runs on a real sweep."""

from pathlib import Path

import jupytext
import nbclient
import pytest
from sweep_command import SweepCommand

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "experiments").rglob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_equals_its_python_file(path: Path) -> None:
    notebook, plain = jupytext.read(path), jupytext.read(path.with_suffix(".py"))
    cells = [[(cell.cell_type, cell.source) for cell in pair.cells] for pair in (notebook, plain)]
    assert cells[0] == cells[1], f"run: jupytext --to ipynb {path.with_suffix('.py').name}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_analysis_runs_on_a_small_sweep(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = SweepCommand(tmp_path, cache)
    assert sweep.run("model=tarnet", "model.separation.weight=0,0.1").returncode == 0
    monkeypatch.setenv("NANO_LLM_STUDY", str(sweep.study))
    (path,) = [path for path in NOTEBOOKS if path.stem == "analysis"]
    notebook = nbclient.NotebookClient(jupytext.read(path), timeout=120).execute()
    shown = str(notebook.cells)
    assert "weight=0.1" in shown
    assert "image/svg+xml" in shown
