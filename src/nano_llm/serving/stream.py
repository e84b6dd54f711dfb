"""Answers as server-sent events, and clients that leave before the end.

An event is a line ``data: {...}``, before it a line ``event: step`` if it has a name, and behind it an empty line.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from nano_llm.generation.author import Commission
from nano_llm.generation.piece import Piece
from nano_llm.serving.engine import Ticket

Result = TypeVar("Result")

PING_SECONDS = 15.0
"""After which a client, and whatever stands between, is told that nothing has happened."""
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


def frame(content: str, event: str | None = None) -> bytes:
    """Return an event whose content is JSON, so of one line."""
    name = "" if event is None else f"event: {event}\n"
    return f"{name}data: {content}\n\n".encode()


async def while_there(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Return what work comes to, unless the client leaves first.

    Args:
        receive: Of the request, whose body was read.
        work: Is cancelled when the client leaves.

    Raises:
        ClientGone: It has.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def begun_soon(ticket: Ticket) -> tuple[Commission, ...] | None:
    """Wait until texts are begun, but no longer than `PING_SECONDS`; returns what they are, or None."""
    try:
        async with asyncio.timeout(PING_SECONDS):
            return tuple(await ticket.begun())
    except TimeoutError:
        return None


async def pieces(ticket: Ticket) -> AsyncGenerator[dict[int, Piece], None]:
    """Give what comes of texts that are begun; nothing, as an empty dictionary, whenever `PING_SECONDS` have passed."""
    while True:
        try:
            async with asyncio.timeout(PING_SECONDS):
                news = await anext(ticket)
        except TimeoutError:
            news = {}
        except StopAsyncIteration:
            return
        yield news


class EventStream(StreamingResponse):
    """A response of events, at whose end the ticket is cancelled, come what may.

    A generator that nobody has begun to read runs none of its code, so it cannot do that itself.

    Args:
        events: The events.
        ticket: Of the texts that they tell.
        on_gone: Called if the client leaves before their end.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], ticket: Ticket, on_gone: Callable[[], None]) -> None:
        super().__init__(events, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._events = events
        self._ticket = ticket
        self._on_gone = on_gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until the last one, or until the client leaves."""
        try:
            async with aclosing(self._events):
                await while_there(receive, self.stream_response(send))
        except ClientGone:
            self._on_gone()
        finally:
            self._ticket.cancel()
