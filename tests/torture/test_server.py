"""A server under minutes of mixed load from clients good and bad: its memory is flat, and nothing is left of them.

``NANO_LLM_TORTURE_MINUTES`` says how many; the figures are printed as one line of JSON.
"""

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from nano_llm import checkpoint
from serving.malformed import check_answered, malformed
from serving.servers import byte_model, request
from torture_factor import FACTOR

MINUTES = float(os.environ.get("NANO_LLM_TORTURE_MINUTES", "0.5"))
NUM_BODIES = 1000 * FACTOR
REQUESTS_A_SECOND, NUM_CLIENTS = 10.0, 8
NUM_SAMPLES = 180
"""Of the process, at most one a second: every ten seconds of half an hour."""
SPARED_MIB = 8 + 16 / MINUTES
"""By which the memory of the last third may exceed that of the second: what the allocator's mood is, and in the first
minutes what was not used before, such as threads and the parts of memory that they have to themselves."""
SPARED_THREADS = 2
"""Workers that asyncio starts late, when two clients happen to need one at once; a leak would be one a client."""
SECONDS = 120.0
"""What any answer may take at most."""
KEY, SECRET = "a-key-of-ours-0123456789", "zyzzyva"
AUTHORIZATION = f"Authorization: Bearer {KEY}"


