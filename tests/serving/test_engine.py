"""The engine: texts of many clients side by side, and what becomes of those that cannot be finished."""

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from nano_llm.errors import RequestError
from nano_llm.generation.author import Author, Commission
from nano_llm.generation.piece import Piece
from nano_llm.generation.request import CounterfactualRequest, Request, Wanted
from nano_llm.generation.writer import Draft, Finish, Order
from nano_llm.serving import engine as engine_module
from nano_llm.serving.engine import Closing, Engine, ModelFailed, Overdue, Overloaded, Ticket
from serving.authors import gated, open_author

LONG = 1000.0  # seconds
PATIENCE = 30.0
NUM_ROWS, NUM_WAITING = 4, 6

Result = TypeVar("Result")
Beginning = Generator[None, None, list[Draft]]


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


def test_a_request_ends_when_its_time_is_over_waiting_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    author = shared_author()

    async def scenario() -> None:
        with gated(author) as gate:
            async with running(author) as engine:
                slow = engine.submit(asked(0, num_texts=2), seconds=LONG)
                late = engine.submit(asked(1), seconds=LONG)
                patient = engine.submit(asked(2), seconds=10 * LONG)
                await slow.begun()
                later = time.monotonic() + 2 * LONG
                monkeypatch.setattr(engine_module, "time", SimpleNamespace(monotonic=lambda: later))
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
        assert not engine.is_alive
        assert not engine.is_open
        with pytest.raises(ModelFailed):
            engine.submit(author.commissions(Request(num_texts=1)), seconds=LONG)
        engine.close()

    run(scenario)
    assert re.search("has died: RuntimeError(.|\n)*in broken", caplog.text)


def test_all_clients_are_told_if_nothing_of_the_writer_works_any_more(caplog: pytest.LogCaptureFixture) -> None:
    author = open_author("model=tarnet", num_rows=2)
    is_lost = threading.Event()

    def broken(*_: object) -> Any:
        is_lost.wait()
        raise RuntimeError("the device is lost")

    async def scenario() -> None:
        author.writer.step = author.writer.cancel = broken  # type: ignore[method-assign]
        engine = Engine(author, num_waiting=6)
        engine.start()
        begun, *others = (engine.submit(author.commissions(Request(seed=seed)), seconds=LONG) for seed in range(4))
        await begun.begun()
        is_lost.set()
        with pytest.raises(ModelFailed):
            await texts_of_begun(begun)
        for ticket in others:
            with pytest.raises(ModelFailed):
                await ticket.begun()
        assert (engine.is_alive, engine.is_open, engine.num_running, engine.num_waiting) == (False, False, 0, 0)
        engine.close()

    run(scenario)
    assert "has died" in caplog.text


def test_an_error_at_the_beginning_of_a_text_is_none_of_those_that_begin_with_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    author = shared_author()
    beginning = author.writer.beginning
    bad = asked(1)

    def failing(orders: Sequence[Order]) -> Beginning:
        if any(order == bad[0].order for order in orders):
            raise RuntimeError("no such prompt")
        return (yield from beginning(orders))

    async def scenario() -> None:
        with gated(author) as gate:
            async with running(author) as engine:
                monkeypatch.setattr(author.writer, "beginning", failing)
                tickets = [engine.submit(commissions, seconds=LONG) for commissions in (asked(0), bad, asked(2))]
                gate.open()
                for ticket in (tickets[0], tickets[2]):
                    assert len(await texts_of(ticket)) == 2
                with pytest.raises(ModelFailed):
                    await texts_of(tickets[1])

    run(scenario)


def test_texts_that_are_written_wait_for_no_more_than_some_long_beginnings(monkeypatch: pytest.MonkeyPatch) -> None:
    author = open_author("model=tarnet", num_rows=8)
    long = "the plot is dull. " * 110  # 550 tokens
    begins = [f"{long}{word}" for word in ("the", "plot", "is")]
    commissions = [one for begin in begins for one in author.commissions(Request(begin=begin, num_tokens=552))]
    sizes: list[int] = []
    beginning = author.writer.beginning

    def noting(orders: Sequence[Order]) -> Beginning:
        sizes.append(len(orders))
        return beginning(orders)

    async def scenario() -> None:
        async with running(author) as engine:
            monkeypatch.setattr(author.writer, "beginning", noting)
            assert len(await texts_of(engine.submit(commissions, seconds=LONG))) == 6

    run(scenario)
    assert sizes == [2, 2, 2]  # a pair is read once


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_texts_are_written_while_a_long_beginning_is_read(is_cancelled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    author = open_author("model=tarnet", num_rows=4)
    running_text = author.commissions(Request(num_tokens=1000, seed=7, wanted=Wanted.mixture))
    long = author.commissions(Request(begin="the plot is dull. " * 110, num_tokens=560, wanted=Wanted.both))
    expected = written(author, long)
    beginning, step = author.writer.beginning, author.writer.step
    tickets: list[Ticket] = []
    done: list[str] = []

    def noting(orders: Sequence[Order]) -> Beginning:
        is_long = orders[0] == long[0].order
        parts = beginning(orders)
        try:
            while True:
                done.append("part" if is_long else "")
                if done.count("part") == 3 and is_cancelled:
                    tickets[1].cancel()
                try:
                    next(parts)
                except StopIteration as end:
                    return end.value
                yield
        finally:
            parts.close()

    def stepping() -> list[Draft]:
        done.append("step")
        return step()

    async def scenario() -> None:
        async with running(author) as engine:
            monkeypatch.setattr(author.writer, "beginning", noting)
            monkeypatch.setattr(author.writer, "step", stepping)
            tickets.append(engine.submit(running_text, seconds=LONG))
            await tickets[0].begun()
            await anext(tickets[0])  # it is being written: the long one is begun after it, not with it
            tickets.append(engine.submit(long, seconds=LONG))
            if is_cancelled:
                await until(lambda: engine.num_waiting == 0)
            else:
                assert await texts_of(tickets[1]) == expected
            tickets[0].cancel()
            await until(lambda: engine.num_running == 0)

    run(scenario)
    parts = [place for place, what in enumerate(done) if what == "part"]
    if is_cancelled:
        assert len(parts) == 3
    else:
        assert len(parts) > 10
    assert all("step" in done[one:other] for one, other in pairwise(parts))


def test_one_review_is_looked_at_between_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    author = open_author("model=tarnet", num_rows=4)
    done: list[str] = []
    counterfactuals, step = author.counterfactuals, author.writer.step
    monkeypatch.setattr(author, "counterfactuals", lambda asked: done.append("review") or counterfactuals(asked))

    def noting() -> list[Draft]:
        done.append("step")
        return step()

    monkeypatch.setattr(author.writer, "step", noting)
    request = CounterfactualRequest("the plot is dull.", 0, num_draws=1, num_tokens=30)

    async def scenario() -> None:
        async with running(author) as engine:
            tickets = [engine.submit_review(request, seconds=LONG) for _ in range(3)]
            await asyncio.gather(*map(texts_of, tickets))

    run(scenario)
    reviews = [place for place, what in enumerate(done) if what == "review"]
    assert len(reviews) == 3
    assert all("step" in done[one:other] for one, other in pairwise(reviews))


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
