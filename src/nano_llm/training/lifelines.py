"""Lifelines: a socket between rank 0 and each other process of a job, which tells how the far end has ended.

The system closes a socket in whatever way its process ends, so a death is known at once and by its rank, also while
this process waits for something that will never come. Who leaves on purpose says so first:

    a zero byte                       leaves in good order
    a zero byte and a text in UTF-8   has failed, for this reason
    nothing                           was killed, or has lost its machine
"""

import contextlib
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nano_llm.training.place import Place

MARK = b"\0"
TOKEN_BYTES = 16
GREETING_SECONDS = 5.0
"""What a caller may take to say who it is; the port is open to strangers, too, while the lines are tied."""


Lines = Mapping[int, socket.socket]


@dataclass(frozen=True)
class End:
    """How a process has ended."""

    rank: int
    words: str | None
    """Why it failed; empty when it left in good order, None when it said nothing."""


class Lifelines:
    """The lines of one process, watched by a thread from `start` until `leave`."""

    def __init__(self, lines: Lines, on_failure: Callable[[End], None]) -> None:
        """Hold lines, and watch none yet.

        Args:
            lines: By the rank at their far end. That of rank 0 may not end before this process has left; from the
                others only an end that is no good order is a failure.
            on_failure: Called once, in the thread that watches, at the first failure.
        """
        self._lines = dict(lines)
        self._on_failure = on_failure
        self._failure: End | None = None
        self._failed, self._leaving = threading.Event(), threading.Event()
        self._ignoring = False
        self._verdict = threading.Lock()
        for line in self._lines.values():
            _keep_alive(line)
        self._thread = threading.Thread(target=self._watch, name="lifelines", daemon=True)

    def start(self) -> None:
        """Begin to watch: from here on ``on_failure`` may be called."""
        self._thread.start()

    def ignore(self) -> None:
        """Take no end for a failure any more, one that was noted already included; say nothing to the far ends."""
        with self._verdict:
            self._ignoring, self._failure = True, None
        self._leaving.set()

    def failure(self, seconds: float = 0.0) -> End | None:
        """Return the first failure, waiting so long for the news of it; None if there is none."""
        self._failed.wait(seconds)
        return self._failure

    def leave(self, words: str) -> None:
        """Tell the far ends that this process ends, and why if it has failed; watch no longer."""
        self._leaving.set()
        for line in self._lines.values():
            # The far end may be gone already.
            with contextlib.suppress(OSError):
                line.sendall(MARK + words.encode())
                line.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for line in self._lines.values():
            line.close()

    def left(self, seconds: float) -> bool:
        """Tell whether this process has begun to leave, or ignores how others end, waiting so long for it."""
        return self._leaving.wait(seconds)

    def _watch(self) -> None:
        heard = dict.fromkeys(self._lines, b"")
        with selectors.DefaultSelector() as selector:
            for rank, line in self._lines.items():
                selector.register(line, selectors.EVENT_READ, rank)
            while selector.get_map():
                for key, _ in selector.select():
                    rank = key.data
                    if part := _received(self._lines[rank]):
                        heard[rank] += part
                    else:
                        selector.unregister(self._lines[rank])
                        self._note(End(rank, heard[rank][1:].decode(errors="replace") if heard[rank] else None))

    def _note(self, end: End) -> None:
        with self._verdict:
            if self._ignoring or self._leaving.is_set() or self._failed.is_set() or (end.rank and end.words == ""):
                return
            self._failure = end
        self._failed.set()
        self._on_failure(end)


def tie(place: Place, host: str, told: Callable[[tuple[int, str]], tuple[int, str]], seconds: float) -> Lines:
    """Connect rank 0 and every other process; return this one's sockets by the rank at their far end.

    Args:
        place: Of this process.
        host: The machine of rank 0.
        told: Returns on every process what rank 0 gives to it.
        seconds: Until a process that does not come is given up.

    Raises:
        OSError: The others cannot be reached, or do not come in time.
    """
    if place.rank:
        port, token = told((0, ""))
        line = socket.create_connection((host, port), timeout=seconds)
        line.sendall(bytes.fromhex(token) + place.rank.to_bytes(4))
        line.settimeout(None)
        return {0: line}
    token = secrets.token_hex(TOKEN_BYTES)
    lines: dict[int, socket.socket] = {}
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    with socket.create_server(("", 0), family=family, dualstack_ipv6=both) as server:
        told((server.getsockname()[1], token))
        # One for all: however many strangers call, they put nothing off.
        deadline = time.monotonic() + seconds
        while len(lines) < place.size - 1:
            server.settimeout(_until(deadline))
            line, _ = server.accept()
            greeting = _greeting(line, min(deadline, time.monotonic() + GREETING_SECONDS))
            if secrets.compare_digest(greeting[:TOKEN_BYTES], bytes.fromhex(token)):
                line.settimeout(None)
                lines[int.from_bytes(greeting[TOKEN_BYTES:])] = line
            else:
                line.close()
    return lines


def _greeting(line: socket.socket, deadline: float) -> bytes:
    """Return the token and the rank that a caller gives until a time of the clock; less, if it is a stranger."""
    greeting = b""
    with contextlib.suppress(OSError):
        while len(greeting) < TOKEN_BYTES + 4:
            line.settimeout(_until(deadline))
            if not (part := line.recv(TOKEN_BYTES + 4 - len(greeting))):
                break
            greeting += part
    return greeting


def _until(deadline: float) -> float:
    """Return the seconds that are left until a time of the clock.

    Raises:
        TimeoutError: None are.
    """
    if (seconds := deadline - time.monotonic()) <= 0:
        raise TimeoutError("timed out")
    return seconds


def _received(line: socket.socket) -> bytes:
    """Return what has come over a line; nothing when it has ended."""
    try:
        return line.recv(4096)
    except OSError:
        return b""


def _keep_alive(line: socket.socket) -> None:
    """Let the system notice within half a minute that the far machine has lost its power or its network."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
