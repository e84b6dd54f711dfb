"""What the runs of a study have left, as tables of pandas."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from nano_llm.errors import OutputError
from nano_llm.tracking.status import read_object, read_status, read_summary


@dataclass(frozen=True)
class Study:
    """The runs of a study."""

    path: Path
    commands: list[list[str]]
    """Overrides of each sweep that was carried out in it."""
    runs: pd.DataFrame
    """A row a run: name, id, seed, folder, state, reason, commit, fingerprint, conditioning, settings by dotted name
    below ``settings.``, figures of its summary, and ``final_val_ce``."""
    curves: pd.DataFrame
    """A row for each row of each metrics.jsonl: folder, split, step, tokens, training_seconds and figures."""


def collect(study: Path) -> Study:
    """Read every run of a study: the cells of its sweeps and all other runs below it.

    Raises:
        OutputError: There is no such study, or no run in it.
    """
    manifest = read_object(study / "sweep.json") or {}
    cells = {str(cell["folder"]): cell for cell in manifest.get("cells", [])}
    others = sorted(f"{path.parent.name}/{path.name}" for path in study.glob("*/seed-*"))
    folders = [*cells, *(folder for folder in others if folder not in cells)]
    if not folders:
        raise OutputError(
            f"No runs in {study}. Name the folder of a study, such as outputs/runs; it holds <arm>/seed-<n> folders."
        )
    curves = [_curve(study / folder, folder) for folder in folders]
    rows = [
        _run(study / folder, folder, cells.get(folder, {}), curve)
        for folder, curve in zip(folders, curves, strict=True)
    ]
    table = pd.DataFrame([row for curve in curves for row in curve])
    return Study(study, manifest.get("commands", []), pd.DataFrame(rows), table)


def _run(path: Path, folder: str, cell: dict[str, Any], curve: list[dict[str, Any]]) -> dict[str, Any]:
    status = read_status(path)
    # Committed results have no status.json: their summary is there because they finished.
    summary = read_summary(path) if status.details else read_object(path / "summary.json")
    arm, _, seed = folder.partition("/seed-")
    finals = [row["val_ce"] for row in curve if row.get("split") == "validation" and "val_ce" in row]
    data = read_object(path / "data.json") or {}
    git = (read_object(path / "environment.json") or {}).get("git") or {}
    row: dict[str, Any] = {
        "folder": folder,
        "name": cell.get("name", arm.rpartition("-")[0] or arm),
        "id": cell.get("id", arm.rpartition("-")[2]),
        "seed": int(seed) if seed.isdigit() else seed,
        "state": "finished" if summary is not None else _unfinished(status.state),
        "reason": status.reason,
        "commit": git.get("commit"),
        "dirty": git.get("dirty"),
        "fingerprint": data.get("fingerprint"),
        "final_val_ce": finals[-1] if finals else None,
    }
    row |= {f"settings.{name}": value for name, value in _flat(_settings(path)).items()}
    # What `auto` has stood for is known once the data are prepared.
    row["conditioning"] = (data.get("settings") or {}).get("data.conditioning", row.get("settings.data.conditioning"))
    if summary is not None:
        kept = {name: value for name, value in summary.items() if isinstance(value, int | float) and name != "seed"}
        row |= {"ended_by": summary.get("ended_by"), "device": summary.get("device"), **kept, **summary["metrics"]}
    return row


def _unfinished(state: str) -> str:
    """Return the state of a run without results; one that says `finished` has lost them."""
    return "failed" if state == "finished" else state


def _settings(path: Path) -> dict[str, Any]:
    """Return a run's settings, from the frozen cell or, slower, from its config.yaml."""
    cell = read_object(path / "cell.json")
    if cell is not None:
        return dict(cell["config"])
    try:
        loaded = yaml.load((path / "config.yaml").read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except (OSError, yaml.YAMLError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _curve(path: Path, folder: str) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics.jsonl; a line that a kill has torn is left out."""
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
            rows.append({"folder": folder, **row})
    return rows
