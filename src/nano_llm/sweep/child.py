"""What the process of a cell does: ``python -m nano_llm.sweep.child FOLDER``. It ends when its parent does."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from nano_llm.errors import NanoLLMError
from nano_llm.interruption import GRACE_SECONDS


def main(arguments: Sequence[str]) -> int:
    """Carry out the cell in a folder and return the exit status."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    # Imported after the thread has started, since this takes most of a cell's start.
    from rich.console import Console

    from nano_llm.session import run_session
    from nano_llm.sweep.cell import demand_same_run, thaw

    try:
        cell = thaw(Path(arguments[0]))
        demand_same_run(cell)
        # Where a whole machine is asked to stop, the sweep passes on what the cell has heard already.
        run_session(cell.config, cell.overrides, Console(width=120), heeds_second=False)
    except NanoLLMError as error:
        # On a full disk the sweep's log of this cell takes nothing more; the status tells.
        with contextlib.suppress(OSError):
            print(f"Error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def _follow_parent() -> None:
    """Stop, resumable, when the pipe from the parent ends; one that does not stop is killed, as the parent would."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    # The cell leads a group of its own: whatever it has started must not outlive it.
    os.killpg(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
