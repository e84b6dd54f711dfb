"""The life of a server: a socket, answers, and an orderly end."""

import errno
import logging
import math
import signal
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from nano_llm.errors import RequestError, ServingError
from nano_llm.serving.connection import Connection, most_connections
from nano_llm.serving.engine import Engine
from nano_llm.serving.ration import Ration

LAST_WORDS_SECONDS = 5
"""What clients are given to read their last words, once the grace is over."""
OF_ALL = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""What stands for all addresses of a machine, where nothing can be asked -> its own loopback address."""

log = logging.getLogger(__name__)
foreign_lines = Ration(60)
"""Warnings of uvicorn and asyncio, a minute: each request that is no HTTP is one, and many a client that leaves.

All servers of a process share it, as they share the loggers."""


def bind(host: str, port: int, *, has_key: bool) -> socket.socket:
    """Take an address and a port, on which nothing is answered yet.

    Args:
        host: A name or an address of this machine.
        port: 0 takes a free one.
        has_key: Whether clients will need a key. Without one, none but this machine is answered.

    Raises:
        RequestError: The host is unknown, of another machine, or needs a key.
        ServingError: The port is taken, or not for this user.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise RequestError(f"--host {host}: there is no such host. Give 127.0.0.1, or an address of yours.") from error
    # IPv4 before IPv6, for names that have both.
    family, _, _, _, address = min(found, key=lambda place: place[0] is not socket.AF_INET)
    if not has_key and not _is_loopback(address[0]):
        raise RequestError(
            f"--host {host}: others could reach the server there, so it needs a key. Set NANO_LLM_API_KEY or give "
            "--api-key, or leave out --host."
        )
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise RequestError(f"--host {host}: this machine has no such address. Give one that it has.") from error
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
        raise ServingError(f"Port {port} of {host} {reason}. Give another --port; 0 takes a free one.") from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Return where this machine reaches a bound socket."""
    host, port = listener.getsockname()[:2]
    host = OF_ALL.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def names_of(listener: socket.socket) -> Sequence[str] | None:
    """Return the names by which browsers of this machine call a server, and None if others can reach it."""
    address = listener.getsockname()[0]
    if not _is_loopback(address):
        return None
    own = f"[{address}]" if ":" in address else address
    return ("localhost", "127.0.0.1", "[::1]", own)


def configure(app: ASGIApp, grace_seconds: float) -> uvicorn.Config:
    """Return how a server of an app behaves towards its clients.

    Args:
        app: What answers.
        grace_seconds: As of `serve`.
    """
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(_may_be_logged)
    return uvicorn.Config(
        app,
        loop="asyncio",
        http=Connection,
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,  # it has paths and what is asked of them
        server_header=False,
        proxy_headers=False,
        backlog=most_connections() // 2,  # so many may be accepted at once, before one of them is ended
        timeout_graceful_shutdown=math.ceil(grace_seconds) + LAST_WORDS_SECONDS,
    )


def serve(
    app: ASGIApp, engine: Engine, listener: socket.socket, *, grace_seconds: float, announce: Callable[[], None]
) -> None:
    """Answer until SIGINT or SIGTERM; to be called from the main thread.

    The first signal lets the running answers end, for `grace_seconds` at most; the second one ends the process.

    Args:
        app: What answers, by means of the engine.
        engine: Not started yet; closed at the end.
        listener: Of `bind`.
        grace_seconds: What running answers are given after the signal; those that are not over end with an error.
        announce: Called once requests are taken.
    """
    engine.start()
    try:
        _Server(configure(app, grace_seconds), engine, grace_seconds, announce).run([listener])
    finally:
        engine.close()


class _Server(uvicorn.Server):
    """Lets the engine end what runs before connections are cut, and takes a signal for a wish, not for a failure."""

    def __init__(
        self, config: uvicorn.Config, engine: Engine, grace_seconds: float, announce: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._engine = engine
        self._grace_seconds = grace_seconds
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("Shutting down; running answers have %g s. Another signal ends them at once.", self._grace_seconds)
        self._engine.drain(self._grace_seconds)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # The original notes the signal and raises it again at the end, so that the process would seem to have failed.
        if self.should_exit:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        self.should_exit = True


def _may_be_logged(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING or foreign_lines.take()


def _is_loopback(address: str | int) -> bool:
    return ip_address(str(address).partition("%")[0]).is_loopback
