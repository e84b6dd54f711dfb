"""Clients that mean harm, or that are broken: over real sockets, against a server of a tiny model.

After each of them the server answers as before, nothing is left of its requests, and its log has no traceback, no key
and no prompt. What a connection may keep the server waiting for is in test_connection.
"""

import gc
import json
import logging
import re
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.request import Request, urlopen

import pytest

from nano_llm.serving import connection, guard
from nano_llm.serving.service import Service
from serving.servers import LIMITS, connected, heard, listening, open_byte_author, request, served

KEY, SECRET = "a-key-of-ours", "the-words-of-a-prompt"
BODY_SECONDS = 2.0
AUTHORIZATION = f"Authorization: Bearer {KEY}"
JSON = ["Content-Type: application/json", AUTHORIZATION]
NUM_STREAMED = 32
"""Texts whose tokens, with all that can be told of them, are far more than a system takes unread."""
NUM_CLIENTS = 50
"""Of each kind, after which no object may be left that each of them has had."""
OF_CLIENTS = {"nano_llm", "uvicorn", "h11", "starlette", "fastapi", "torch", "_asyncio"}
"""Packages of which a client has objects: connections, requests, tickets, tensors, tasks."""


class Lines(logging.Handler):
    """What is logged, as a terminal would show it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@dataclass(frozen=True)
class Victim:
    service: Service
    url: str
    log: Lines

    def send(self, content: bytes) -> bytes:
        """Send something, and hear all until the connection ends."""
        with connected(self.url) as client:
            with suppress(ConnectionError):  # it may be refused before its end
                client.sendall(content)
            return heard(client)

    def post(self, body: object, path: str = "/v1/completions") -> tuple[int, str]:
        """Send a body; returns the status and the code of the error."""
        answer = self.send(request(path, body, headers=[AUTHORIZATION, "Connection: close"]))
        head, _, content = answer.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        return status, "" if status == 200 else json.loads(content)["error"]["code"]

    def gauge(self, name: str) -> float:
        asked = Request(f"{self.url}/metrics", headers={"Authorization": f"Bearer {KEY}"})
        with urlopen(asked, timeout=30) as answer:
            figures = answer.read().decode()
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in figures.splitlines() if line.startswith(f"nano_llm:{name}")
        )

    @property
    def is_idle(self) -> bool:
        return self.gauge("requests_running") == self.gauge("requests_waiting") == 0


@pytest.fixture(scope="module")
def running() -> Iterator[Victim]:
    limits = replace(LIMITS, body_seconds=BODY_SECONDS, max_texts=NUM_STREAMED)
    log = Lines()
    logging.getLogger().addHandler(log)
    log_of_server = logging.getLogger("nano_llm")
    level = log_of_server.level
    log_of_server.setLevel(logging.INFO)
    with served(open_byte_author("model=tarnet"), limits=limits) as service, listening(service, keys=[KEY]) as url:
        yield Victim(service, url, log)
    log_of_server.setLevel(level)
    logging.getLogger().removeHandler(log)


@pytest.fixture
def victim(running: Victim) -> Iterator[Victim]:
    """A server that is sound afterwards, whatever is done to it."""
    running.log.lines.clear()
    yield running
    with urlopen(f"{running.url}/health", timeout=30) as answer:
        assert answer.status == 200
    assert running.post({"prompt": SECRET, "max_tokens": 2}) == (200, "")
    wait_until(lambda: running.is_idle)
    writer = running.service.author.writer
    assert writer.num_free == writer.contexts.num_free == writer.contexts.num_rows
    text = "\n".join(running.log.lines)
    assert "Traceback" not in text
    assert KEY not in text
    assert SECRET not in text


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ------------------------------------------------------------------------------------------------------- slow clients


def test_a_slow_head_keeps_nobody_waiting(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.5)
    clients = [connected(victim.url) for _ in range(50)]
    for client in clients:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nX-A")
    assert victim.post({"max_tokens": 2}) == (200, "")
    for client in clients:
        assert heard(client) == b""
        client.close()


def test_a_slow_body_is_refused_after_its_time(victim: Victim) -> None:
    head = request("/v1/completions", headers=[*JSON, "Content-Length: 100"])
    clients = [connected(victim.url) for _ in range(20)]
    for client in clients:
        client.sendall(head + b'{"prompt": ')
    assert victim.post({"max_tokens": 2}) == (200, "")
    for client in clients:
        assert b'"code": "body_too_slow"' in heard(client)
        client.close()


def test_a_stream_that_nobody_reads_is_given_up_and_so_are_its_texts(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "TAKE_SECONDS", 0.5)
    num_cancelled = victim.gauge("cancelled_total")
    body = {"n": NUM_STREAMED, "stream": True, "logprobs": 20, "max_tokens": 64, "seed": 1}
    with connected(victim.url) as client:
        client.sendall(request("/v1/completions", body, headers=[AUTHORIZATION]))
        assert client.recv(12) == b"HTTP/1.1 200"
        assert victim.post({"max_tokens": 2}) == (200, "")
        wait_until(lambda: victim.gauge("cancelled_total") == num_cancelled + 1)
        wait_until(lambda: victim.is_idle)
        assert b"[DONE]" not in heard(client)


def test_many_idle_connections_keep_nobody_out(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 40)
    clients = [connected(victim.url) for _ in range(200)]
    assert victim.post({"max_tokens": 2}) == (200, "")
    for client in clients:
        client.close()


def test_many_slow_bodies_of_refused_requests_keep_nobody_out(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "DRAIN_SECONDS", 60.0)
    num_refused = victim.gauge("rejected_total")
    clients = [connected(victim.url) for _ in range(40)]
    for client in clients:
        client.sendall(request("/v1/completions", headers=["Content-Length: 100"]) + b"{")
    wait_until(lambda: victim.gauge("rejected_total") == num_refused + 40)
    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 40)
    assert victim.post({"max_tokens": 2}) == (200, "")
    for client in clients:
        client.close()


# ---------------------------------------------------------------------------------------------------- what is left over


def living() -> Counter[str]:
    """Count, by type, the objects of which a client of the server may have some."""
    gc.collect()
    types = map(type, gc.get_objects())
    return Counter(of.__name__ for of in types if str(of.__module__).partition(".")[0] in OF_CLIENTS)


def test_no_object_is_left_of_a_client(victim: Victim) -> None:
    """The load of `make torture` looks at the memory of the process, in which a small leak is not seen for long."""

    def come_and_go() -> None:
        assert victim.post({"prompt": SECRET, "max_tokens": 2, "n": 2}) == (200, "")
        assert victim.post({"max_tokens": "many"}) == (400, "invalid_value")
        assert b" 401 " in victim.send(request("/v1/completions", {}, headers=["Connection: close"]))
        for body in (request("/v1/completions", {"stream": True, "max_tokens": 60}, headers=[AUTHORIZATION]),
                     request("/v1/completions", headers=[*JSON, "Content-Length: 100"]) + b"{"):  # fmt: skip
            with connected(victim.url) as client:  # which leaves in the middle
                client.sendall(body)

    for _ in range(5):
        come_and_go()
    wait_until(lambda: victim.is_idle)
    before = living()
    for _ in range(NUM_CLIENTS):
        come_and_go()
    wait_until(lambda: victim.is_idle)
    grown = living() - before
    assert not {name: number for name, number in grown.items() if number >= NUM_CLIENTS}


# ------------------------------------------------------------------------------------------------ what is hardly HTTP


def is_refused_or_ended(answer: bytes) -> bool:
    return answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "content",
    [
        request("/health", method="GET", headers=[f"X-A: {'a' * 100_000}"]),
        request("/health", method="GET", headers=[f"X-{n}: {'a' * 100}" for n in range(1000)]),
        request(f"/{'a' * 100_000}", method="GET"),
    ],
    ids=["one of 100 kB", "a thousand", "a path of 100 kB"],
)
def test_a_flood_of_headers_is_no_request(victim: Victim, content: bytes) -> None:
    """Sent in two parts, so that it is not there as a whole at once."""
    with connected(victim.url) as client:
        with suppress(ConnectionError):
            client.sendall(content[:60_000])
            time.sleep(0.1)
            client.sendall(content[60_000:])
        assert is_refused_or_ended(heard(client))


def test_a_thousand_short_headers_are_read_or_refused(victim: Victim) -> None:
    headers = [*(f"X-{n}: a" for n in range(1000)), "Connection: close"]
    answer = victim.send(request("/health", method="GET", headers=headers))
    assert answer.startswith(b"HTTP/1.1 200 ") or is_refused_or_ended(answer)


def hello() -> bytes:
    """What a client of TLS says first."""
    sent = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


@pytest.mark.parametrize(
    "content",
    [
        hello(),
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /ü HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
        b"\0" * 1000 + b"\r\n\r\n",
    ],
    ids=["TLS", "0.9", "no host", "two hosts", "NUL", "a space", "NUL in the path", "not ASCII", "NULs"],
)
def test_what_is_no_http_is_told_so(victim: Victim, content: bytes) -> None:
    assert is_refused_or_ended(victim.send(content))


def test_the_first_words_of_http_2_open_nothing(victim: Victim) -> None:
    answer = victim.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert set(re.findall(rb"HTTP/1.1 (\d+)", answer)) <= {b"400", b"401"}


def test_a_wish_for_a_websocket_is_no_more_than_a_request(victim: Victim) -> None:
    headers = ["Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: YQ==", "Sec-WebSocket-Version: 13"]
    with connected(victim.url) as client:
        client.sendall(request("/health", method="GET", headers=headers))
        assert client.recv(12) == b"HTTP/1.1 200"


def test_garbage_behind_a_request_harms_only_itself(victim: Victim) -> None:
    answer = victim.send(request("/health", method="GET") + b"\x01garbage\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"400"]


def test_a_hundred_requests_at_once_are_answered_one_after_the_other(victim: Victim) -> None:
    last = request("/health", method="GET", headers=["Connection: close"])
    answer = victim.send(request("/health", method="GET") * 99 + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 100


SMUGGLED = request("/v1/models", method="GET", headers=[AUTHORIZATION])


@pytest.mark.parametrize(
    "lengths",
    [
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5, 6"],
        ["Content-Length: -5"],
        ["Content-Length: +5"],
        ["Content-Length: 0x5"],
        [f"Content-Length: {'9' * 50}"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: gzip"],
        ["Transfer-Encoding : chunked"],
    ],
    ids=" and ".join,
)
def test_no_request_is_smuggled_in_behind_another_one(victim: Victim, lengths: list[str]) -> None:
    """A proxy and the server would have to agree on where a body ends, so there is nothing behind one in doubt."""
    answer = victim.send(request("/v1/completions", headers=[*JSON, *lengths]) + b"0\r\n\r\n" + SMUGGLED)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"object":"list"' not in answer
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_body_whose_chunks_are_none_is_told_so(victim: Victim) -> None:
    head = request("/v1/completions", headers=[*JSON, "Transfer-Encoding: chunked"])
    assert is_refused_or_ended(victim.send(head + b"no length\r\n{}"))


# -------------------------------------------------------------------------------------------------- bodies and numbers

DEEP = 60_000


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\xfd",
        b'{"prompt": "\xff"}',
        b'{"prompt": "a\0b"}',
        b"\0",
        b"[" * DEEP,
        b"[" * DEEP + b"]" * DEEP,
        b'{"nano_llm": ' * DEEP + b"1" + b"}" * DEEP,
        b'{"prompt": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"max_tokens": 1' + b"0" * 100_000 + b"}",
        b'{"max_tokens": 1' + b"0" * 400 + b"}",
        b'{"temperature": 1e999}',
        b'{"temperature": -1e999}',
        b'{"temperature": NaN}',
        b'{"temperature": Infinity}',
        b'{"seed": 1e300}',
        b'{"seed": 1e-400, "max_tokens": "1"}',
        b'{"n": 9223372036854775808}',
        b'{"logprobs": 99999999999999999999}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": ["a", "\\udfff\\ud800"]}',
        b'{"stop": "\\ud800"}',
        b'{"model": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"prompt": [[1e999]]}',
        b'{"prompt": [-1]}',
        b'{"prompt": [1e18]}',
        b'{"stop": ["' + b'","' * 10_000 + b'"]}',
        b'{"top_k": -1}',
        b'"' * 1000,
        b"null",
        b"5",
        b"[]",
    ],
    ids=lambda content: repr(content[:40]),
)
def test_a_body_that_asks_for_nothing_that_is_there_is_told_why(victim: Victim, content: bytes) -> None:
    status, code = victim.post(content)
    assert (status, code) in {(400, "invalid_value"), (400, "context_length_exceeded"), (404, "model_not_found")}


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/v1/completions", {"prompt": "a" * 900_000}, "context_length_exceeded"),
        ("/v1/completions", {"prompt": ["a" * 10_000] * 90}, "invalid_value"),
        ("/v1/completions", {"prompt": [100] * 200_000}, "invalid_value"),
        ("/v1/completions", {"prompt": [100] * 20_000}, "context_length_exceeded"),
        ("/v1/completions", {"prompt": f"{'a' * 500}[REVIEW]"}, "context_length_exceeded"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a" * 900_000}]}, "context_length_exceeded"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}] * 20_000}, "invalid_value"),
        ("/v1/counterfactual", {"text": "a" * 900_000, "label": "pos"}, "context_length_exceeded"),
        ("/v1/counterfactual", {"begin": "a" * 900_000}, "context_length_exceeded"),
        ("/generate", {"prompt": "a" * 900_000}, "context_length_exceeded"),
        ("/generate", {"job_id": "a" * 900_000}, "invalid_value"),
        ("/tokenize", {"prompt": "a" * 900_000}, "context_length_exceeded"),
        ("/detokenize", {"tokens": [100] * 200_000}, "invalid_value"),
    ],
)
def test_prompts_beyond_all_measure_are_refused_by_their_size(
    victim: Victim, path: str, body: dict[str, object], code: str
) -> None:
    assert victim.post(body, path) == (400, code)


def test_more_than_the_largest_body_is_not_held(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.5)
    head = request("/v1/completions", headers=[*JSON, f"Content-Length: {1 << 40}"])
    assert b'"code": "body_too_large"' in victim.send(head + b"x" * (1 << 24))


# ------------------------------------------------------------------------------------------------------ paths and keys


@pytest.mark.parametrize("folder", ["/static/", "/v1/models/", "/"])
@pytest.mark.parametrize(
    "trick",
    [
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "..%5c..%5cetc",
        "%00",
        "page.js%00.html",
        "....//....//etc/passwd",
        "..;/app.py",
        "/etc/passwd",
        "__init__.py",
        "%ff%fe",
        "a" * 4000,
    ],
)
def test_no_path_leads_out_of_what_is_served(victim: Victim, folder: str, trick: str) -> None:
    answer = victim.send(request(folder + trick, method="GET", headers=[AUTHORIZATION, "Connection: close"]))
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert json.loads(content)["error"]["code"] in ("not_found", "model_not_found")
    assert b"root:" not in content
    assert trick not in "\n".join(victim.log.lines)


@pytest.mark.parametrize("model", ["../tiny", "tiny/../../etc/passwd", "/etc/passwd", "tiny\0", "", "tiny/", "%2e%2e"])
def test_no_name_of_a_model_is_a_path(victim: Victim, model: str) -> None:
    assert victim.post({"model": model}) == (404, "model_not_found")
    assert victim.post({"model": model, "prompt": "a"}, "/tokenize") == (404, "model_not_found")


def test_an_id_of_a_job_is_told_again_and_is_no_path(victim: Victim) -> None:
    body = {"job_id": "../../../tmp/owned\0", "max_tokens": 1}
    answer = victim.send(request("/generate", body, headers=[AUTHORIZATION, "Connection: close"]))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["job_id"] == body["job_id"]


@pytest.mark.parametrize(
    "sent",
    [
        [],
        ["Authorization: Bearer"],
        [f"Authorization: Bearer {KEY[:-1]}"],
        [f"Authorization: Bearer {KEY} {KEY}"],
        [f"Authorization: {KEY}"],
        ["Authorization: Bearer x", AUTHORIZATION],
        [f"Authorization: Bearer {'x' * 8000}"],
        [f"X-Api-Key: {KEY}"],
        [f"Proxy-Authorization: Bearer {KEY}"],
        [f"Cookie: Authorization=Bearer {KEY}"],
    ],
    ids=lambda sent: " ".join(sent)[:40] or "none",
)
@pytest.mark.parametrize("path", ["/v1/completions", "/metrics", f"/v1/models?api_key={KEY}", f"//v1/models?key={KEY}"])
def test_guessed_keys_open_nothing(victim: Victim, path: str, sent: list[str]) -> None:
    body = {"prompt": SECRET}
    answer = victim.send(request(path, body, headers=[*sent, "Connection: close"]))
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert KEY.encode() not in answer


def test_two_thousand_guesses_change_nothing(victim: Victim) -> None:
    guesses = [request("/metrics", method="GET", headers=[f"Authorization: Bearer {n}"]) for n in range(1999)]
    last = request("/metrics", method="GET", headers=["Authorization: Bearer x", "Connection: close"])
    answer = victim.send(b"".join(guesses) + last)
    assert answer.count(b"HTTP/1.1 401 ") == 2000
    assert sum(" GET - 401 " in line for line in victim.log.lines) <= 60
