"""What the runs of a study have left, as tables of pandas."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from nano_llm.errors import OutputError
from nano_llm.tracking.status import RunStatus, read_object, read_status, read_summary

LOGS = ("console.log", "run.log")
"""Where to read on, the fuller one first; only cells of a sweep have a console.log."""


@dataclass(frozen=True)
class Study:
    """The runs of a study."""

    path: Path
    commands: list[list[str]]
    """Overrides of each sweep that was carried out in it."""
    runs: pd.DataFrame
    """A row a run: name, id, seed, folder, state, reason, log, commit, fingerprint, conditioning, settings by dotted
    name below ``settings.``, figures of its summary, and those of its last validation, ``final_val_ce`` and
    ``final_val_objective``."""
    curves: pd.DataFrame
    """A row for each row of each metrics.jsonl: folder, split, step, tokens, training_seconds and figures."""


def collect(study: Path) -> Study:
    """Read every run of a study: the cells of its sweeps and all other runs below it.

    A file that is damaged, or holds other things than it should, costs what it held and nothing else.

    Raises:
        OutputError: There is no such study, or no run in it.
    """
    manifest = read_object(study / "sweep.json") or {}
    entries = [cell for cell in _list(manifest.get("cells")) if isinstance(cell, dict) and "folder" in cell]
    cells = {str(cell["folder"]): cell for cell in entries}
    others = sorted(f"{path.parent.name}/{path.name}" for path in study.glob("*/seed-*"))
    folders = [*cells, *(folder for folder in others if folder not in cells)]
    if not folders:
        raise OutputError(
            f"No runs in {study}. Name the folder of a study, such as outputs/runs; it holds <arm>/seed-<n> folders."
        )
    curves = [read_curve(study / folder, folder) for folder in folders]
    rows = [
        _run(study / folder, folder, cells.get(folder, {}), curve)
        for folder, curve in zip(folders, curves, strict=True)
    ]
    table = pd.DataFrame([row for curve in curves for row in curve])
    commands = [[str(word) for word in command] for command in map(_list, _list(manifest.get("commands"))) if command]
    return Study(study, commands, pd.DataFrame(rows), table)


def _run(path: Path, folder: str, cell: dict[str, Any], curve: list[dict[str, Any]]) -> dict[str, Any]:
    status = read_status(path)
    # Committed results have no status.json: their summary is there because they finished.
    summary = read_summary(path) if status.details else read_object(path / "summary.json")
    arm, _, seed = folder.partition("/seed-")
    validations = [row for row in curve if row.get("split") == "validation"]
    data = read_object(path / "data.json") or {}
    git = _object((read_object(path / "environment.json") or {}).get("git"))
    state, reason = ("finished", None) if summary is not None else _unfinished(status)
    row: dict[str, Any] = {
        "folder": folder,
        "name": cell.get("name", arm.rpartition("-")[0] or arm),
        "id": cell.get("id", arm.rpartition("-")[2]),
        "seed": int(seed) if seed.isdigit() else seed,
        "state": state,
        "reason": reason,
        "log": next((f"{folder}/{log}" for log in LOGS if (path / log).exists()), None),
        "commit": _text(git.get("commit")),
        "dirty": git.get("dirty") is True,
        "fingerprint": _text(data.get("fingerprint")),
        "final_val_ce": _last(validations, "val_ce"),
        "final_val_objective": _last(validations, "val_objective"),
    }
    row |= {f"settings.{name}": value for name, value in _flat(_settings(path)).items()}
    # What `auto` has stood for is known once the data are prepared.
    row["conditioning"] = _object(data.get("settings")).get("data.conditioning", row.get("settings.data.conditioning"))
    if summary is not None:
        kept = {name: value for name, value in _numbers(summary).items() if name != "seed"}
        row |= {"device": _text(summary.get("device")), **kept, **_numbers(_object(summary.get("metrics")))}
    return row


def _last(rows: list[dict[str, Any]], name: str) -> float | None:
    return next((row[name] for row in reversed(rows) if name in row), None)


def _unfinished(status: RunStatus) -> tuple[str, str | None]:
    """Return state and reason of a run without results; one that says `finished` has lost them."""
    if status.state == "finished":
        return "failed", "its summary.json is missing or damaged"
    return status.state, status.reason


def _settings(path: Path) -> dict[str, Any]:
    """Return a run's settings, from the frozen cell or, slower, from its config.yaml."""
    frozen = _object((read_object(path / "cell.json") or {}).get("config"))
    return frozen or _object(_yaml(path / "config.yaml"))


def _yaml(path: Path) -> Any:
    """Return the content of a YAML file; None if it is missing or unreadable."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _numbers(values: dict[str, Any]) -> dict[str, int | float]:
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def read_curve(path: Path, folder: str) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics.jsonl, none if it is missing; a line that a kill has torn is left out.

    Args:
        path: Folder of the run.
        folder: What each row calls it.
    """
    rows: list[dict[str, Any]] = []
    try:
        lines = (path / "metrics.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return rows
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append({"folder": folder, "split": row.get("split"), **_numbers(row)})
    return rows
