"""The process whose time and memory `bench data` measures: prepares a corpus and prints its figures as JSON."""

import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nano_llm.bench.data import PHASES
from nano_llm.config.compose import compose_config
from nano_llm.data.prepare import prepare
from nano_llm.errors import NanoLLMError


def main(overrides: Sequence[str]) -> int:
    """Prepare the corpus of a configuration."""
    config = compose_config(overrides)
    phases: dict[str, float] = {}
    began = last = time.perf_counter()

    def log(line: str) -> None:
        nonlocal last
        now = time.perf_counter()
        word = line.split()[0]
        if word in PHASES:
            phases[f"{word}_seconds"] = phases.get(f"{word}_seconds", 0.0) + now - last
        last = now

    prepare(config.data, config.protocol, config.model.num_outcomes, Path(config.paths.cache), log)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, **phases, "peak_mebibytes": peak_bytes() / 2**20}))
    return 0


def peak_bytes() -> int:
    """Return the most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():
        # What getrusage tells on Linux begins with the memory of the process that started this one.
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except NanoLLMError as error:
        sys.exit(str(error))
