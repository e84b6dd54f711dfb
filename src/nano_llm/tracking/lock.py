"""The lock of a folder: one process at a time is at work in it. The system lets go when that ends in any way."""

import fcntl
import os
import time
from pathlib import Path
from typing import IO

LOCK = ".lock"

LOOK_SECONDS = 0.2
"""For how long a lock is asked for again: somebody may be looking at it with `is_held`, which takes an instant."""


def take_hold(folder: Path) -> IO[str]:
    """Lock a folder until the returned file is closed; its text is free for whoever holds it.

    Raises:
        BlockingIOError: Another process holds it.
        OSError: The file cannot be opened.
    """
    lock = (folder / LOCK).open("a+")
    deadline = time.monotonic() + LOOK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                lock.close()
                raise
            time.sleep(LOOK_SECONDS / 20)
        except BaseException:
            lock.close()
            raise


def is_held(folder: Path) -> bool:
    """Tell whether a process is at work in a folder; of a copy, nobody is."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
