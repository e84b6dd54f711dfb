"""What commands leave on disk, without what may differ between two ways to the same result: times, logs, processes."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nano_llm.report.report import write_report

TIMES = {"training_seconds", "tokens_per_second", "seconds", "wall_seconds", "ended", "started", "heartbeat"}
"""Fields that tell when something was, or how long it took."""
HASHES_OF_TIMES = {"summary_sha256"}
PROCESSES = {"pid", "attempts"}
LOGS = {"run.log", "console.log", ".lock"}
"""Files that tell how it went, not what has come of it."""
NO_CHECKOUT = {"GIT_DIR": os.devnull}
"""Variables under which runs tell nothing of the checkout, which somebody may be at work in."""


def leavings(folder: Path) -> dict[str, object]:
    """Return what is in a folder, by relative path: a file's bytes, or its content without what may differ.

    A temporary file that somebody has forgotten is a path too many.
    """
    return {path.relative_to(folder).as_posix(): _content(path) for path in sorted(folder.rglob("*"))}


def assert_equal_leavings(one: Path, other: Path) -> None:
    first, second = leavings(one), leavings(other)
    differing = [name for name in sorted(first | second) if first.get(name) != second.get(name)]
    assert not differing, f"{one} and {other} differ in {', '.join(differing)}"


def forget_times(study: Path) -> None:
    """Let the runs of a study have taken a second each, and its report say so; the report is from its files alone."""
    before = leavings(study / "report")
    write_report(study)
    assert leavings(study / "report") == before
    for path in study.glob("*/seed-*/summary.json"):
        path.write_text(json.dumps(_treated(json.loads(path.read_text()), _of_a_second)))
        status = path.with_name("status.json")
        status.write_text(json.dumps(_timeless(json.loads(status.read_text()))))
    for path in study.glob("*/seed-*/metrics.jsonl"):
        rows = [_treated(json.loads(line), _of_a_second) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_report(study)


def _content(path: Path) -> object:
    if path.is_dir():
        return "a folder"
    if path.name in LOGS:
        return "a log"
    if path.name == "metrics.jsonl":
        return [_treated(json.loads(line), _timeless) for line in path.read_text().splitlines()]
    if path.suffix == ".json":
        told = _treated(json.loads(path.read_text()), _timeless)
        if path.name == "manifest.json" and "training.json" in told.get("sha256", {}):
            # That file tells the seconds that training has taken, and is compared itself.
            del told["sha256"]["training.json"]
            told.pop("seal", None)
        return told
    return path.read_bytes()


def _treated(told: Any, treat: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Return a JSON value with each of its objects treated."""
    if isinstance(told, dict):
        return {name: _treated(value, treat) for name, value in treat(told).items()}
    return [_treated(value, treat) for value in told] if isinstance(told, list) else told


def _timeless(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name not in TIMES | HASHES_OF_TIMES | PROCESSES}


def _of_a_second(told: dict[str, Any]) -> dict[str, Any]:
    return {name: 1.0 if name in TIMES else value for name, value in told.items()}
