"""Commands that kill themselves at one of their writes, each in a process forked from one that has loaded torch."""

import os
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from leavings import NO_CHECKOUT
from loaded_forks import FORKS, settle

WRITES = {"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.truncate"}
"""What Python tells its auditors before it does so; of `open`, those for writing count too."""


class Ended(NamedTuple):
    """How a command has ended."""

    status: int
    """As of `multiprocessing.Process.exitcode`."""
    num_writes: int | None
    """None of one that was killed."""


def carry_out(place: Path, *arguments: str, kill_at: int | None = None) -> Ended:
    """Carry out ``nano-llm`` in a folder, which is killed just before its write of that number, from 0."""
    receiver, sender = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=_command, args=(place, arguments, kill_at, sender))
    process.start()
    sender.close()
    try:
        num_writes = receiver.recv()
    except EOFError:
        num_writes = None
    process.join()
    status = process.exitcode
    process.close()
    receiver.close()
    assert status is not None
    return Ended(status, num_writes)


def output(place: Path) -> str:
    """Return what commands have said in a folder."""
    return _log(place).read_text(errors="replace")


def _log(place: Path) -> Path:
    return place.with_name(f"{place.name}.log")


def _command(place: Path, arguments: tuple[str, ...], kill_at: int | None, sender: Connection) -> None:
    from nano_llm.cli.main import main

    settle(place, _log(place))
    os.environ |= NO_CHECKOUT
    sys.dont_write_bytecode = True
    num_writes = 0

    def write() -> None:
        nonlocal num_writes
        if num_writes == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        num_writes += 1

    def audit(event: str, given: tuple[Any, ...]) -> None:
        if event in WRITES or (event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR)):
            write()

    fsync = os.fsync

    def counted_fsync(descriptor: int) -> None:
        write()
        fsync(descriptor)

    sys.addaudithook(audit)
    os.fsync = counted_fsync
    status = main(arguments)
    sender.send(num_writes)
    sys.exit(status)
