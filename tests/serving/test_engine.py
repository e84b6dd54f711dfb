"""The engine: texts of many clients side by side, and what becomes of those that cannot be finished."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import TypeVar

import pytest

from nano_llm.errors import RequestError
from nano_llm.generation.author import Author, Commission
from nano_llm.generation.piece import Piece
from nano_llm.generation.request import CounterfactualRequest, Request
from nano_llm.generation.writer import Finish
from nano_llm.serving.engine import Closing, Engine, ModelFailed, Overdue, Overloaded, Ticket
from serving.authors import gated, open_author

LONG = 1000.0  # seconds
PATIENCE = 30.0
NUM_ROWS, NUM_WAITING = 4, 6

Result = TypeVar("Result")


@cache
def shared_author() -> Author:
    return open_author("model=tarnet", num_rows=NUM_ROWS)


@asynccontextmanager
async def running(author: Author, num_waiting: int = NUM_WAITING) -> AsyncIterator[Engine]:
    engine = Engine(author, num_waiting=num_waiting)
    engine.start()
    try:
        yield engine
    finally:
        engine.close()
        assert not engine.is_alive
        assert (engine.num_running, engine.num_waiting) == (0, 0)
        assert author.writer.num_free == author.writer.contexts.num_free == author.writer.contexts.num_rows


def run(scenario: Callable[[], Awaitable[Result]]) -> Result:
    async def bounded() -> Result:
        async with asyncio.timeout(PATIENCE):
            return await scenario()

    return asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def texts_of(ticket: Ticket) -> list[tuple[str, Finish]]:
    commissions = await ticket.begun()
    told: dict[int, list[Piece]] = {place: [] for place in range(len(commissions))}
    async for pieces in ticket:
        for place, piece in pieces.items():
            told[place].append(piece)
    return [joined(told[place]) for place in range(len(commissions))]


def joined(pieces: Sequence[Piece]) -> tuple[str, Finish]:
    *rest, last = pieces
    assert all(piece.finish is None for piece in rest)
    assert last.finish is not None
    return "".join([token.text for piece in pieces for token in piece.tokens]) + last.tail, last.finish


def written(author: Author, commissions: Sequence[Commission]) -> list[tuple[str, Finish | None]]:
    return [(draft.text, draft.finish) for draft in author.write(commissions)]


def asked(seed: int, num_texts: int = 1, num_tokens: int = 40) -> list[Commission]:
    return shared_author().commissions(Request(num_texts=num_texts, num_tokens=num_tokens, seed=seed))


def test_texts_are_those_of_the_author_whatever_is_written_beside_them() -> None:
    author = shared_author()
    requests = [asked(seed, num_texts=1 + seed % 3, num_tokens=10 + 20 * (seed % 2)) for seed in range(7)]
    expected = [written(author, commissions) for commissions in requests]

    async def scenario() -> list[list[tuple[str, Finish]]]:
        async with running(author, num_waiting=100) as engine:
            tickets = [engine.submit(commissions, seconds=LONG) for commissions in requests]
            return await asyncio.gather(*map(texts_of, tickets))

    assert run(scenario) == expected


def test_what_begins_with_given_tokens_shows_them_first() -> None:
    author = shared_author()
    commissions = author.commissions(Request(num_tokens=1, begin="the plot is dull."))
    expected = written(author, commissions)

    async def scenario() -> list[tuple[str, Finish]]:
        async with running(author) as engine:
            return await texts_of(engine.submit(commissions, seconds=LONG))

    assert run(scenario) == expected


def test_a_review_gets_the_counterfactuals_of_the_author() -> None:
    author = shared_author()
    request = CounterfactualRequest("the plot is dull. the acting is superb.", 0, num_draws=3, num_tokens=12)
    expected = written(author, author.counterfactuals(request))

    async def scenario() -> list[tuple[str, Finish]]:
        async with running(author) as engine:
            return await texts_of(engine.submit_review(request, seconds=LONG))

    assert run(scenario) == expected


def test_a_review_that_the_model_cannot_have_written_is_refused_and_others_go_on() -> None:
    author = shared_author()

    async def scenario() -> None:
        async with running(author) as engine:
            ticket = engine.submit_review(CounterfactualRequest("xylophones", 0), seconds=LONG)
            with pytest.raises(RequestError, match="xylophones"):
                await ticket.begun()
            assert await texts_of(engine.submit(asked(0), seconds=LONG))

    run(scenario)


def test_admission_counts_texts_and_is_atomic() -> None:
    author = shared_author()

    async def scenario() -> None:
        with gated(author) as gate:
            async with running(author) as engine:
                first = engine.submit(asked(0, num_texts=4), seconds=LONG)  # pairs: eight texts of ten places
                with pytest.raises(Overloaded):
                    engine.submit(asked(1, num_texts=2), seconds=LONG)
                second = engine.submit(asked(1), seconds=LONG)
                with pytest.raises(Overloaded):
                    engine.submit(asked(2), seconds=LONG)
                await first.begun()
                await until(lambda: engine.num_running == NUM_ROWS)
                assert engine.num_waiting == NUM_WAITING
                gate.open()
                await texts_of(second)
                await until(lambda: engine.num_running == engine.num_waiting == 0)
                engine.submit(asked(3, num_texts=5), seconds=LONG).cancel()

    run(scenario)


def test_what_is_cancelled_frees_its_places_and_leaves_the_others_alone() -> None:
    author = shared_author()
    kept = asked(5, num_tokens=60)
    expected = written(author, kept)

    async def scenario() -> None:
        with gated(author) as gate:
            async with running(author) as engine:
                leaving = engine.submit(asked(1), seconds=LONG)
                staying = engine.submit(kept, seconds=LONG)
                waiting = engine.submit(asked(2), seconds=LONG)
                await leaving.begun()
                await until(lambda: engine.num_running == NUM_ROWS)
                gate.let(3)
                await anext(leaving)
                leaving.cancel()
                waiting.cancel()
                waiting.cancel()
                gate.let(2)
                await until(lambda: (engine.num_running, engine.num_waiting) == (2, 0))
                gate.open()
                assert await texts_of(staying) == expected

    run(scenario)


def test_a_ticket_may_be_cancelled_after_all_is_over() -> None:
    author = shared_author()

    async def scenario() -> None:
        async with running(author) as engine:
            ticket = engine.submit(asked(0, num_tokens=2), seconds=LONG)
            await texts_of(ticket)
            ticket.cancel()
            assert await texts_of(engine.submit(asked(1, num_tokens=2), seconds=LONG))
            assert (engine.num_running, engine.num_waiting) == (0, 0)

    run(scenario)


def test_hundreds_of_abandoned_requests_leave_nothing_behind() -> None:
    author = shared_author()

    async def scenario() -> None:
        async with running(author, num_waiting=500) as engine:
            num_threads = threading.active_count()
            for seed in range(200):
                ticket = engine.submit(asked(seed, num_tokens=1000), seconds=LONG)
                if seed % 2:
                    await ticket.begun()
                ticket.cancel()
            quick = engine.submit(asked(0, num_tokens=3), seconds=LONG)
            assert len(await texts_of(quick)) == 2
            assert (engine.num_running, engine.num_waiting) == (0, 0)
            assert threading.active_count() == num_threads

    run(scenario)


def test_a_request_ends_when_its_time_is_over_waiting_or_not() -> None:
    author = shared_author()

    async def scenario() -> None:
        with gated(author) as gate:
            async with running(author) as engine:
                slow = engine.submit(asked(0, num_texts=2), seconds=0.05)
                late = engine.submit(asked(1), seconds=0.05)
                patient = engine.submit(asked(2), seconds=LONG)
                await slow.begun()
                await asyncio.sleep(0.06)
                gate.open()
                with pytest.raises(Overdue):
                    async for _ in slow:
                        pass
                with pytest.raises(Overdue):
                    await late.begun()
                assert await texts_of(patient)

    run(scenario)


def test_waiting_for_news_may_be_given_up_and_begun_again() -> None:
    author = shared_author()
    commissions = asked(0)
    expected = written(author, commissions)

    async def scenario() -> list[tuple[str, Finish]]:
        with gated(author) as gate:
            async with running(author) as engine:
                ticket = engine.submit(commissions, seconds=LONG)
                told: list[list[Piece]] = [[], []]
                await ticket.begun()
                for _ in range(3):
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(anext(ticket), 0.01)
                gate.open()
                async for pieces in ticket:
                    for place, piece in pieces.items():
                        told[place].append(piece)
                return [joined(pieces) for pieces in told]

    assert run(scenario) == expected


def test_draining_finishes_what_can_be_and_ends_the_rest() -> None:
    author = shared_author()

    async def scenario() -> None:
        with gated(author) as gate:
            async with running(author) as engine:
                short = engine.submit(asked(0, num_tokens=2), seconds=LONG)
                endless = engine.submit(asked(1, num_tokens=10_000), seconds=LONG)
                waiting = engine.submit(asked(2), seconds=LONG)
                await short.begun()
                await endless.begun()
                engine.drain(LONG)
                assert not engine.is_open
                with pytest.raises(Closing):
                    engine.submit(asked(3), seconds=LONG)
                gate.let(2)
                assert len(await texts_of_begun(short)) == 2
                engine.drain(0)
                gate.open()
                with pytest.raises(Closing):
                    async for _ in endless:
                        pass
                with pytest.raises(Closing):
                    await texts_of(waiting)

    run(scenario)


async def texts_of_begun(ticket: Ticket) -> set[int]:
    return {place async for pieces in ticket for place in pieces}


def test_closing_ends_everything() -> None:
    author = shared_author()

    async def scenario() -> None:
        with gated(author) as gate:
            engine = Engine(author, num_waiting=NUM_WAITING)
            engine.start()
            tickets = [engine.submit(asked(seed, num_tokens=1000), seconds=LONG) for seed in range(4)]
            await tickets[0].begun()
            closing = asyncio.create_task(asyncio.to_thread(engine.close))
            await until(lambda: not engine.is_open)
            gate.open()
            await closing
            for ticket in tickets[1:]:
                with pytest.raises(Closing):
                    await texts_of(ticket)
            with pytest.raises(Closing):
                engine.submit(asked(0), seconds=LONG)

    run(scenario)


def test_an_error_of_the_model_ends_what_was_being_written_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    author = shared_author()
    step = author.writer.step
    failures = [RuntimeError("out of memory")]

    def failing_once() -> object:
        if failures:
            raise failures.pop()
        return step()

    async def scenario() -> None:
        async with running(author) as engine:
            monkeypatch.setattr(author.writer, "step", failing_once)
            tickets = [engine.submit(asked(seed, num_texts=2), seconds=LONG) for seed in range(2)]
            with pytest.raises(ModelFailed):
                await texts_of(tickets[0])
            assert len(await texts_of(tickets[1])) == 4
            assert engine.is_open

    run(scenario)
    assert "RuntimeError" in caplog.text
    assert "failing_once" in caplog.text
    assert "out of memory" not in caplog.text  # an error may quote a prompt


def test_an_engine_whose_thread_has_died_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    author = open_author("model=tarnet", num_rows=1)

    def broken(_: object) -> int:
        raise RuntimeError("a bug")

    async def scenario() -> None:
        engine = Engine(author, num_waiting=1)
        engine.start()
        assert engine.is_open
        monkeypatch.setattr(type(author.writer), "num_free", property(broken))
        ticket = engine.submit(author.commissions(Request(num_texts=1)), seconds=LONG)
        with pytest.raises(ModelFailed):
            await ticket.begun()
        await until(lambda: not engine.is_alive)
        assert not engine.is_open
        with pytest.raises(Closing):
            engine.submit(author.commissions(Request(num_texts=1)), seconds=LONG)

    run(scenario)
    assert re.search("has died: RuntimeError(.|\n)*in broken", caplog.text)


def test_what_was_asked_on_a_loop_that_is_gone_is_given_up() -> None:
    author = shared_author()
    engine = Engine(author, num_waiting=NUM_WAITING)
    engine.start()

    async def leave() -> None:
        await engine.submit(asked(0, num_tokens=10_000), seconds=LONG).begun()

    run(leave)

    async def scenario() -> None:
        await until(lambda: engine.num_running == 0)
        assert await texts_of(engine.submit(asked(1), seconds=LONG))

    run(scenario)
    engine.close()
