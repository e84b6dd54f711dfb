"""Servers of tiny untrained models, on ports of this machine."""

import json
import socket
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import torch
import uvicorn
from starlette.types import ASGIApp

from model.building import scatter_parameters
from nano_llm.checkpoint import Checkpoint, build_model
from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Config
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.generation.author import Author
from nano_llm.model.language_model import LanguageModel
from nano_llm.serving.app import create_app
from nano_llm.serving.engine import Engine
from nano_llm.serving.limits import Limits
from nano_llm.serving.server import configure
from nano_llm.serving.service import Service

LIMITS = Limits(max_tokens=64, default_tokens=16, max_texts=16, max_prompt_chars=600, max_review_chars=600)
SENT_BYTES = 1 << 14
"""Of what is sent and not read, as near as the system takes it."""


def open_byte_author(*overrides: str, num_rows: int = 4) -> Author:
    """An author that spells by bytes, so that it writes parts of characters and knows every word."""
    config, tokenizer, model = byte_model(*overrides)
    return Author(Checkpoint(config, tokenizer, model.state_dict(), {}, None), torch.device("cpu"), num_rows)


def byte_model(*overrides: str) -> tuple[Config, Tokenizer, LanguageModel]:
    """What such an author is made of."""
    config = compose_config(["scale=tiny", "data=scm", "data.topic=hidden", "data.window_length=96", *overrides])
    tokenizer = Tokenizer.fit_bytes(["the film is the best film. ünïcödé films are films."] * 4, 280, split_words=True)
    model = build_model(config, tokenizer.vocab_size)
    scatter_parameters(model)
    with torch.no_grad():
        for trunk in dict.fromkeys(trunk for trunk, _ in model.passes):
            trunk.embedding.weight.mul_(0.4)
    return config, tokenizer, model


@contextmanager
def served(
    author: Author, *, limits: Limits = LIMITS, censored: bool = True, name: str = "tiny", num_waiting: int = 64
) -> Iterator[Service]:
    """A service whose engine runs."""
    engine = Engine(author, num_waiting=num_waiting)
    engine.start()
    try:
        yield Service(author, engine, limits, name, "fingerprint", 1_700_000_000, censored)
    finally:
        engine.close()


class Server(uvicorn.Server):
    """A server that tells when it has started, and leaves signals to others."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.has_started.set()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@contextmanager
def listening(service: Service, *, keys: Sequence[str] = ()) -> Iterator[str]:
    """The address of a server of a service."""
    with listening_app(create_app(service, keys)) as url:
        yield url


@contextmanager
def listening_app(app: ASGIApp) -> Iterator[str]:
    """The address of a server of an app, which sends to nobody much more than is read."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT_BYTES)
        server = Server(configure(app, grace_seconds=0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert server.has_started.wait(30)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def connected(url: str) -> socket.socket:
    """A client that has said nothing yet, and whose system takes little that it has not read."""
    client = socket.socket()
    client.settimeout(30)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SENT_BYTES)
    host, _, port = url.removeprefix("http://").partition(":")
    client.connect((host, int(port)))
    return client


def heard(client: socket.socket) -> bytes:
    """All that a client is sent until its connection ends, in one way or another."""
    answer = b""
    try:
        while part := client.recv(1 << 16):
            answer += part
    except ConnectionError:
        pass
    return answer


def request(path: str, body: object = None, *, method: str = "POST", headers: Sequence[str] = ()) -> bytes:
    """A request as it is sent; a body that is no bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if content:
        head += [f"Content-Length: {len(content)}", "Content-Type: application/json"]
    return "\r\n".join([*head, "", ""]).encode() + content
