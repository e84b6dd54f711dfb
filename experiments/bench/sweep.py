"""What a sweep costs beside its training: seconds a cell, and the report over 500 runs.

    python experiments/bench/sweep.py

Writes sweep.json beside this file. Run it alone on the machine.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
RUN = HERE.parent / "quick_table"
NUM_CELLS = 6
NUM_ARMS, NUM_SEEDS = 100, 5
CELL = (
    "data=scm", "data.num_train=2000", "scale=tiny", "model=vanilla", "trainer.max_epochs=null", "trainer.max_steps=20",
    "trainer.eval_reviews=50", "trainer.test_reviews=0",
)  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        record = {"launch": launch(Path(scratch)), "report": report(Path(scratch))}
    (HERE / "sweep.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


def launch(scratch: Path) -> dict[str, float]:
    """Time a sweep of cells that hardly train, after one cell that prepares the data."""
    places = [f"paths.outputs={scratch}/outputs", f"paths.cache={scratch}/cache"]
    command = [sys.executable, "-m", "nano_llm.run", "-m", *CELL, *places]
    subprocess.run([*command, "study=warm"], check=True, capture_output=True)
    began = time.monotonic()
    subprocess.run([*command, f"seed=range({NUM_CELLS})"], check=True, capture_output=True)
    seconds = time.monotonic() - began
    summaries = [json.loads(path.read_text()) for path in scratch.glob("outputs/runs/*/seed-*/summary.json")]
    training = sum(summary["training_seconds"] for summary in summaries)
    return {
        "cells": len(summaries),
        "seconds": seconds,
        "training_seconds": training,
        "seconds_per_cell_beyond_training": (seconds - training) / len(summaries),
    }


def report(scratch: Path) -> dict[str, float]:
    """Time the report over copies of a committed run."""
    (run, *_) = sorted(RUN.glob("tarnet-*/seed-0"))
    for arm in range(NUM_ARMS):
        for seed in range(NUM_SEEDS):
            shutil.copytree(run, scratch / f"many/arm{arm}-{arm:012x}/seed-{seed}")
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "nano_llm.cli.main", "report", str(scratch / "many")], check=True, capture_output=True
    )
    return {"runs": NUM_ARMS * NUM_SEEDS, "seconds": time.monotonic() - began}


if __name__ == "__main__":
    main()
