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
NUM_CELLS = (2, 8)
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
