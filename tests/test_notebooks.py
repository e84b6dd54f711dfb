"""Notebooks: each equals its plain Python file, shows what it was run for, and runs again, without data or network."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from sweep_command import SweepCommand

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools/notebooks.py"
SOURCES: dict[str, Path] = {path.stem: path for path in runpy.run_path(str(TOOL))["sources"]()}
SECONDS = 600
"""A hung notebook is to fail the suite, not to hang it; a run takes some ten seconds of an idle core."""

every_notebook = pytest.mark.parametrize("name", SOURCES)


def outputs(notebook: nbformat.NotebookNode) -> list[dict[str, Any]]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def kinds(notebook: nbformat.NotebookNode) -> set[str]:
    """Return the media types of all that a notebook shows."""
    return {kind for output in outputs(notebook) for kind in output.get("data", {})}


def run(name: str, to: Path, **variables: str) -> nbformat.NotebookNode:
    """Run a notebook as `tools/notebooks.py` does, with the folders that it may write to below ``to``."""
    scratch = to / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, TOOL, name, "--to", to, "--cell-seconds", str(SECONDS)],
        env={**os.environ, "MPLBACKEND": "Agg", "TMPDIR": str(scratch), "NANO_LLM_FAST": "1", **variables},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return nbformat.read(to / f"{name}.ipynb", as_version=4)


def test_every_notebook_has_its_python_file() -> None:
    assert {path.stem: path.with_suffix(".py") for path in (ROOT / "experiments").rglob("*.ipynb")} == SOURCES


@every_notebook
def test_a_notebook_equals_its_python_file(name: str) -> None:
    kept, plain = jupytext.read(SOURCES[name].with_suffix(".ipynb")), jupytext.read(SOURCES[name])
    cells = [[(cell.cell_type, cell.source) for cell in pair.cells] for pair in (kept, plain)]
    assert cells[0] == cells[1], f"run: python tools/notebooks.py {name}"


def without_images(data: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is base64, in which any few letters come up."""
    return {kind: content for kind, content in data.items() if kind != "image/png"}


@every_notebook
def test_a_notebook_is_kept_with_the_outputs_of_one_run_without_complaint(name: str) -> None:
    kept = nbformat.read(SOURCES[name].with_suffix(".ipynb"), as_version=4)
    counts = [cell.execution_count for cell in kept.cells if cell.cell_type == "code"]
    assert counts == [*range(1, len(counts) + 1)], f"run: python tools/notebooks.py {name}"
    assert not [output for output in outputs(kept) if output.output_type == "error"]
    assert not [output.text for output in outputs(kept) if output.get("name") == "stderr"], "warnings"
    assert kinds(kept) & {"image/png", "image/svg+xml"}, "no figure"
    told = str([{**output, "data": without_images(output.get("data", {}))} for output in outputs(kept)])
    assert str(Path.home()) not in told
    assert "/tmp" not in told, "folders of the machine that it was run on"


@pytest.mark.slow
@every_notebook
def test_a_notebook_runs(name: str, tmp_path: Path) -> None:
    before = sorted(SOURCES[name].parent.rglob("*"))
    shown = kinds(run(name, tmp_path))
    kept = kinds(nbformat.read(SOURCES[name].with_suffix(".ipynb"), as_version=4))
    assert shown == kept
    assert sorted(SOURCES[name].parent.rglob("*")) == before, "it has written beside itself"
    assert not [*(tmp_path / "scratch").glob("tmp*")], "it has left a folder for temporary files"


@pytest.mark.slow
def test_the_analysis_runs_on_a_small_sweep(tmp_path: Path, cache: Path) -> None:
    sweep = SweepCommand(tmp_path, cache)
    assert sweep.run("model=tarnet", "model.separation.weight=0,0.1").returncode == 0
    notebook = run("analysis", tmp_path, NANO_LLM_STUDY=str(sweep.study))
    assert "weight=0.1" in str(notebook.cells)
    assert "image/svg+xml" in kinds(notebook)


def test_fast_outputs_are_not_kept(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "experiments/analysis", tmp_path / "experiments/analysis")
    tool = tmp_path / "tools" / TOOL.name
    tool.parent.mkdir()
    shutil.copy(TOOL, tool)
    done = subprocess.run(
        [sys.executable, tool, "analysis"],
        env={**os.environ, "NANO_LLM_FAST": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 2
    assert "NANO_LLM_FAST is set" in done.stderr
