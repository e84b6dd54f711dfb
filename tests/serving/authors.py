"""Authors of tiny untrained models, and ways to hold up their writers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from model.building import scatter_parameters
from nano_llm.checkpoint import Checkpoint, build_model
from nano_llm.config.compose import compose_config
from nano_llm.data import scm
from nano_llm.data.tokenizer import Tokenizer, words_of
from nano_llm.generation.author import Author
from nano_llm.generation.writer import Draft


def open_author(*overrides: str, num_rows: int = 4) -> Author:
    """An author whose texts differ and are often long."""
    config = compose_config(["scale=tiny", "data=scm", "data.topic=hidden", "data.window_length=64", *overrides])
    prompts = [*vars(config.data.prompt).values(), "positive", "negative"]
    words = scm.review_law(config.data).vocabulary  # type: ignore[arg-type]
    tokenizer = Tokenizer.of_words([*words, *(word for text in prompts for word in words_of(text))], 1024)
    model = build_model(config, tokenizer.vocab_size)
    scatter_parameters(model)
    with torch.no_grad():  # a tied readout of large embeddings would say one word all the time
        for trunk in dict.fromkeys(trunk for trunk, _ in model.passes):
            trunk.embedding.weight.mul_(0.4)
    return Author(Checkpoint(config, tokenizer, model.state_dict(), {}, None), torch.device("cpu"), num_rows)


class Gate:
    """Lets an author's writer take so many steps, and no more until told."""

    def __init__(self, author: Author) -> None:
        self._writer_step = author.writer.step
        self._steps = threading.Semaphore(0)
        self._is_open = False
        self.num_begun = threading.Semaphore(0)
        """Released at the start of each step."""

    def step(self) -> list[Draft]:
        self.num_begun.release()
        if not self._is_open:
            self._steps.acquire()
        return self._writer_step()

    def let(self, num_steps: int) -> None:
        for _ in range(num_steps):
            self._steps.release()

    def open(self) -> None:
        self._is_open = True
        self._steps.release()


@contextmanager
def gated(author: Author) -> Iterator[Gate]:
    """Hold up the steps of an author's writer."""
    gate = Gate(author)
    author.writer.step = gate.step  # type: ignore[method-assign]
    try:
        yield gate
    finally:
        gate.open()
        del author.writer.step
