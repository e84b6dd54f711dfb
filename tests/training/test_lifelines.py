"""Lifelines: every way in which the far end may go is told apart."""

import queue
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nano_llm.training.lifelines import End, Lifelines, Lines, tie
from nano_llm.training.place import Place

SECONDS = 30.0


def tied(size: int) -> list[Lines]:
    """Tie the lines of so many processes, all of them in this one."""
    addresses: queue.Queue[tuple[int, str]] = queue.Queue()

    def told_to_others(address: tuple[int, str]) -> tuple[int, str]:
        for _ in range(size - 1):
            addresses.put(address)
        return address

    def as_rank(rank: int) -> Lines:
        told = (lambda _: addresses.get(timeout=SECONDS)) if rank else told_to_others
        return tie(Place(rank, size, rank), "localhost", told, SECONDS)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(as_rank, range(size)))


class Process:
    """The lifelines of one process of the test, and what they have called out."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.heard: list[End] = []
        self.lifelines = Lifelines(lines, self.heard.append)
        self.lifelines.start()

    def die(self) -> None:
        """Go as a killed process does: the system closes the sockets."""
        for line in self.lines.values():
            line.shutdown(socket.SHUT_RDWR)


def test_a_process_that_goes_without_a_word_is_known_by_its_rank() -> None:
    zero, one, two = map(Process, tied(3))
    two.die()
    assert zero.lifelines.failure(SECONDS) == End(2, None)
    zero.lifelines.leave("Rank 2 has gone")
    assert one.lifelines.failure(SECONDS) == End(0, "Rank 2 has gone")
    for process in (one, two):
        process.lifelines.leave("")
    assert zero.heard == [End(2, None)]


def test_rank_0_hears_why_another_one_has_failed_once() -> None:
    zero, one, two = map(Process, tied(3))
    one.lifelines.leave("no data in /data é")
    assert zero.lifelines.failure(SECONDS) == End(1, "no data in /data é")
    two.lifelines.leave("neither here")
    zero.lifelines.leave("")
    assert zero.heard == [End(1, "no data in /data é")]


def test_leaving_in_good_order_alarms_nobody_but_those_whom_rank_0_leaves() -> None:
    zero, one, two = map(Process, tied(3))
    one.lifelines.leave("")
    assert zero.lifelines.failure(0.2) is None
    zero.lifelines.leave("")
    assert two.lifelines.failure(SECONDS) == End(0, "")
    two.lifelines.leave("")
    assert not one.heard


def test_whoever_leaves_hears_no_more() -> None:
    zero, one = map(Process, tied(2))
    zero.lifelines.leave("")
    one.die()
    one.lifelines.leave("")
    assert not zero.heard
    assert zero.lifelines.left(0)


def test_whoever_ignores_the_others_has_met_no_failure() -> None:
    zero, one, two = map(Process, tied(3))
    two.die()
    assert zero.lifelines.failure(SECONDS) == End(2, None)
    assert not zero.lifelines.left(0)
    zero.lifelines.ignore()
    assert zero.lifelines.failure() is None
    assert zero.lifelines.left(0), "whoever waits to end this process need not"
    one.die()
    zero.lifelines.leave("")
    assert zero.heard == [End(2, None)]
    for process in (one, two):
        process.lifelines.leave("")


def test_no_line_is_watched_before_the_start() -> None:
    """What is called at a failure may need what is made after the lines are tied."""
    zero, one = tied(2)
    heard: list[End] = []
    watching = Lifelines(zero, heard.append)
    one[0].close()
    assert watching.failure(0.2) is None
    watching.start()
    assert watching.failure(SECONDS) == End(1, None)
    watching.leave("")
    assert heard == [End(1, None)]


def test_strangers_who_keep_calling_do_not_put_off_the_end_of_the_meeting() -> None:
    address: queue.Queue[tuple[int, str]] = queue.Queue()

    def call_on_and_on() -> bool:
        """Return whether the door was shut in the end."""
        port, _ = address.get(timeout=SECONDS)
        began = time.monotonic()
        while time.monotonic() - began < SECONDS:
            try:
                with socket.create_connection(("localhost", port)) as stranger:
                    stranger.sendall(b"x")
                    stranger.shutdown(socket.SHUT_WR)
                    stranger.recv(1)
            except OSError:
                return True
        return False

    def told(mine: tuple[int, str]) -> tuple[int, str]:
        address.put(mine)
        return mine

    with ThreadPoolExecutor(1) as pool:
        shut = pool.submit(call_on_and_on)
        with pytest.raises(TimeoutError):
            tie(Place(0, 2, 0), "localhost", told, 0.5)
        assert shut.result()


def test_a_stranger_at_the_port_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes first, says something, and gets no rank; the one who knows the token does."""
    asked = threading.Event()
    addresses: queue.Queue[tuple[int, str]] = queue.Queue()

    def told(address: tuple[int, str]) -> tuple[int, str]:
        port, _ = address
        with socket.create_connection(("localhost", port)) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: node-0\r\n\r\n")
        addresses.put(address)
        asked.set()
        return address

    with ThreadPoolExecutor(1) as pool:
        lines = pool.submit(tie, Place(0, 2, 0), "localhost", told, SECONDS)
        assert asked.wait(SECONDS)
        mine = tie(Place(1, 2, 1), "localhost", lambda _: addresses.get(timeout=SECONDS), SECONDS)
        theirs = lines.result(SECONDS)
    assert set(theirs) == {1}
    mine[0].sendall(b"x")
    assert theirs[1].recv(1) == b"x"
    for line in (mine[0], theirs[1]):
        line.close()


def test_a_process_that_never_comes_is_given_up() -> None:
    with pytest.raises(TimeoutError):
        tie(Place(0, 2, 0), "localhost", lambda address: address, 0.2)
