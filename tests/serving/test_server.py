"""Addresses here; a server's life in a process of its own, as signals end it."""

import http.client
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from nano_llm.errors import RequestError, ServingError
from nano_llm.serving.server import bind, names_of, url_of

SECONDS = 60
"""What anything here may take at most; all of it takes moments."""

SERVER = """
import asyncio, logging, sys
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from nano_llm.serving.server import bind, serve, url_of

class Engine:  # writes a word for ever, until it is told to end
    def __init__(self):
        self.has_ended = asyncio.Event()
    def start(self):
        print("started", flush=True)
    def drain(self, seconds):
        print(f"drains {seconds:g}", flush=True)
        if seconds < 60:
            self.has_ended.set()
    def close(self):
        print("closed", flush=True)

engine, app = Engine(), FastAPI()

@app.get("/words")
async def words():
    async def parts():
        while not engine.has_ended.is_set():
            yield b"word "
            await asyncio.sleep(0.01)
        yield b"last"
    return StreamingResponse(parts())

logging.basicConfig(level=logging.INFO)
listener = bind("127.0.0.1", 0, has_key=False)
serve(app, engine, listener, grace_seconds=float(sys.argv[1]), announce=lambda: print(url_of(listener), flush=True))
"""


class Running:
    """A server that writes words, and one client that has read the first of them."""

    def __init__(self, grace_seconds: int) -> None:
        command = [sys.executable, "-c", SERVER, str(grace_seconds)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.line() == "started"
        self.address = self.line().removeprefix("http://")
        self.connection = http.client.HTTPConnection(self.address, timeout=SECONDS)
        self.connection.request("GET", "/words")
        self.response = self.connection.getresponse()
        assert self.response.read(5) == b"word "

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    server = Running(request.param)
    yield server
    server.end()


@pytest.mark.parametrize("running", [7], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_answers_end_and_the_status_is_0(running: Running, number: signal.Signals) -> None:
    running.process.send_signal(number)
    assert running.response.read().endswith(b"word last")
    out, err = running.process.communicate(timeout=SECONDS)
    assert running.process.returncode == 0
    assert out.splitlines() == ["drains 7", "closed"]
    assert "Traceback" not in err
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(tuple(running.address.split(":")), timeout=SECONDS)


@pytest.mark.parametrize("running", [3600], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_server_at_once(running: Running, number: signal.Signals) -> None:
    running.process.send_signal(number)
    assert running.line() == "drains 3600"
    running.process.send_signal(number)
    assert running.process.wait(timeout=SECONDS) == -number


def test_a_free_port_is_found_and_told() -> None:
    with bind("127.0.0.1", 0, has_key=False) as listener:
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert names_of(listener) == ("localhost", "127.0.0.1", "[::1]", "127.0.0.1")


def test_a_server_at_all_addresses_tells_one_that_works() -> None:
    with bind("0.0.0.0", 0, has_key=True) as listener:
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_name_with_addresses_of_both_kinds_is_bound_to_the_older_one() -> None:
    with bind("localhost", 0, has_key=False) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_a_taken_port_is_told() -> None:
    with bind("127.0.0.1", 0, has_key=False) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(ServingError, match=f"Port {port} of 127.0.0.1 is in use. Give another --port"):
            bind("127.0.0.1", port, has_key=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_server_that_others_reach_needs_a_key(host: str) -> None:
    with pytest.raises(RequestError, match="needs a key"):
        bind(host, 0, has_key=False)


def test_a_server_with_a_key_may_be_reached_by_any_name() -> None:
    with bind("0.0.0.0", 0, has_key=True) as listener:
        assert names_of(listener) is None


@pytest.mark.parametrize("host", ["nowhere.example", "a" * 64])
def test_an_unknown_host_is_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = socket.getaddrinfo

    def find_offline(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "nowhere.example":
            raise socket.gaierror
        return find(name, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", find_offline)
    with pytest.raises(RequestError, match="there is no such host"):
        bind(host, 0, has_key=True)


def test_a_host_of_another_machine_is_refused() -> None:
    with pytest.raises(RequestError, match="this machine has no such address"):
        bind("192.0.2.1", 0, has_key=True)
