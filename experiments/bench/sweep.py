"""What a sweep costs beside its training: seconds a cell, and the report over 500 runs.

    python experiments/bench/sweep.py

Writes sweep.json beside this file. Run it alone on the machine.
"""

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RUN = HERE.parent / "quick_table"
NUM_CELLS = (2, 8)
NUM_NAMES, WEIGHTS, NUM_SEEDS = 20, (0.0, 0.02, 0.05, 0.1, 0.2), 5
NOISE = 0.01  # standard deviation of a figure over runs, relative to it
CELL = (
    "data=scm", "data.num_train=2000", "scale=tiny", "model=vanilla", "trainer.max_epochs=null", "trainer.max_steps=20",
    "trainer.eval_reviews=50", "trainer.test_reviews=0", "trainer.evaluation=none",
)  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        record = {"launch": launch(Path(scratch)), "report": report(Path(scratch))}
    (HERE / "sweep.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


def launch(scratch: Path) -> dict[str, float]:
    """Time a short and a long sweep of cells that hardly train; their difference is what one more cell costs."""
    few, many = (_sweep(scratch, number) for number in NUM_CELLS)
    per_cell = (many - few) / (NUM_CELLS[1] - NUM_CELLS[0])
    return {"seconds_per_cell_beyond_training": per_cell, "seconds_per_sweep": few - NUM_CELLS[0] * per_cell}


def _sweep(scratch: Path, number: int) -> float:
    """Return the seconds of a sweep, those of its cells' training taken off."""
    places = [f"paths.outputs={scratch}/outputs", f"paths.cache={scratch}/cache", f"study=of{number}"]
    command = [sys.executable, "-m", "nano_llm.run", "-m", *CELL, *places]
    # The first cell prepares the data, which the others find in the cache.
    subprocess.run([*command, "study=warm"], check=True, capture_output=True)
    began = time.monotonic()
    subprocess.run([*command, f"seed=range({number})"], check=True, capture_output=True)
    seconds = time.monotonic() - began
    summaries = [json.loads(path.read_text()) for path in scratch.glob(f"outputs/of{number}/*/seed-*/summary.json")]
    assert len(summaries) == number
    return seconds - sum(summary["training_seconds"] for summary in summaries)


def report(scratch: Path) -> dict[str, float]:
    """Time the report over runs whose figures all differ."""
    study = scratch / "many"
    num_runs = write_study(study)
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "nano_llm.cli.main", "report", str(study)], check=True, capture_output=True)
    return {"runs": num_runs, "seconds": time.monotonic() - began}


def write_study(study: Path) -> int:
    """Write a study of copies of a committed run, each with other figures; return how many they are.

    Equal figures would spare the report its intervals and tests.
    """
    (run, *_) = sorted(RUN.glob("tarnet-*/seed-0"))
    rng = random.Random(0)
    arms = [(f"arm{i}", weight) for i in range(NUM_NAMES) for weight in WEIGHTS]
    for number, (name, weight) in enumerate(arms):
        for seed in range(NUM_SEEDS):
            folder = study / f"{name}-{number:012x}/seed-{seed}"
            shutil.copytree(run, folder)
            _rewrite(folder, weight, rng)
    return len(arms) * NUM_SEEDS


def _rewrite(folder: Path, weight: float, rng: random.Random) -> None:
    """Give a copy its weight, and figures of its own."""
    cell = json.loads((folder / "cell.json").read_text())
    cell["config"]["model"]["separation"]["weight"] = weight
    (folder / "cell.json").write_text(json.dumps(cell))
    summary = json.loads((folder / "summary.json").read_text())
    figures = {**_perturbed(summary, rng), "metrics": _perturbed(summary["metrics"], rng)}
    (folder / "summary.json").write_text(json.dumps(figures))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines = [json.dumps(_perturbed(row, rng)) + "\n" for row in rows]
    (folder / "metrics.jsonl").write_text("".join(lines))


def _perturbed(row: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return a row with noise on its measured figures; steps and tokens are whole numbers and stay."""
    return {
        name: value * (1 + rng.gauss(0, NOISE)) if isinstance(value, float) else value for name, value in row.items()
    }


if __name__ == "__main__":
    main()
