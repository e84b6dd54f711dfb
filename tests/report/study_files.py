"""Studies made by hand: what runs would leave, with figures that a test knows."""

import json
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "seed": 0,
    "data": {"name": "scm", "conditioning": "auto"},
    "protocol": {"name": "fair"},
    "scale": {"d_model": 128},
    "model": {"trunk": {"type": "VanillaTrunkConfig"}, "readout": {"type": "TwoHeadReadoutConfig"},
              "separation": {"weight": 0.0}},
}  # fmt: skip


def write_run(
    study: Path,
    name: str = "arm",
    run_id: str = "0123456789ab",
    seed: int = 0,
    *,
    weight: float = 0.0,
    state: str = "finished",
    num_rows: int = 3,
    protocol: str = "fair",
    width: int = 128,
    parameters: int = 1000,
    error: str | None = None,
    **metrics: float,
) -> Path:
    """Write the files of a run whose figures are ``metrics``."""
    folder = study / f"{name}-{run_id}/seed-{seed}"
    folder.mkdir(parents=True)
    config = json.loads(json.dumps(CONFIG))
    config["model"]["separation"]["weight"] = weight
    config["protocol"]["name"] = protocol
    config["scale"]["d_model"] = width
    (folder / "cell.json").write_text(json.dumps({"config": config}))
    (folder / "status.json").write_text(json.dumps({"state": state, "error": error, "pid": 1, "host": "here"}))
    (folder / "environment.json").write_text(json.dumps({"git": {"commit": "c0ffee", "dirty": False}}))
    rows = [
        {"split": "validation", "step": 10 * i, "tokens": 1000 * i, "training_seconds": 2.0 * i,
         "val_ce": 3.0 - 0.1 * i, "val_objective": 2.9 - 0.1 * i, "val_bpb": 2.0 - 0.1 * i}
        for i in range(1, num_rows + 1)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if state == "finished":
        summary = {
            "id": run_id, "name": name, "seed": seed, "parameters": parameters, "best_step": 30, "metrics": metrics,
            "steps": 30, "tokens": 3000, "epochs": 1.5, "training_seconds": 6.0, "tokens_per_second": 500.0,
            "device": "cpu", "ended_by": "max_steps",
        }  # fmt: skip
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def write_manifest(study: Path, *cells: tuple[str, str, int]) -> None:
    """Write sweep.json over cells given as name, id and seed."""
    entries = [
        {"id": run_id, "name": name, "seed": seed, "folder": f"{name}-{run_id}/seed-{seed}", "overrides": []}
        for name, run_id, seed in cells
    ]
    manifest = {"format": 1, "study": study.name, "commands": [["model=tarnet", "sweep.seeds=3"]], "cells": entries}
    (study / "sweep.json").write_text(json.dumps(manifest))
