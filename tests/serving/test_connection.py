"""Ends to every wait for a client, over real sockets; the times are shortened, the waits are for ever."""

import asyncio
import inspect
import logging
import resource
import threading
import time
from collections.abc import Iterator

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from nano_llm.serving import connection
from nano_llm.serving.connection import MOST_CONNECTIONS, Connection, most_connections
from nano_llm.serving.ration import Ration
from serving.servers import connected, heard, listening_app, request

SHORT, LONG = 0.3, 60.0
GET = request("/", method="GET")


class App:
    """Answers with some bytes, at once or once it is told to; keeps what became of the last request."""

    def __init__(self) -> None:
        self.num_bytes = 1
        self.num_parts = 1
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.has_begun = threading.Event()
        self.is_over = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.has_begun.set()
        while not self.may_answer.is_set():
            await asyncio.sleep(0.01)
        length = str(self.num_bytes * self.num_parts).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        for part in range(self.num_parts):
            has_more = part < self.num_parts - 1
            await send({"type": "http.response.body", "body": b"x" * self.num_bytes, "more_body": has_more})
        self.is_over.set()


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def url(app: App, caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    with listening_app(app) as url:
        yield url
    assert not [record for record in caplog.get_records("call") if record.exc_info]


@pytest.mark.parametrize("name", [name for name, of in vars(Connection).items() if inspect.isfunction(of)])
def test_what_is_done_at_a_hook_of_uvicorn_is_done_at_one_that_it_has(name: str) -> None:
    """A hook of another name would never be called, and its wait would have no end."""
    hook = getattr(H11Protocol, name, None)
    if name.startswith("_") and name != "__init__":
        assert hook is None, f"uvicorn has come to use the name {name}, which is one of ours"
    else:
        assert inspect.isfunction(hook)
        assert [*inspect.signature(hook).parameters] == [*inspect.signature(vars(Connection)[name]).parameters]


def set_seconds(monkeypatch: pytest.MonkeyPatch, *, head: float = LONG, take: float = LONG) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", head)
    monkeypatch.setattr(connection, "TAKE_SECONDS", take)


def is_answered(url: str) -> bool:
    with connected(url) as client:
        client.sendall(request("/", method="GET", headers=["Connection: close"]))
        return heard(client).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: "])
@pytest.mark.parametrize("has_asked", [False, True])
def test_the_head_of_a_request_is_not_waited_for_for_ever(
    has_asked: bool, said: bytes, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_seconds(monkeypatch, head=SHORT)
    with connected(url) as client:
        client.sendall((GET if has_asked else b"") + said)
        assert heard(client)[:12] == (b"HTTP/1.1 200" if has_asked else b"")


def test_a_head_that_trickles_has_no_more_time_than_one_that_does_not(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_seconds(monkeypatch, head=SHORT)
    with connected(url) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        client.settimeout(0.01)
        for _ in range(1000):  # far longer than it may take
            try:
                client.sendall(b"X-A: b\r\n")
                if client.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                return
    pytest.fail("it was waited for")


def test_the_rest_of_a_body_that_is_answered_has_no_more_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_seconds(monkeypatch, head=SHORT)
    with connected(url) as client:
        client.sendall(request("/", headers=["Content-Length: 1000"]) + b"x")
        assert heard(client).startswith(b"HTTP/1.1 200 ")


def test_an_answer_may_take_longer_than_a_head(app: App, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_seconds(monkeypatch, head=SHORT)
    app.may_answer.clear()
    with connected(url) as client:
        client.sendall(GET)
        assert app.has_begun.wait(LONG)
        with connected(url) as idle:
            assert heard(idle) == b""  # the time of a head is over, and that of another one too
        app.may_answer.set()
        assert client.recv(12) == b"HTTP/1.1 200"
        client.sendall(b"GET / HT")
        heard(client)  # from now on it has the time of a head again


@pytest.mark.parametrize(("num_bytes", "num_parts"), [(1 << 22, 1), (1 << 16, 64)])
def test_a_client_that_does_not_read_is_given_up(
    num_bytes: int, num_parts: int, app: App, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer of one part is over for the app, and its connection is kept to send it all the same."""
    set_seconds(monkeypatch, take=SHORT)
    app.num_bytes, app.num_parts = num_bytes, num_parts
    with connected(url) as client:
        client.sendall(GET)
        assert app.is_over.wait(LONG)
        with connected(url) as other:
            other.sendall(GET)
            assert other.recv(12) == b"HTTP/1.1 200"
        threading.Event().wait(2 * SHORT)
        assert len(heard(client)) < num_bytes * num_parts


def test_a_client_that_reads_slowly_gets_all(app: App, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_seconds(monkeypatch, take=2.0)
    app.num_bytes, app.num_parts = 1 << 16, 8
    with connected(url) as client:
        client.sendall(request("/", method="GET", headers=["Connection: close"]))
        answer = b""
        while part := client.recv(1 << 14):
            answer += part
            threading.Event().wait(0.01)
    assert answer.endswith(b"x" * (1 << 19))


def test_the_rest_of_a_body_that_is_no_http_ends_the_connection_quietly(app: App, url: str) -> None:
    """uvicorn would answer a second time, which is an error of its own."""
    with connected(url) as client:
        client.sendall(request("/", headers=["Transfer-Encoding: chunked"]))
        assert client.recv(12) == b"HTTP/1.1 200"
        client.sendall(b"no length of a chunk\r\n")
        assert b"400" not in heard(client)


def test_of_too_many_connections_the_one_that_has_waited_longest_is_ended(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(connection, "crowd_lines", Ration(6))
    set_seconds(monkeypatch)
    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 3)
    clients = [connected(url) for _ in range(20)]
    try:
        assert is_answered(url)
        for client in clients[:17]:
            assert heard(client) == b""
        for client in clients[18:]:
            client.sendall(GET)
            assert client.recv(12) == b"HTTP/1.1 200"
    finally:
        for client in clients:
            client.close()
    assert "more than 3 connections" in caplog.text
    assert caplog.text.count("more than 3 connections") < 10


def test_a_connection_with_a_request_is_not_ended_for_others(
    app: App, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_seconds(monkeypatch)
    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 1)
    app.may_answer.clear()
    with connected(url) as client:
        client.sendall(GET)
        assert app.has_begun.wait(LONG)
        with connected(url) as late:
            assert heard(late) == b""
        app.may_answer.set()
        assert client.recv(12) == b"HTTP/1.1 200"


def test_a_connection_whose_request_is_not_there_as_a_whole_is_ended_for_others(
    app: App, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_seconds(monkeypatch)
    app.may_answer.clear()
    with connected(url) as client:
        client.sendall(request("/", headers=["Content-Length: 1000"]) + b"x")
        assert app.has_begun.wait(LONG)
        monkeypatch.setattr(connection, "MOST_CONNECTIONS", 1)
        with connected(url) as late:
            late.sendall(GET)
            assert heard(client) == b""
            app.may_answer.set()
            assert late.recv(12) == b"HTTP/1.1 200"


def test_a_connection_whose_answer_is_not_read_is_ended_for_others(
    app: App, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_seconds(monkeypatch, take=2 * LONG)
    app.num_bytes, app.num_parts = 1 << 16, 64
    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 1)
    with connected(url) as client:
        client.sendall(GET)
        assert app.has_begun.wait(LONG)
        deadline = time.monotonic() + LONG
        while not is_answered(url):  # until its answer is more than the system takes
            assert time.monotonic() < deadline
        assert len(heard(client)) < app.num_bytes * app.num_parts


@pytest.mark.parametrize(
    ("soft", "most"), [(resource.RLIM_INFINITY, MOST_CONNECTIONS), (1 << 20, MOST_CONNECTIONS), (256, 128)]
)
def test_connections_leave_half_of_the_file_descriptors(soft: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, resource.RLIM_INFINITY))
    assert most_connections() == most
