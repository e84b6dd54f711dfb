"""Run the notebooks below experiments/ and keep what they show: `python tools/notebooks.py [NAME ...]`.

The source of a notebook is its plain Python file (jupytext, `py:percent`). Each is run from top to bottom in its own
folder and written beside that file as `.ipynb`, with its outputs and the commit that made them. Without names all are
run, which takes some minutes; NANO_LLM_FAST=1 makes them train for a few steps only, which serves tests, never readers.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import jupytext
import nbclient
import nbformat

ROOT = Path(__file__).resolve().parents[1]
MARK = "# %%"
"""Begins a cell, and no line of the other Python files below experiments/."""


def sources() -> list[Path]:
    """Return the Python files that are notebooks."""
    found = sorted((ROOT / "experiments").rglob("*.py"))
    return [path for path in found if MARK in path.read_text(encoding="utf-8")]


def run(source: Path, cell_seconds: int, made_at: str) -> nbformat.NotebookNode:
    """Return a notebook with the outputs of a run from top to bottom.

    Args:
        source: Its Python file.
        cell_seconds: After which a cell counts as hung.
        made_at: Commit, kept with the notebook.

    Raises:
        CellExecutionError: A cell raised.
        CellTimeoutError: A cell hangs.
    """
    notebook = jupytext.read(source)
    nbclient.NotebookClient(
        notebook,
        timeout=cell_seconds,
        record_timing=False,  # would differ with every run
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # or it warns of TCP
        resources={"metadata": {"path": str(source.parent)}},
    ).execute()
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index}"  # jupytext draws others at every reading
    del notebook.metadata["jupytext"]
    notebook.metadata["nano_llm"] = {"commit": made_at}
    return notebook


def commit() -> str:
    """Return what git calls the state of the checkout: with `-dirty` if tracked files differ from the commit."""
    asked = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return asked.stdout.strip() or "no checkout"


def main() -> int:
    """Run the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    known = {path.stem: path for path in sources()}
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(known)}; default: all")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="default: beside the Python files")
    parser.add_argument("--cell-seconds", type=int, default=600, help="after which a cell counts as hung; default: 600")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in known]:
        parser.error(f"no notebook {unknown[0]!r}; there are {', '.join(known)}")
    if given.to is None and os.environ.get("NANO_LLM_FAST"):
        parser.error("NANO_LLM_FAST is set, and its outputs are not for readers: unset it, or give --to FOLDER.")
    made_at = commit()  # before the first notebook differs from it
    for name in given.names or known:
        source = known[name]
        target = (given.to or source.parent) / f"{name}.ipynb"
        nbformat.write(run(source, given.cell_seconds, made_at), target)
        print(f"Wrote {target}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
