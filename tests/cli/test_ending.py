"""Commands end with an exit status and one sentence, whatever becomes of their output."""

import errno
import os
import sys
from pathlib import Path

import pytest

from nano_llm.cli.ending import ended, tell
from nano_llm.errors import CheckpointError, ConfigError
from nano_llm.interruption import Interrupted


def test_a_command_ends_with_its_status() -> None:
    assert ended(lambda: 3) == 3


def test_what_the_user_can_mend_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise ConfigError("This is wrong.")

    assert ended(fail) == 2
    assert capsys.readouterr().err == "Error: This is wrong.\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(errno.EACCES, "x", "a.txt"),
            "Cannot use a.txt: permission denied; choose a folder that you may write",
        ),
        (OSError(errno.ENOSPC, "x"), "Cannot write the output of this command: the disk is full"),
        (OSError(errno.ECONNRESET, "Connection reset by peer"), "Cannot go on: Connection reset by peer."),
    ],
)
def test_what_the_system_refuses_is_explained(error: OSError, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise error

    assert ended(fail) == 1
    assert capsys.readouterr().err.startswith(f"Error: {told}")


def test_a_bug_keeps_its_traceback() -> None:
    def fail() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ended(fail)


@pytest.mark.parametrize(("reason", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_that_nothing_else_has_heard_is_a_status(reason: str, status: int) -> None:
    def stop() -> int:
        raise Interrupted(reason)

    assert ended(stop) == status


def test_a_reader_that_has_gone_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert ended(lambda: print("to nobody") or 0) == 0
        monkeypatch.undo()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_an_error_that_cannot_be_told_still_has_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert tell(CheckpointError("Something is wrong.")) == 1
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
