"""Servers of tiny untrained models, on ports of this machine."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import uvicorn
from starlette.types import ASGIApp

from model.building import scatter_parameters
from nano_llm.checkpoint import Checkpoint, build_model
from nano_llm.config.compose import compose_config
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.generation.author import Author
from nano_llm.serving.app import create_app
from nano_llm.serving.engine import Engine
from nano_llm.serving.limits import Limits
from nano_llm.serving.service import Service

LIMITS = Limits(max_tokens=64, default_tokens=16, max_texts=16, max_prompt_chars=600, max_review_chars=600)


def open_byte_author(*overrides: str, num_rows: int = 4) -> Author:
    """An author that spells by bytes, so that it writes parts of characters and knows every word."""
    config = compose_config(["scale=tiny", "data=scm", "data.topic=hidden", "data.window_length=96", *overrides])
    tokenizer = Tokenizer.fit_bytes(["the film is the best film. ünïcödé films are films."] * 4, 280, split_words=True)
    model = build_model(config, tokenizer.vocab_size)
    scatter_parameters(model)
    with torch.no_grad():
        for trunk in dict.fromkeys(trunk for trunk, _ in model.passes):
            trunk.embedding.weight.mul_(0.4)
    return Author(Checkpoint(config, tokenizer, model.state_dict(), {}, None), torch.device("cpu"), num_rows)


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


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.has_started.set()


@contextmanager
def listening(service: Service, *, keys: Sequence[str] = ()) -> Iterator[str]:
    """The address of a server of a service."""
    app: ASGIApp = create_app(service, keys)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None)
        config.timeout_graceful_shutdown = 5
        server = _Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert server.has_started.wait(30)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()
