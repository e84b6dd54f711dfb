"""Events, and what becomes of texts whose client has left."""

import asyncio
import gc
import http.client
import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient
from starlette.types import Message

from nano_llm.generation.writer import Draft
from nano_llm.serving import stream
from nano_llm.serving.app import create_app
from nano_llm.serving.engine import Engine, Ticket
from nano_llm.serving.service import Service
from nano_llm.serving.stream import EventStream, frame, while_there
from serving.authors import gated, open_author
from serving.servers import LIMITS, listening, served

BODY = {"max_tokens": 64, "seed": 1, "n": 2}
PATHS = ["/v1/completions", "/v1/chat/completions", "/v1/counterfactual"]


def body_of(path: str, *, is_streamed: bool) -> dict[str, Any]:
    if path == "/v1/counterfactual":
        return {"max_tokens": 64, "seed": 1}
    messages = {"messages": [{"role": "user"}]} if "chat" in path else {}
    return BODY | messages | {"stream": is_streamed}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def post(url: str, path: str, body: dict[str, Any]) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    return connection


def num_cancelled(service: Service, url: str) -> float:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    connection.request("GET", "/metrics")
    figures = connection.getresponse().read().decode()
    connection.close()
    (line,) = [line for line in figures.splitlines() if line.startswith("nano_llm:cancelled_total")]
    return float(line.rsplit(" ", 1)[1])


def test_an_event_is_one_line_of_data() -> None:
    assert frame('{"text": "\\n"}') == b'data: {"text": "\\n"}\n\n'
    assert frame("{}", "end") == b"event: end\ndata: {}\n\n"


@pytest.mark.parametrize("path", PATHS)
def test_texts_end_when_the_client_of_their_stream_leaves(path: str) -> None:
    author = open_author("model=tarnet")
    with served(author) as service, listening(service) as url, gated(author) as gate:
        connection = post(url, path, body_of(path, is_streamed=True))
        answer = connection.getresponse()
        gate.let(2)
        assert answer.readline()
        wait_until(lambda: service.engine.num_running == 2)
        answer.close()
        connection.close()
        wait_until(lambda: num_cancelled(service, url) == 1)
        gate.let(1)
        wait_until(lambda: service.engine.num_running == service.engine.num_waiting == 0)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_texts_end_when_the_client_that_waits_for_the_whole_leaves(path: str) -> None:
    author = open_author("model=tarnet")
    with served(author) as service, listening(service) as url, gated(author) as gate:
        connection = post(url, path, body_of(path, is_streamed=False))
        assert gate.num_begun.acquire(timeout=30)
        assert service.engine.num_running == 2
        connection.close()
        wait_until(lambda: num_cancelled(service, url) == 1)
        gate.let(1)
        wait_until(lambda: service.engine.num_running == 0)


@pytest.mark.parametrize("path", PATHS)
def test_texts_that_wait_are_given_up_when_their_client_leaves(path: str) -> None:
    author = open_author("model=tarnet", num_rows=2)
    with served(author) as service, listening(service) as url, gated(author) as gate:
        running = post(url, "/v1/completions", BODY)
        assert gate.num_begun.acquire(timeout=30)
        waiting = post(url, path, body_of(path, is_streamed=True))
        wait_until(lambda: service.engine.num_waiting == 2)
        waiting.close()
        wait_until(lambda: num_cancelled(service, url) == 1)
        gate.let(1)
        wait_until(lambda: service.engine.num_waiting == 0)
        assert service.engine.num_running == 2
        gate.open()
        assert running.getresponse().status == 200
        running.close()


def test_a_client_that_waits_is_told_that_somebody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PING_SECONDS", 0.05)
    author = open_author("model=tarnet", num_rows=2)
    with served(author) as service, listening(service) as url, gated(author) as gate:
        running = post(url, "/v1/completions", BODY)
        assert gate.num_begun.acquire(timeout=30)
        for path in PATHS:
            waiting = post(url, path, body_of(path, is_streamed=True))
            answer = waiting.getresponse()
            assert answer.status == 200
            assert [answer.readline() for _ in range(4)] == [b": ping\n", b"\n"] * 2
            waiting.close()
        streamed = post(url, "/v1/completions", BODY | {"stream": True, "n": 1})
        answer = streamed.getresponse()
        gate.open()
        whole = answer.read()
        assert whole.startswith(b": ping\n\n")
        assert whole.endswith(b"data: [DONE]\n\n")
        streamed.close()
        assert running.getresponse().status == 200
        running.close()


