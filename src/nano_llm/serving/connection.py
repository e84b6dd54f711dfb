"""A client's connection: how long it may keep the server waiting, and how many of them there may be.

uvicorn waits for ever for the head of a request, for the rest of a body that it has answered, and for a client to take
what it was sent. Each such wait holds a file descriptor, and what was sent holds memory.
"""

import asyncio
import logging
import resource
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from nano_llm.serving.ration import Ration

HEAD_SECONDS = 30.0
"""What the head of a request may take, from the connection's beginning or from the end of its last answer."""
TAKE_SECONDS = 60.0
"""What a client may take until all that it was sent is on its way. `Guard` sends parts of some 64 KiB, so that a
client that takes 2 KiB a second is served."""
MOST_CONNECTIONS = 1024
"""More than the texts that are written and wait; each has a head of 16 KiB at most that is not complete."""

log = logging.getLogger(__name__)
crowd_lines = Ration(6)
"""Of the log, which all servers of a process share, for connections that are too many."""


def most_connections() -> int:
    """Return how many connections there may be: half of the file descriptors are left for all else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, soft // 2)


class Connection(H11Protocol):
    """HTTP as uvicorn speaks it, with an end to every wait for the client.

    Where there are too many connections, of those that wait for their client the one that has waited longest is ended:
    that is an idle one, or a client that trickles or does not read, and hardly ever one that has come to ask.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.waits_since = self.loop.time()
        self._head_due: asyncio.TimerHandle | None = None
        self._take_due: asyncio.TimerHandle | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a request is being read or answered."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def waits(self) -> bool:
        """Whether it waits for its client: for a request, for the rest of one, or until what it was sent is taken."""
        return not self.is_busy or self.cycle.more_body or self.flow.write_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that every wait for the client is told
        self._wait_for_head()
        self._end_what_is_too_much()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        for due in (self._head_due, self._take_due):
            if due is not None:
                due.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self._wait_for_head()

    def pause_writing(self) -> None:
        """Begin to wait for the client to take what it was sent."""
        super().pause_writing()
        self.waits_since = self.loop.time()
        self._take_due = self.loop.call_later(TAKE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that it has taken all."""
        super().resume_writing()
        if self._take_due is not None:
            self._take_due.cancel()

    def send_400_response(self, msg: str) -> None:
        """Tell a client that what it has sent is no HTTP, unless it is the rest of what was answered already."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def _wait_for_head(self) -> None:
        self.waits_since = self.loop.time()
        if self._head_due is not None:
            self._head_due.cancel()
        self._head_due = self.loop.call_later(HEAD_SECONDS, self._end_unless_busy)

    def _end_unless_busy(self) -> None:
        if not self.is_busy:
            self.transport.abort()

    def _end_what_is_too_much(self) -> None:
        most = most_connections()
        if len(self.connections) <= most:
            return
        if crowd_lines.take():
            log.warning("There are more than %d connections: those that wait for their clients are ended.", most)
        waiting = [
            connection
            for connection in self.connections
            if isinstance(connection, Connection) and connection.waits and not connection.transport.is_closing()
        ]
        min(waiting, key=lambda connection: connection.waits_since).transport.abort()
