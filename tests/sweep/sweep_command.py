"""Sweeps as a user starts them: the command line in a process of its own, with faults put into some cells."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nano_llm.tracking.status import read_status
from tiny_run import TINY_RUN

FAULTS = '''
"""Loaded by every Python process below a test: a cell named in the file of faults suffers one."""
import json, os, signal, sys, time

if "nano_llm.sweep.child" in sys.orig_argv:
    faults = json.loads(open(os.environ["TEST_FAULTS"]).read())
    fault = faults.get(sys.orig_argv[-1].rsplit("/", 1)[-1])
    if fault == "exit":
        os._exit(0)
    elif fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    elif fault == "sleep":
        time.sleep(600)
    elif fault == "echo":
        import nano_llm.training.loop

        take_step, taken = nano_llm.training.loop.train_step, []

        def hear_twice(*given):
            taken.append(take_step(*given))
            if len(taken) == 7:
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)
            return taken[-1]

        nano_llm.training.loop.train_step = hear_twice
    elif fault in ("raise", "leave", "stuck"):
        import nano_llm.interruption
        import nano_llm.session

        def suffer(*_):
            # The status says `running` by now.
            if fault == "leave":
                os._exit(0)
            if fault == "stuck":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(600)
            raise RuntimeError("the sky has fallen")

        nano_llm.interruption.GRACE_SECONDS = 1.0
        nano_llm.session.prepare = suffer
'''


class SweepCommand:
    """A sweep over tiny runs in a folder of its own."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.outputs = folder / "outputs"
        self.study = self.outputs / "study"
        self._faults = folder / "faults.json"
        self._cache = cache
        (folder / "site").mkdir(exist_ok=True)
        (folder / "site/sitecustomize.py").write_text(FAULTS)
        self.variables = {
            **os.environ,
            "PYTHONPATH": f"{folder / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            "TEST_FAULTS": str(self._faults),
        }
        self.set_faults({})

    def set_faults(self, faults: dict[str, str]) -> None:
        """Choose what happens to cells, by name of the run's folder, from what `FAULTS` knows: such as exit or hang."""
        self._faults.write_text(json.dumps(faults))

    def start(self, *overrides: str) -> "subprocess.Popen[str]":
        common = ["study=study", f"paths.outputs={self.outputs}", f"paths.cache={self._cache}"]
        return subprocess.Popen(
            [sys.executable, "-m", "nano_llm.run", "-m", *TINY_RUN, *common, *overrides],
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *overrides: str) -> "subprocess.CompletedProcess[str]":
        process = self.start(*overrides)
        output, errors = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def folders(self) -> list[Path]:
        return sorted(self.study.glob("*/seed-*"))

    def statuses(self) -> dict[str, dict[str, Any]]:
        """Return status.json by the name of the run's folder; there is one arm in most sweeps."""
        known = [path for path in self.folders() if (path / "status.json").exists()]
        return {path.name: json.loads((path / "status.json").read_text()) for path in known}


def figures(folders: Sequence[Path]) -> dict[str, Any]:
    """Return what may not depend on interruptions: the figures of each run."""
    summaries = {f"{path.parent.name}/{path.name}": json.loads((path / "summary.json").read_text()) for path in folders}
    return {name: (summary["metrics"], summary["steps"], summary["tokens"]) for name, summary in summaries.items()}


def wait_until(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_stuck(folder: Path) -> bool:
    """Tell whether the cell ignores SIGTERM, as its fault makes it."""
    if read_status(folder).state != "running":
        return False
    pid = read_status(folder).details["pid"]
    (ignored,) = re.findall(r"^SigIgn:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(ignored, 16) >> (signal.SIGTERM - 1) & 1)


def processes_below(folder: Path) -> list[int]:
    """Return the processes whose command line names a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def kill_hard(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()
