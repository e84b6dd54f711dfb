"""What it takes to prepare a corpus, and to open it when that has been done.

Every preparation runs in a process of its own (`nano_llm.bench.preparing`). A cold one fills a fresh folder, a warm one
finds what the cold one of the same turn has left. Files of the corpus itself may be in the system's cache either way.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from nano_llm.bench.harness import (
    Ceilings,
    Columns,
    Figures,
    Key,
    Measured,
    Row,
    Turn,
    Way,
    field,
    ranged,
    spread,
    take_turns,
    told,
)
from nano_llm.errors import DataError

PHASES = ("read", "fitted", "tokenised", "cut")
"""First words of what the log says of a phase."""
COLUMNS: Columns = {
    "start": field("start"),
    "process, s (lowest-highest)": ranged("process_seconds", ".1f"),
    "preparation, s": field("seconds", ".2f"),
    **{f"{phase}, s": field(f"{phase}_seconds", ".1f") for phase in PHASES},
    "peak memory, MiB": field("peak_mebibytes", ",.0f"),
}
COLD, WARM = ("cold",), ("warm",)


def measure(overrides: Sequence[str], repeats: int, imdb: Path | None = None, ceilings: Way | None = None) -> Measured:
    """Let a cold and a warm start take turns.

    Args:
        overrides: The configuration of the corpus, as for `nano-llm prepare`.
        repeats: Number of turns.
        imdb: Folder of IMDB, which the figures do not name.
        ceilings: What the machine gives.

    Raises:
        DataError: The corpus cannot be prepared.
    """
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "cache"

        def cold() -> Figures:
            shutil.rmtree(cache, ignore_errors=True)
            return prepare_in_child(overrides, cache, imdb)

        ways: dict[Key, Way] = {COLD: cold, WARM: lambda: prepare_in_child(overrides, cache, imdb)}
        turns = take_turns(ways, repeats, ceilings or Ceilings())
    return Measured({"overrides": list(overrides)}, turns, [row(key, turns) for key in ways], COLUMNS)


def prepare_in_child(overrides: Sequence[str], cache: Path, imdb: Path | None) -> Figures:
    """Prepare a corpus in a process of its own.

    Returns:
        ``process_seconds`` from its start to its end, imports included, and what it tells itself: ``seconds`` of the
        preparation, of these ``<phase>_seconds`` if it has any, and ``peak_mebibytes`` of memory.

    Raises:
        DataError: It failed.
    """
    command = [sys.executable, "-m", "nano_llm.bench.preparing", *overrides, f"paths.cache={cache}"]
    variables = os.environ if imdb is None else {**os.environ, "NANO_LLM_IMDB": str(imdb)}
    began = time.perf_counter()
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        raise DataError(f"The corpus cannot be prepared. {done.stderr.strip()}")
    figures: Figures = json.loads(done.stdout)
    return {"process_seconds": seconds, **figures}


def row(key: Key, turns: Sequence[Turn]) -> Row:
    """Sum up the turns of one start."""
    return {"start": key[0], **{figure: spread(told(turns, key, figure)) for figure in turns[0].figures[key]}}