@pytest.mark.parametrize("path", PATHS)
def test_an_error_in_the_middle_is_the_last_event(path: str, caplog: pytest.LogCaptureFixture) -> None:
    author = open_author("model=tarnet")
    with served(author) as service, listening(service) as url, gated(author) as gate:
        connection = post(url, path, body_of(path, is_streamed=True))
        answer = connection.getresponse()
        gate.let(1)
        first = answer.readline()
        author.writer._choose = lambda draft: 1 / 0  # type: ignore[method-assign, assignment]
        gate.open()
        rest = (first + answer.read()).decode()
        connection.close()
        *_, last, nothing = rest.split("\n\n")
        assert nothing == ""
        assert "[DONE]" not in rest
        name, data = ("event: error\n", last.split("\n")[1]) if "counterfactual" in path else ("", last)
        assert last == name + data
        error = json.loads(data.removeprefix("data: "))["error"]
        assert (error["type"], error["code"]) == ("server_error", "internal_error")


def test_a_response_that_nobody_reads_gives_up_its_texts() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield b"never"

    async def respond() -> list[bool]:
        left: list[bool] = []
        ticket = Ticket(lambda: None)
        response = EventStream(events(), ticket, lambda: left.append(True))

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            await asyncio.Event().wait()

        await response({"type": "http"}, receive, send)
        return [*left, ticket.is_cancelled]

    assert asyncio.run(respond()) == [True, True]


def test_work_is_cancelled_when_its_client_leaves() -> None:
    async def work(ended: list[str]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    async def leave() -> list[str]:
        ended: list[str] = []

        async def receive() -> Message:
            await asyncio.sleep(0)
            return {"type": "http.disconnect"}

        with pytest.raises(stream.ClientGone):
            await while_there(receive, work(ended))
        return ended

    assert asyncio.run(leave()) == ["ended"]


def test_an_error_of_the_engine_before_a_stream_has_a_status() -> None:
    author = open_author("model=tarnet")
    engine = Engine(author, num_waiting=1)
    with served(author) as service:
        client = TestClient(create_app(replace(service, engine=engine)))
        for path in PATHS:
            answer = client.post(path, json=body_of(path, is_streamed=True))
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
            assert answer.headers["content-type"] == "application/json"


def test_two_hundred_streams_that_are_cut_off_leave_nothing_behind() -> None:
    """And then a short request is answered, as if they had not been."""
    author = open_author("model=tarnet", num_rows=8)

    async def read(port: int, body: dict[str, Any], num_lines: int | None) -> bytes:
        """Ask for a stream, and leave after some lines of it; None reads all."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        content = json.dumps(body | {"stream": True}).encode()
        lines = ["POST /v1/completions HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(content)}", "Connection: close", "", ""]
        writer.write("\r\n".join(lines).encode() + content)
        answer = await reader.read() if num_lines is None else b""
        for _ in range(num_lines or 0):
            answer += await reader.readline()
        writer.close()
        return answer

    async def cut_off(service: Service, port: int) -> bytes:
        long, short = {"max_tokens": 10_000}, {"max_tokens": 2}
        await read(port, short, None)  # whatever the first answer makes is there from now on
        num_threads, tasks = threading.active_count(), asyncio.all_tasks()
        for wave in range(10):
            # Some before the first token, some in the middle.
            await asyncio.gather(*(read(port, long | {"seed": seed}, 14 * (wave % 2)) for seed in range(20)))
        while service.engine.num_running or service.engine.num_waiting or asyncio.all_tasks() - tasks:
            await asyncio.sleep(0.01)
        assert threading.active_count() == num_threads
        return await read(port, short, None)

    async def serve_and_cut_off(service: Service) -> bytes:
        config = uvicorn.Config(create_app(service), ws="none", lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server._serve([listener]))
            try:
                async with asyncio.timeout(60):
                    return await cut_off(service, listener.getsockname()[1])
            finally:
                server.should_exit = True
                await serving

    limits = replace(LIMITS, max_tokens=10_000)
    with served(author, limits=limits, num_waiting=300) as service:
        answer = asyncio.run(serve_and_cut_off(service))
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    gc.collect()
    # By type: some objects of libraries warn when they are asked for their class.
    left = [kept for kept in gc.get_objects() if type(kept) in (Ticket, Draft, EventStream)]
    assert left == []
