"""From tickets to answers: what clients hear while the engine writes, and what happens if they leave."""

import json
from collections.abc import AsyncGenerator, Callable, Sequence

from fastapi import Request

from nano_llm.errors import RequestError
from nano_llm.generation.author import Commission
from nano_llm.serving.choice import Choice, News, joined
from nano_llm.serving.engine import EngineError, Ticket
from nano_llm.serving.gauges import Gauges, Watch
from nano_llm.serving.problem import problem_of
from nano_llm.serving.service import Service
from nano_llm.serving.stream import begun_soon, frame, pieces, while_there
from nano_llm.serving.told import reason


async def service_of(request: Request) -> Service:  # were it not async, each request would take a thread for it
    """Return what the app of a request serves."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


def gauges_of(request: Request) -> Gauges:
    """Return where the app of a request counts."""
    gauges = request.app.state.gauges
    assert isinstance(gauges, Gauges)
    return gauges


def admitted(submit: Callable[[], Ticket], gauges: Gauges) -> Ticket:
    """Return a ticket, and count it if none is given.

    Raises:
        EngineError: None is.
    """
    try:
        return submit()
    except EngineError as error:
        gauges.rejected(problem_of(error).code)
        raise


async def begun(request: Request, ticket: Ticket) -> tuple[Commission, ...] | None:
    """Wait for the texts of a stream to be begun, so that an error before that has a status of its own.

    Returns:
        The texts; None if it takes so long that the client is better told that somebody is there.

    Raises:
        EngineError: They are not begun at all.
        RequestError: They cannot be.
        ClientGone: The client does not wait for them.
    """
    try:
        return await while_there(request.receive, begun_soon(ticket))
    except BaseException:
        ticket.cancel()
        raise


async def heard(
    ticket: Ticket, choices: Sequence[Choice], gauges: Gauges, watch: Watch
) -> AsyncGenerator[dict[int, News], None]:
    """Give what is new of texts that are begun, by the places of their choices; an empty step asks for a ping."""
    async for step in pieces(ticket):
        num_known = sum(len(choice.tokens) for choice in choices)
        news = {place: choices[place].hear(piece) for place, piece in sorted(step.items())}
        watch.wrote(sum(len(choice.tokens) for choice in choices) - num_known)
        for piece in step.values():
            if piece.finish is not None:
                gauges.finished(reason(piece.finish))
        yield news
    watch.over()


async def all_heard(
    request: Request, ticket: Ticket, choices: Sequence[Choice], gauges: Gauges, watch: Watch
) -> list[News]:
    """Return all that was new of each text, once all are over.

    Raises:
        EngineError: They do not come to their ends.
        ClientGone: The client does not wait for them.
    """

    async def hear() -> list[News]:
        await ticket.begun()
        news: list[list[News]] = [[] for _ in choices]
        async for step in heard(ticket, choices, gauges, watch):
            for place, one in step.items():
                news[place].append(one)
        return [joined(of_choice) for of_choice in news]

    try:
        return await while_there(request.receive, hear())
    finally:
        ticket.cancel()


async def ended_by_error(events: AsyncGenerator[bytes, None], name: str | None = None) -> AsyncGenerator[bytes, None]:
    """Give events and, if an error cuts them short, that as the last one: the status was told long ago.

    Args:
        events: The events.
        name: Of the event that tells an error, if events have names.
    """
    try:
        async for event in events:
            yield event
    except Exception as error:
        yield frame(json.dumps(problem_of(error).body()), name)
        if not isinstance(error, EngineError | RequestError):
            raise
