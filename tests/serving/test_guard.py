import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from nano_llm.serving import guard, problem
from nano_llm.serving.gauges import Gauges
from nano_llm.serving.guard import Guard
from nano_llm.serving.limits import Limits

KEY, SECOND_KEY = "a-key-of-ours", "zweiter-schlüssel"
SECRET = "the-words-of-a-prompt"
LIMITS = Limits(max_body_bytes=1000)


def gauges_of() -> Gauges:
    return Gauges(model="m", fingerprint="f", num_running=lambda: 0, num_waiting=lambda: 0)


def guarded_app(
    gauges: Gauges, *, keys: Sequence[str] = (), hosts: Sequence[str] | None = None, limits: Limits = LIMITS
) -> FastAPI:
    app = FastAPI()
    problem.install(app)
    app.add_middleware(Guard, keys=keys, hosts=hosts, limits=limits, gauges=gauges)

    @app.get("/")
    @app.get("/static/{name}")
    @app.get("/health")
    @app.get("/ready")
    @app.get("/metrics")
    async def empty() -> Response:
        return Response()

    @app.post("/texts/{name}")
    async def texts(name: str, request: Request) -> int:
        return len(await request.body())

    @app.post("/json")
    async def json_body(body: dict[str, str]) -> int:
        return len(body)

    @app.get("/bug")
    async def bug() -> None:
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            raise KeyError(SECRET) from error

    @app.get("/late-bug")
    async def late_bug() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"begun"
            raise KeyError(SECRET)

        return StreamingResponse(parts())

    return app


def client_of(*, keys: Sequence[str] = (), hosts: Sequence[str] | None = None) -> TestClient:
    app = guarded_app(gauges_of(), keys=keys, hosts=hosts)
    return TestClient(app, base_url="http://127.0.0.1:18080")


@pytest.mark.parametrize("authorization", [f"Bearer {KEY}", f"bearer  {KEY} ", f"Bearer {SECOND_KEY}"])
def test_any_of_the_keys_opens(authorization: str) -> None:
    client = client_of(keys=[KEY, SECOND_KEY])
    assert client.get("/metrics", headers={"authorization": authorization.encode()}).status_code == 200


@pytest.mark.parametrize("authorization", [None, "", KEY, f"Basic {KEY}", f"Bearer {KEY}x", "Bearer", "Bearer ä"])
@pytest.mark.parametrize("path", ["/metrics", "/texts/a", "/nothing"])
def test_a_wrong_key_opens_nothing(path: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"authorization": authorization.encode()}
    answer = client_of(keys=[KEY, SECOND_KEY]).post(path, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert answer.json()["error"]["type"] == "authentication_error"
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/health", "/ready"])
def test_the_page_and_the_state_need_no_key(path: str) -> None:
    client = client_of(keys=[KEY])
    assert client.get(path).status_code == 200
    assert client.post(path).status_code == 401


def test_without_keys_everything_is_open() -> None:
    assert client_of().post("/texts/a", content=b"abc").json() == 3


@pytest.mark.parametrize("host", ["127.0.0.1:18080", "localhost", "LOCALHOST:1", "[::1]:18080"])
def test_the_server_is_called_by_its_names(host: str) -> None:
    client = client_of(hosts=["127.0.0.1", "localhost", "[::1]"])
    assert client.get("/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:18080", "", "127.0.0.1:18080:1"])