class Served:
    """``nano-llm serve`` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        config, tokenizer, model = byte_model("model=tarnet")
        checkpoint.save(folder / "best", config=config, tokenizer=tokenizer, model=model, metrics={})
        self._log = folder / "log"
        command = [sys.executable, "-m", "nano_llm.cli.main", "serve", str(folder / "best"), "--port", "0"]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--device", "cpu"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {"NANO_LLM_API_KEY": KEY},
            )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().split()[2].rpartition(":")[2])

    @property
    def log(self) -> str:
        return self._log.read_text()

    def client(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), SECONDS)

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)

    def figures(self) -> dict[str, float]:
        """Return the server's own counters and gauges."""
        with contextlib.closing(self.connection()) as connection:
            connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {KEY}"})
            lines = connection.getresponse().read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    def is_idle(self) -> bool:
        figures = self.figures()
        return figures["nano_llm:requests_running"] == figures["nano_llm:requests_waiting"] == 0

    def status(self, name: str) -> int:
        """Return a number of ``/proc/PID/status``."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        (number,) = re.findall(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
        return int(number)

    def num_descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path)
    yield server
    server.process.kill()
    server.process.communicate()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# ------------------------------------------------------------------------------------------------------------ clients


@dataclass(frozen=True)
class Clients:
    """All kinds of them; each method is one client, which fails if it is not served as it should be."""

    server: Served
    chance: random.Random
    bodies: Iterator[tuple[str, bytes]]
    left: deque[socket.socket]
    """Connections that nobody closes, but for the oldest when there are many."""

    def streams(self) -> None:
        body = {"prompt": SECRET, "stream": True, "max_tokens": self.chance.choice([10, 60, 300]), "n": 2}
        assert self._answer("/v1/completions", body).endswith(b"data: [DONE]\n\n")

    def asks_for_both_outcomes(self) -> None:
        told = {"outcome": "both", "trace": True, "top": 3}
        body = {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 40, "nano_llm": told}
        assert len(json.loads(self._answer("/v1/chat/completions", body))["choices"]) == 2

    def asks_for_a_counterfactual(self) -> None:
        of_a_review = {
            "text": f"the {SECRET} is best. " * self.chance.choice([1, 20]),
            "label": "neg",
            "max_tokens": 30,
        }
        body = self.chance.choice([{"begin": SECRET, "max_tokens": 30}, of_a_review])
        assert b"event: end" in self._answer("/v1/counterfactual", body)

    def scores_a_text(self) -> None:
        body = {"prompt": f"{SECRET} " * 100, "echo": True, "logprobs": 20, "max_tokens": 0}
        assert json.loads(self._answer("/v1/completions", body))["choices"][0]["logprobs"]["tokens"]

    def sends_a_malformed_body(self) -> None:
        path, body = next(self.bodies)
        with contextlib.closing(self.server.connection()) as connection:
            check_answered(connection, path, body, KEY)

    def leaves_in_the_middle(self) -> None:
        body = {"prompt": SECRET, "stream": True, "max_tokens": 1000, "n": 4}
        with self._asking("/v1/completions", body) as client:
            client.recv(self.chance.choice([1, 100, 4000]))

    def reads_slowly(self) -> None:
        with self._asking("/v1/completions", {"prompt": SECRET, "stream": True, "max_tokens": 100}) as client:
            while client.recv(1000):
                time.sleep(0.02)

    def never_reads(self) -> None:
        body = {"prompt": SECRET, "stream": True, "max_tokens": 200, "n": 8, "logprobs": 20}
        self._leave(self._asking("/v1/completions", body, receives=4096))

    def sends_half_a_head(self) -> None:
        client = self.server.client()
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX-")
        self._leave(client)

    def sends_half_a_body(self) -> None:
        client = self.server.client()
        client.sendall(request("/v1/completions", headers=[AUTHORIZATION, "Content-Length: 900000"]) + b"x" * 200_000)
        self._leave(client)

    def says_nothing(self) -> None:
        self._leave(self.server.client())

    def guesses_a_key(self) -> None:
        with contextlib.closing(self.server.connection()) as connection:
            for guess in range(5):
                headers = {"Authorization": f"Bearer {guess}", "Content-Type": "application/json"}
                connection.request("POST", "/v1/completions", json.dumps({"prompt": SECRET}), headers)
                with connection.getresponse() as answer:
                    assert answer.status == 401
                    answer.read()

    def talks_nonsense(self) -> None:
        with self.server.client() as client, contextlib.suppress(ConnectionError):
            client.sendall(self.chance.randbytes(self.chance.choice([1, 100, 100_000])) + b"\r\n\r\n")
            client.recv(1000)

    def looks_around(self) -> None:
        paths = {"/health": 200, "/": 200, "/v1/models": 200, "/static/..%2fapp.py": 404, "/v1/models/../x": 404}
        with contextlib.closing(self.server.connection()) as connection:
            for path, status in paths.items():
                connection.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
                with connection.getresponse() as answer:
                    assert answer.status == status
                    answer.read()

    def _answer(self, path: str, body: dict[str, Any]) -> bytes:
        with contextlib.closing(self.server.connection()) as connection:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
            connection.request("POST", path, json.dumps(body), headers)
            with connection.getresponse() as answer:
                content = answer.read()
        assert answer.status == 200, content
        return content

    def _asking(self, path: str, body: dict[str, Any], receives: int | None = None) -> socket.socket:
        client = socket.socket()
        client.settimeout(SECONDS)
        if receives is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        client.connect(("127.0.0.1", self.server.port))
        client.sendall(request(path, body, headers=[AUTHORIZATION, "Connection: close"]))
        return client

    def _leave(self, client: socket.socket) -> None:
        self.left.append(client)
        while len(self.left) > 64:
            self.left.popleft().close()


KINDS = [name for name in vars(Clients) if not name.startswith("_") and callable(getattr(Clients, name))]


@dataclass
class Load:
    """Clients of all kinds at a bounded rate, until told to end."""

    server: Served
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    has_ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        left: deque[socket.socket] = deque()
        threads = [threading.Thread(target=self._send, args=(seed, left)) for seed in range(NUM_CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for client in left:
            client.close()

    def _send(self, seed: int, left: deque[socket.socket]) -> None:
        chance = random.Random(seed)
        clients = Clients(self.server, chance, malformed(seed, sys.maxsize), left)
        due = time.monotonic()
        while not self.has_ended.is_set():
            kind = chance.choice(KINDS)
            try:
                getattr(clients, kind)()
            except (AssertionError, OSError, http.client.HTTPException, ValueError, KeyError) as error:
                self.failures.append(f"{kind}: {error!r:.1000}")
            self.counts[kind] += 1
            due = max(due + NUM_CLIENTS / REQUESTS_A_SECOND, time.monotonic())
            self.has_ended.wait(due - time.monotonic())


# ----------------------------------------------------------------------------------------------------------- the tests


@dataclass(frozen=True)
class Sample:
    """What a process holds at a moment."""

    rss_kib: int
    num_descriptors: int
    num_threads: int
    num_running: float
    num_waiting: float


def sample(server: Served) -> Sample:
    figures = server.figures()
    return Sample(
        server.status("VmRSS"),
        server.num_descriptors(),
        server.status("Threads"),
        figures["nano_llm:requests_running"],
        figures["nano_llm:requests_waiting"],
    )


def sampled(server: Served) -> list[Sample]:
    begun, samples = time.monotonic(), []
    every = max(60 * MINUTES / NUM_SAMPLES, 1.0)
    while time.monotonic() < begun + 60 * MINUTES:
        time.sleep(every)
        assert server.process.poll() is None, "it has ended"
        samples.append(sample(server))
    return samples


def num_errors(server: Served) -> float:
    return sum(number for name, number in server.figures().items() if re.search(r'requests_total\{code="5', name))


@pytest.mark.slow
def test_memory_is_flat_under_mixed_load_and_nothing_is_left_of_it(server: Served) -> None:
    load = Load(server)
    clients = Clients(server, random.Random(0), malformed(0, 1), deque())
    for _ in range(3):
        clients.asks_for_both_outcomes()  # whatever the first answers make is there from now on
        clients.streams()
    wait_until(server.is_idle)
    before = sample(server)
    loading = threading.Thread(target=load.run)
    loading.start()
    try:
        samples = sampled(server)
    finally:
        load.has_ended.set()
        loading.join()
    wait_until(server.is_idle)
    wait_until(lambda: server.num_descriptors() <= before.num_descriptors)
    after = sample(server)
    third = len(samples) // 3
    first, second, last = samples[:third], samples[third : 2 * third], samples[2 * third :]
    rss = [median([one.rss_kib for one in part]) / 1024 for part in (first, second, last)]
    told = {
        "minutes": MINUTES,
        "clients": dict(sorted(load.counts.items())),
        "answers": {
            name.partition("{")[2].rstrip("}"): number
            for name, number in server.figures().items()
            if name.startswith("nano_llm:requests_total{")
        },
        "rss_mib_of_thirds": [round(one, 1) for one in rss],
        "rss_mib": [round(one.rss_kib / 1024) for one in samples[:: max(len(samples) // 20, 1)]],
        "before": asdict(before),
        "after": asdict(after),
        "most_descriptors": max(one.num_descriptors for one in samples),
        "most_threads": max(one.num_threads for one in samples),
        "most_running": max(one.num_running for one in samples),
        "most_waiting": max(one.num_waiting for one in samples),
        "failures": load.failures[:10],
    }
    print(json.dumps(told))
    assert not load.failures
    assert set(load.counts) == set(KINDS)
    assert num_errors(server) == 0
    assert rss[2] - rss[1] <= SPARED_MIB
    assert max(one.num_threads for one in last) <= max(one.num_threads for one in (*first, *second)) + SPARED_THREADS
    assert max(one.num_descriptors for one in last) <= 1.5 * max(one.num_descriptors for one in (*first, *second))
    assert server.end() == 0
    assert "Traceback" not in server.log
    assert KEY not in server.log
    assert SECRET not in server.log


@pytest.mark.slow
def test_thousands_of_malformed_bodies_are_answered_and_leave_nothing(server: Served) -> None:
    statuses: Counter[int] = Counter()
    with contextlib.closing(server.connection()) as connection:
        for path, body in malformed(1, NUM_BODIES):
            statuses[check_answered(connection, path, body, KEY)] += 1
    wait_until(server.is_idle)
    print(json.dumps({"bodies": NUM_BODIES, "statuses": dict(sorted(statuses.items()))}))
    assert statuses[400] > NUM_BODIES / 2
    assert statuses[200] > NUM_BODIES / 100
    assert server.end() == 0
    assert "Traceback" not in server.log
    assert KEY not in server.log
