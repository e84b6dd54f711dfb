"""Signals as requests: noted while patient, immediate otherwise."""

import os
import signal
import subprocess
import sys

import pytest

from nano_llm.interruption import Interrupted, Interruption


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_patient_one_notes_the_first_and_raises_at_the_second(number: signal.Signals) -> None:
    with Interruption() as interruption:
        interruption.patient = True
        send(number)
        assert interruption.reason == number.name
        with pytest.raises(Interrupted):
            send(number)


def test_an_impatient_one_raises_at_once() -> None:
    with Interruption(), pytest.raises(Interrupted) as caught:
        send(signal.SIGTERM)
    assert caught.value.reason == "SIGTERM"


def test_work_done_patiently_ends_before_the_signal_counts() -> None:
    ended = []
    with Interruption() as interruption, pytest.raises(Interrupted, match="SIGTERM"):
        with interruption.patiently():
            send(signal.SIGTERM)
            ended.append("first")
        ended.append("never")
    assert ended == ["first"]
    with Interruption() as interruption, interruption.patiently():
        ended.append("undisturbed")
    assert ended == ["first", "undisturbed"]


def test_code_that_catches_exceptions_does_not_swallow_it() -> None:
    with pytest.raises(Interrupted), Interruption():
        try:
            send(signal.SIGINT)
        except Exception as error:
            raise AssertionError("swallowed") from error


def test_a_noted_request_is_raised_where_asked() -> None:
    with Interruption() as interruption:
        interruption.raise_if_requested()
        interruption.patient = True
        send(signal.SIGINT)
        with pytest.raises(Interrupted):
            interruption.raise_if_requested()


def test_the_handlers_from_before_come_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruption():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_one_that_takes_a_second_signal_for_an_echo_stays_patient() -> None:
    with Interruption(heeds_second=False) as interruption:
        interruption.patient = True
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert interruption.reason == "SIGTERM"
        interruption.patient = False
        with pytest.raises(Interrupted):
            send(signal.SIGINT)


def test_one_that_has_settled_only_notes() -> None:
    with Interruption() as interruption:
        interruption.settle()
        send(signal.SIGINT)
        send(signal.SIGTERM)
        assert interruption.reason == "SIGTERM"


def test_ignored_requests_pass_by_outside_of_an_interruption_only() -> None:
    code = (
        "import os, signal\n"
        "from nano_llm.interruption import Interrupted, Interruption, ignore_requests\n"
        "ignore_requests()\n"
        "for number in (signal.SIGINT, signal.SIGTERM): os.kill(os.getpid(), number)\n"
        "try:\n"
        "    with Interruption(): os.kill(os.getpid(), signal.SIGTERM)\n"
        "except Interrupted: print('heard')\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "print('alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["heard", "alive"])