def test_a_name_of_somebody_else_is_refused(host: str) -> None:
    answer = client_of(hosts=["127.0.0.1", "localhost"]).get("/", headers={"host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_host")


def test_without_a_list_any_name_will_do() -> None:
    assert client_of().get("/health", headers={"host": "texts.example"}).status_code == 200


def test_a_body_that_says_it_is_too_large_is_refused() -> None:
    client = client_of()
    assert client.post("/texts/a", content=b"x" * 1000).json() == 1000
    answer = client.post("/texts/a", content=b"x" * 1001)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert "at most 1000 bytes" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/texts/a", "/json"])
def test_a_body_of_undeclared_length_is_counted(path: str) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(30):
            yield b"x" * 100

    answer = client_of().post(path, content=chunks(), headers={"content-type": "application/json"})
    assert "content-length" not in answer.request.headers
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert "at most 1000 bytes" in answer.json()["error"]["message"]


@pytest.mark.parametrize("expects", [False, True])
def test_a_refused_body_is_read_within_bounds_unless_the_client_waits_to_send_it(expects: bool) -> None:
    """Else the connection would be gone before the client has read why."""
    received, sent = 0, []
    headers = [(b"content-length", b"1000000")] + ([(b"expect", b"100-continue")] if expects else [])

    async def receive() -> Message:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    async def unreachable(*_: object) -> None:
        raise AssertionError

    app = Guard(unreachable, keys=[], hosts=None, limits=LIMITS, gauges=gauges_of())
    scope: Scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 413
    assert received == (0 if expects else guard.DRAINED_BODIES + 1)


POST = {"type": "http", "method": "POST", "path": "/texts/a", "query_string": b"", "headers": [], "http_version": "1.1"}


async def for_ever(*_: object) -> Any:
    await asyncio.Event().wait()


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    sent: list[Message] = []
    chunks = [{"type": "http.request", "body": b"x", "more_body": True}]
    gauges = gauges_of()

    async def receive() -> Message:
        return chunks.pop() if chunks else await for_ever()

    async def send(message: Message) -> None:
        sent.append(message)

    app = guarded_app(gauges, limits=Limits(body_seconds=0.01))
    asyncio.run(app(POST, receive, send))
    assert (sent[0]["status"], json.loads(sent[1]["body"])["error"]["code"]) == (408, "body_too_slow")
    assert (b"connection", b"close") in sent[0]["headers"]
    assert 'nano_llm:rejected_total{reason="body_too_slow"} 1.0' in gauges.render().decode().splitlines()


def test_a_client_that_leaves_is_waited_for_as_long_as_the_answer_takes() -> None:
    """The time of the body does not bound what comes behind it."""
    has_left = asyncio.Event()
    messages: list[Message] = [{"type": "http.request", "body": b"x", "more_body": False}]
    heard: list[str] = []

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await has_left.wait()
        return {"type": "http.disconnect"}

    async def listen(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append((await receive())["type"])
        asyncio.get_running_loop().call_later(0.05, has_left.set)
        heard.append((await receive())["type"])

    app = Guard(listen, keys=[], hosts=None, limits=Limits(body_seconds=0.01), gauges=gauges_of())
    asyncio.run(app(POST, receive, for_ever))
    assert heard == ["http.request", "http.disconnect"]


def test_bodies_are_held_up_to_a_bound_and_no_longer_than_their_requests() -> None:
    client = TestClient(guarded_app(gauges_of(), limits=Limits(max_held_bytes=1000)))
    assert [client.post("/texts/a", content=b"x" * 600).status_code for _ in range(3)] == [200] * 3
    answer = client.post("/texts/a", content=b"x" * 1001)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
    assert int(answer.headers["retry-after"]) > 0
    assert client.post("/texts/a", content=b"x" * 600).status_code == 200


def test_the_body_that_is_longest_in_coming_gives_way_to_others() -> None:
    """Some bodies that trickle would keep all others out, for as long as a body may take."""
    app = guarded_app(gauges_of(), limits=Limits(max_held_bytes=1000))
    statuses: dict[str, int] = {}

    async def ask(name: str, *sizes: int, is_whole: bool = True) -> None:
        chunks = [{"type": "http.request", "body": b"x" * size, "more_body": True} for size in sizes]
        chunks[-1]["more_body"] = not is_whole

        async def receive() -> Message:
            return chunks.pop(0) if chunks else await for_ever()

        async def send(message: Message) -> None:
            statuses.setdefault(name, message.get("status", 0))

        await app(POST, receive, send)

    async def scenario() -> None:
        slow = [asyncio.create_task(ask(f"slow {place}", 400, is_whole=False)) for place in range(2)]
        for _ in range(100):  # until both wait for more
            await asyncio.sleep(0)
        await ask("quick", 100, 400)
        await slow[0]
        assert statuses == {"quick": 200, "slow 0": 503}
        await ask("quick again", 600)
        assert statuses["quick again"] == 200
        slow[1].cancel()
        await asyncio.gather(*slow, return_exceptions=True)

    asyncio.run(scenario())


def test_a_body_whose_next_part_comes_as_it_gives_way_gives_way_all_the_same() -> None:
    """What it holds is no longer counted, so it must not go on."""
    app = guarded_app(gauges_of(), limits=Limits(max_held_bytes=1000))
    statuses: dict[str, int] = {}

    async def ask(name: str, receive: Receive) -> None:
        async def send(message: Message) -> None:
            statuses.setdefault(name, message.get("status", 0))

        await app(POST, receive, send)

    async def scenario() -> None:
        first = [{"type": "http.request", "body": b"x" * 900, "more_body": True}]
        last: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        waits = asyncio.Event()

        async def receive_slow() -> Message:
            if first:
                return first.pop()
            waits.set()
            return await last

        async def receive_quick() -> Message:
            # Its task is to run on after this one, which makes it give way.
            last.set_result({"type": "http.request", "body": b"x" * 50, "more_body": False})
            return {"type": "http.request", "body": b"x" * 900, "more_body": False}

        slow = asyncio.create_task(ask("slow", receive_slow))
        await waits.wait()
        await ask("quick", receive_quick)
        await slow

    asyncio.run(scenario())
    assert statuses == {"quick": 200, "slow": 503}


def test_a_large_answer_is_sent_in_parts_that_join_to_it() -> None:
    body = bytes(range(256)) * 1000
    app = FastAPI()
    app.add_middleware(Guard, keys=[], hosts=None, limits=LIMITS, gauges=gauges_of())
    sent: list[Message] = []

    @app.get("/")
    async def large() -> Response:
        return Response(body)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter([body, body]))

    async def send(message: Message) -> None:
        sent.append(message)

    for path, expected in (("/", body), ("/stream", 2 * body)):
        sent.clear()
        asyncio.run(app(POST | {"method": "GET", "path": path}, for_ever, send))
        _, *parts = sent
        assert b"".join([part["body"] for part in parts]) == expected
        assert max(len(part["body"]) for part in parts) <= guard.PART_BYTES
        assert [part["more_body"] for part in parts] == [True] * (len(parts) - 1) + [False]


def test_a_body_of_two_lengths_is_refused_and_its_connection_closed() -> None:
    headers = {"content-length": "3", "transfer-encoding": "chunked"}
    answer = client_of().post("/texts/a", content=b"abc", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ambiguous_length")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("ends", [False, True])
def test_who_guesses_keys_fills_no_log_and_is_told_of(
    ends: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many lines were left out is told in time, and when the process ends before."""
    caplog.set_level(logging.INFO, logger="nano_llm")
    monkeypatch.setattr(guard, "WINDOW_SECONDS", 60.0 if ends else 0.0)
    scope: Scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": []}

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def take(*_: object) -> None:
        pass

    async def guess() -> None:
        app = Guard(take, keys=[KEY], hosts=None, limits=LIMITS, gauges=gauges_of())
        for _ in range(guard.MOST_KEY_LINES + 7):
            await app(scope, receive, take)
        assert caplog.text.count(" GET - 401 ") == guard.MOST_KEY_LINES
        await app(scope | {"headers": [(b"authorization", f"Bearer {KEY}".encode())]}, receive, take)
        assert caplog.text.count(f" GET - {guard.GONE} ") == 1
        assert "more requests" not in caplog.text
        if ends:
            await app({"type": "lifespan"}, receive, take)
        else:
            await asyncio.sleep(0.01)  # one turn of the loop

    asyncio.run(guess())
    assert "7 more requests had no key or a wrong one" in caplog.text
    assert caplog.text.count("more requests") == 1


@pytest.mark.parametrize("has_begun", [False, True])
def test_an_answer_that_nobody_reads_is_cut_off(
    has_begun: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(guard, "LAST_WORDS_SECONDS", 0.01)
    sent: list[Message] = []

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if has_begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await for_ever()

    async def send(message: Message) -> None:
        sent.append(message)

    app = Guard(answer, keys=[], hosts=None, limits=Limits(seconds=0, body_seconds=0), gauges=gauges_of())
    asyncio.run(app(POST, for_ever, send))
    assert [message.get("status") for message in sent] == ([200] if has_begun else [504, None])
    assert "is cut off" in caplog.text


@pytest.mark.parametrize("path", ["/", "/bug", "/nothing", "/metrics"])
def test_every_answer_has_security_headers_and_an_id(path: str) -> None:
    headers = client_of().get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"])


def test_an_id_of_the_client_is_kept_where_it_is_one() -> None:
    client = client_of(keys=[KEY])
    assert client.get("/", headers={"x-request-id": "job-7.a_b"}).headers["x-request-id"] == "job-7.a_b"
    assert client.get("/metrics", headers={"x-request-id": "job-8"}).headers["x-request-id"] == "job-8"
    for odd in ("a b", "x" * 65, "né".encode(), 'a"b'):
        assert len(client.get("/", headers={"x-request-id": odd}).headers["x-request-id"]) == 32


def test_an_answer_is_one_line_of_log_without_keys_paths_or_prompts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="nano_llm")
    client = client_of(keys=[KEY])
    headers = {"authorization": f"Bearer {KEY}", "x-request-id": "job-1"}
    client.post(f"/texts/{SECRET}?prompt={SECRET}", content=SECRET, headers=headers)
    client.get(f"/{SECRET}", headers=headers)
    client.post(f"/texts/{SECRET}", headers={"authorization": f"Bearer {SECRET}", "x-request-id": "job-2"})
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("nano_llm")]
    assert re.fullmatch(r"job-1 POST /texts/\{name\} 200 \d+ ms", lines[0])
    assert re.fullmatch(r"job-1 GET - 404 \d+ ms", lines[1])
    assert re.fullmatch(r"job-2 POST - 401 \d+ ms", lines[2])
    assert SECRET not in "".join(lines)
    assert KEY not in "".join(lines)


def test_a_bug_leaves_its_trace_but_no_words_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    answer = client_of().get("/bug", headers={"x-request-id": "job-3"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    failure = next(record.getMessage() for record in caplog.records if record.levelno == logging.ERROR)
    assert "job-3" in failure
    assert re.search("KeyError.*in bug.*from ValueError.*in bug", failure, re.DOTALL)
    assert SECRET not in caplog.text
    assert SECRET not in answer.text


def test_a_bug_in_the_middle_of_an_answer_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    answer = client_of().get("/late-bug")
    assert (answer.status_code, answer.text) == (200, "begun")
    assert "KeyError" in caplog.text
    assert SECRET not in caplog.text


def test_answers_and_refusals_are_counted() -> None:
    gauges = gauges_of()
    client = TestClient(guarded_app(gauges, keys=[KEY]))
    client.get("/static/page.js")
    client.post("/texts/a")
    client.post("/texts/a", content=b"x" * 1001, headers={"authorization": f"Bearer {KEY}"})
    lines = gauges.render().decode().splitlines()
    assert 'nano_llm:requests_total{code="200",route="/static/{name}"} 1.0' in lines
    assert 'nano_llm:requests_total{code="401",route="-"} 1.0' in lines
    assert 'nano_llm:rejected_total{reason="invalid_api_key"} 1.0' in lines
    assert 'nano_llm:rejected_total{reason="body_too_large"} 1.0' in lines


def test_a_request_that_was_never_answered_is_counted_as_gone(caplog: pytest.LogCaptureFixture) -> None:
    gauges = gauges_of()

    async def gone(*_: object) -> None:
        raise ClientDisconnect

    async def unreachable(*_: object) -> Message:
        raise AssertionError

    app = Guard(gone, keys=[], hosts=None, limits=LIMITS, gauges=gauges)
    scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(app(scope, unreachable, unreachable))
    assert f'nano_llm:requests_total{{code="{guard.GONE}",route="-"}} 1.0' in gauges.render().decode().splitlines()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("has_begun", [False, True])
def test_an_answer_that_the_end_of_the_process_cuts_off_ends_quietly(has_begun: bool) -> None:
    sent: list[Message] = []
    is_busy = asyncio.Event()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if has_begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        is_busy.set()
        await for_ever()

    async def send(message: Message) -> None:
        sent.append(message)

    async def cut_off() -> None:
        app = Guard(answer, keys=[], hosts=None, limits=LIMITS, gauges=gauges_of())
        task = asyncio.ensure_future(app(POST, for_ever, send))
        await is_busy.wait()
        task.cancel()
        await task

    asyncio.run(cut_off())
    assert [message.get("status") for message in sent] == ([200] if has_begun else [503, None])
    if not has_begun:
        assert json.loads(sent[1]["body"])["error"]["code"] == "shutting_down"
