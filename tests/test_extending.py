"""The recipes of docs/extending.md are exact: applied to a copy of the tree they work, are short and in our style."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from documented import FEW_SAMPLED, ROOT, SHORT, arguments

PAGE = ROOT / "docs/extending.md"
MOST_LINES = 30
FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)

CARRY_OUT = """
import json, subprocess, sys
from nano_llm.cli.main import main

for command, arguments in json.load(sys.stdin):
    print(command, flush=True)
    if arguments is None:
        status = subprocess.run(["bash", "-e", "-c", command]).returncode
    else:
        sys.argv = ["nano-llm"]
        status = main(arguments)
    if status != 0:
        sys.exit(f"exit status {status} of: {command}")
"""
"""Carries out commands in one process, as importing torch takes longer than they do."""


@dataclass(frozen=True)
class Recipe:
    """A section of the page that changes files."""

    title: str
    edits: list[str]
    scripts: list[str]

    @property
    def added(self) -> list[str]:
        """Lines that somebody has to write."""
        lines = [line[1:] for edit in self.edits for line in edit.splitlines() if line.startswith("+")]
        return [line for line in lines if line.strip()]


def recipes() -> Iterator[Recipe]:
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        blocks = FENCE.findall(section)
        edits = [text for language, text in blocks if language == "diff"]
        yield Recipe(section.splitlines()[0], edits, [text for language, text in blocks if language == "bash"])


RECIPES = list(recipes())


def apply(edit: str, tree: Path) -> Path:
    """Change a file as a block says, and return it; each place must be found, and be the only one."""
    head, *lines = edit.splitlines()
    path = tree / head.removeprefix("@@ ")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    for hunk in "\n".join(lines).split("\n@@\n"):
        rows = hunk.splitlines()
        assert all(row[:1] in ("", " ", "+", "-") for row in rows), f"{head}: {hunk}"
        before = "".join(f"{row[1:]}\n" for row in rows if row[:1] != "+")
        after = "".join(f"{row[1:]}\n" for row in rows if row[:1] != "-")
        assert bool(before) == path.exists(), f"{head}: only a new file consists of added lines"
        if not before:
            path.write_text(after, encoding="utf-8")
            return path
        assert f"\n{text}".count(f"\n{before}") == 1, f"{head}: found other than once:\n{before}"
        text = f"\n{text}".replace(f"\n{before}", f"\n{after}")[1:]
    path.write_text(text, encoding="utf-8")
    return path


def copied_tree(folder: Path) -> Path:
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", folder)
    return folder


def test_the_page_has_a_recipe_for_each_kind_of_part() -> None:
    titles = ["A trunk", "A readout", "A separation term", "A corpus", "A metric"]
    assert [recipe.title for recipe in RECIPES] == titles


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.title)
def test_a_recipe_is_short_and_applies_alone(recipe: Recipe, tmp_path: Path) -> None:
    assert 0 < len(recipe.added) < MOST_LINES
    changed = [apply(edit, copied_tree(tmp_path) if not i else tmp_path) for i, edit in enumerate(recipe.edits)]
    for path in changed:
        if path.suffix == ".py":
            ast.parse(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the commands of the page have been carried out, with all recipes applied."""
    tree = copied_tree(tmp_path_factory.mktemp("tree"))
    changed = {str(apply(edit, tree)) for recipe in RECIPES for edit in recipe.edits}
    for rules in (["check", "--quiet"], ["format", "--check", "--quiet"]):
        files = sorted(path for path in changed if path.endswith(".py"))
        ruff = subprocess.run(
            [sys.executable, "-m", "ruff", *rules, "--no-cache", *files], cwd=tree, capture_output=True, text=True
        )
        assert ruff.returncode == 0, f"ruff {rules}: {ruff.stdout}{ruff.stderr}"
    place = tmp_path_factory.mktemp("place")
    commands = [command for recipe in RECIPES for script in recipe.scripts for command in short_commands(script)]
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", CARRY_OUT],
        cwd=place,
        input=json.dumps(commands),
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("NANO_LLM_")},
            "PYTHONPATH": str(tree / "src"),
            "NANO_LLM_CACHE": str(place / "cache"),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    (place / "said").write_text(ended.stdout)
    return place


def short_commands(script: str) -> Iterator[tuple[str, list[str] | None]]:
    """Yield the commands of a block: those of ours with what they give to `nano-llm`, all others as one."""
    lines = script.splitlines()
    ours = [line for line in lines if line.startswith("nano-llm ")]
    if others := [line for line in lines if line not in ours]:
        yield "\n".join(others), None
    for line in ours:
        given = arguments(line) or []
        if given[0] == "run":
            given += [*SHORT, *(FEW_SAMPLED if "data=scm" in given else ())]
        yield line, given


def summary_of(study: Path) -> dict[str, object]:
    (path,) = study.glob("*/seed-0/summary.json")
    found: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "choice"),
    [
        ("trunk", "name: parallel"),
        ("readout", "name: one_sided"),
        ("separation", "kind: anchor"),
        ("corpus", "name: lines"),
    ],
)
def test_the_run_of_a_recipe_trains_what_the_recipe_adds(study: str, choice: str, place: Path) -> None:
    assert summary_of(place / "outputs" / study)["steps"] == 2
    (config,) = (place / "outputs" / study).glob("*/seed-0/config.yaml")
    assert choice in config.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_term_of_the_objective_has_a_figure(place: Path) -> None:
    metrics = summary_of(place / "outputs/separation")["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["val_anchor"] >= 0


@pytest.mark.slow
def test_a_corpus_is_read_and_evaluated(place: Path) -> None:
    (run,) = (place / "outputs/corpus").glob("*/seed-0")
    counts = json.loads((run / "data.json").read_text(encoding="utf-8"))["counts"]["splits"]
    assert {name: split["reviews"] for name, split in counts.items()} == dict.fromkeys(counts, 80)
    assert (run / "evaluation/posterior.json").exists()


@pytest.mark.slow
def test_a_metric_is_the_difference_that_it_says(place: Path) -> None:
    (record,) = (place / "outputs/corpus").glob("*/seed-0/evaluation/heads.json")
    figures = json.loads(record.read_text(encoding="utf-8"))["figures"]
    gained = figures["bpb_other"]["value"] - figures["bpb"]["value"]
    assert figures["bpb_gained"]["value"] == pytest.approx(gained, abs=1e-12)
    assert re.search(r"bpb_gained ↑ +any +quick, full", (place / "said").read_text(encoding="utf-8"))
