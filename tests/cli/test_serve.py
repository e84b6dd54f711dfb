"""``nano-llm serve``: a server in a process of its own, asked by ``nano-llm ask`` and ended by signals."""

import http.client
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest

from nano_llm.cli.main import main

SECONDS = 120
"""What anything here may take at most; all of it takes moments."""
KEY = "a-key-of-ours"
SECRET = "great"
"""A word of a prompt, which the model knows."""


class Served:
    """A server in a process of its own."""

    def __init__(self, model: Path, *options: str, **environment: str) -> None:
        command = [sys.executable, "-m", "nano_llm.cli.main", "serve", str(model), "--device", "cpu", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        self.url = self.line.split()[2] if self.line else self.process.communicate()[1]

    @contextmanager
    def asked(
        self, method: str, path: str, body: dict[str, Any] | None = None, **headers: str
    ) -> Iterator[http.client.HTTPResponse]:
        content = None if body is None else json.dumps(body)
        headers |= {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        with closing(http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=SECONDS)) as connection:
            connection.request(method, path, content, headers)
            with connection.getresponse() as response:
                yield response

    def status(self, path: str, **headers: str) -> int:
        with self.asked("GET", path, **headers) as response:
            return response.status

    def end(self) -> tuple[int, str]:
        """Ask it to end; returns its status and what it has logged."""
        self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, log

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def served(two_heads: Path) -> Iterator[Served]:
    server = Served(two_heads, "--name", "tiny", NANO_LLM_API_KEY=KEY)
    yield server
    server.kill()


def test_it_says_where_it_is(served: Served) -> None:
    assert served.line == f"tiny at {served.url}  page: {served.url}/  interface: {served.url}/openapi.json\n"
    assert served.url.startswith("http://127.0.0.1:")
    assert served.status("/health") == served.status("/") == 200


def test_no_request_may_ask_for_more_texts_than_rows_and_queue_hold(two_heads: Path) -> None:
    """It would be told to ask again, for ever."""
    server = Served(two_heads, "--rows", "2", "--queue", "1")
    try:
        for num, status in ((4, 400), (3, 200)):
            with server.asked("POST", "/v1/completions", {"n": num, "max_tokens": 1}) as response:
                assert response.status == status
    finally:
        server.kill()


def test_it_needs_the_key_of_its_environment(
    served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NANO_LLM_API_KEY", raising=False)
    assert main(["ask", "--url", served.url]) == 1
    assert "The key is missing or wrong" in capsys.readouterr().err
    monkeypatch.setenv("NANO_LLM_API_KEY", KEY)
    assert main(["ask", "--url", served.url, "--tokens", "3"]) == 0


def test_what_is_asked_is_what_would_be_generated(
    served: Served, two_heads: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--outcome", "both", "--seed", "3"]
    assert main(["ask", "great", "--url", served.url, "--api-key", KEY, *asked, "--tokens", "6"]) == 0
    shown = capsys.readouterr().out
    # There, the tokens that a text begins with count.
    generated = ["generate", str(two_heads), "--device", "cpu", *asked, "--begin", "great", "--tokens", "7"]
    assert main(generated) == 0
    assert shown == capsys.readouterr().out.replace(", drama:", ":")
    assert shown.startswith("Y0 (negative): great ")


def test_a_whole_answer_and_an_error_are_shown_too(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = tmp_path / "body.json"
    body.write_bytes(b'\xef\xbb\xbf{"prompt": "great", "max_tokens": 3,\r\n "both_reviews": true}')
    asked = ["ask", "--url", served.url, "--api-key", KEY, "--body", str(body)]
    assert main(asked) == 0
    assert len(json.loads(capsys.readouterr().out)["choices"]) == 2
    body.write_text('{"prompt": "great", "stream": 0}')
    assert main(asked) == 1
    assert capsys.readouterr().err == "Error: stream: give true or false, not 0.\n"


def test_a_counterfactual_is_shown_as_it_comes(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = tmp_path / "body.json"
    body.write_text('{"seed": 1, "max_tokens": 5}')
    route = ["--body", str(body), "--route", "/v1/counterfactual"]
    assert main(["ask", "--url", served.url, "--api-key", KEY, *route]) == 0
    assert [text[:3] for text in capsys.readouterr().out.split("\n\n")] == ["Y0 ", "Y1 ", ""]


LONG = {"prompt": SECRET, "stream": True, "n": 16, "max_tokens": 1000, "temperature": 1.5}


def test_a_signal_ends_what_takes_longer_than_the_grace_with_an_error(two_heads: Path) -> None:
    server = Served(two_heads, "--grace", "0", "--api-key", KEY)
    try:
        with server.asked("POST", "/v1/completions", LONG) as response:
            assert response.readline().startswith(b"data: ")
            status, log = server.end()
            *_, last = response.read().decode().strip().split("\n\n")
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "shutting_down"
        assert status == 0
        assert " POST /v1/completions 200 " in log
        assert SECRET not in log
        assert KEY not in log
        assert "Traceback" not in log
    finally:
        server.kill()


def test_a_signal_lets_what_is_short_come_to_its_end(two_heads: Path) -> None:
    server = Served(two_heads, "--grace", str(SECONDS), "--api-key", KEY)
    try:
        with server.asked("POST", "/v1/completions", LONG | {"n": 1, "max_tokens": 60}) as response:
            assert response.readline().startswith(b"data: ")
            status, _ = server.end()
            assert response.read().decode().endswith("data: [DONE]\n\n")
        assert status == 0
    finally:
        server.kill()


def test_without_a_key_a_stranger_is_not_let_in_by_a_name_of_its_own(one_head: Path) -> None:
    server = Served(one_head, NANO_LLM_API_KEY="")
    try:
        assert server.status("/v1/models") == 200
        assert server.status("/v1/models", Host="evil.example") == 400
        assert server.line.startswith("best at ")
        assert server.end()[0] == 0
    finally:
        server.kill()


LOADING = """
import sys, threading
from nano_llm.cli import serve
def load(*_):
    print("loads", flush=True)
    threading.Event().wait()
serve.author_of = load
serve.main(sys.argv[1:])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_model_loads_ends_it_with_a_word(two_heads: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", LOADING, str(two_heads), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "loads\n"
            process.send_signal(number)
            _, error = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert process.returncode == -number
    assert error == f"{number.name}: ended at once, for no request was being answered.\n"


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str, status: int) -> str:
    assert main(["serve", *arguments]) == status
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    return error


def test_a_port_in_use_is_told_before_the_model_is_loaded(capsys: pytest.CaptureFixture[str], two_heads: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"Port {port} of 127.0.0.1 is in use" in refusal(capsys, str(two_heads), "--port", port, status=1)


def test_beyond_this_machine_a_key_is_needed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, two_heads: Path
) -> None:
    monkeypatch.delenv("NANO_LLM_API_KEY", raising=False)
    said = refusal(capsys, str(two_heads), "--host", "0.0.0.0", "--port", "0", status=2)
    assert "needs a key" in said
    assert "NANO_LLM_API_KEY" in said


def test_an_empty_key_is_refused(capsys: pytest.CaptureFixture[str], two_heads: Path) -> None:
    assert "--api-key is empty" in refusal(capsys, str(two_heads), "--api-key", " ", status=2)


@pytest.mark.parametrize(
    ("key", "words"), [(" ", "NANO_LLM_API_KEY is empty"), ("abc\n", "NANO_LLM_API_KEY has a character")]
)
def test_a_key_of_the_environment_is_one(
    key: str, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, two_heads: Path
) -> None:
    monkeypatch.setenv("NANO_LLM_API_KEY", key)
    said = refusal(capsys, str(two_heads), "--host", "0.0.0.0", "--port", "0", status=2)
    assert words in said
    assert "abc" not in said


def test_a_model_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "neither a run" in refusal(capsys, str(tmp_path), status=2)


def test_a_missing_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, two_heads: Path
) -> None:
    import_module = importlib.import_module

    def import_without_uvicorn(name: str) -> ModuleType:
        if name == "uvicorn":
            raise ModuleNotFoundError(name="uvicorn")
        return import_module(name)

    monkeypatch.setattr(importlib, "import_module", import_without_uvicorn)
    assert "Serving needs uvicorn: pip install 'nano-llm[serve]'" in refusal(capsys, str(two_heads), status=2)


@pytest.mark.parametrize(
    "option",
    [("--port", "65536"), ("--port", "http"), ("--rows", "0"), ("--grace", "-1"), ("--deadline", "0"), ("--name", "")],
)
def test_options_out_of_bounds_are_refused(
    option: tuple[str, str], capsys: pytest.CaptureFixture[str], two_heads: Path
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", str(two_heads), *option])
    assert caught.value.code == 2
    assert option[1] in capsys.readouterr().err


def test_half_a_body_is_answered_at_the_end_and_leaves_no_trace(two_heads: Path) -> None:
    server = Served(two_heads, "--grace", "0")
    try:
        with socket.create_connection((urlsplit(server.url).hostname, urlsplit(server.url).port), SECONDS) as client:
            head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n"
            client.sendall(f'{head}Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n{{"a"'.encode())
            assert client.recv(1000).startswith(b"HTTP/1.1 100 ")  # it waits for the rest
            server.process.send_signal(signal.SIGTERM)
            answer = b"".join(iter(lambda: client.recv(1000), b""))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"code": "shutting_down"' in answer
        status, log = server.process.wait(SECONDS), server.process.communicate()[1]
        assert status == 0
        assert "Traceback" not in log
    finally:
        server.kill()
