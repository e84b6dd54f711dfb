"""What a server writes for many clients at once, beside one client and beside its writer without a server.

A real `nano-llm serve` of an untrained TARNet runs in a process of its own; clients are streams of /v1/completions on
loopback, read by this process, so that they take their part of the same cores. Each asks for one text of another
prompt, sampled; the weights are such that no text ends before its length. The writer alone is that behind
`nano-llm generate`, in this process, with the same texts.
"""

import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import torch

from nano_llm import checkpoint
from nano_llm.bench.harness import (
    Ceilings,
    Columns,
    Figures,
    Key,
    Measured,
    Row,
    Turn,
    Way,
    field,
    ranged,
    ratio,
    spread,
    take_turns,
    told,
)
from nano_llm.config.compose import compose_config
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.errors import ServingError
from nano_llm.generation.author import Author
from nano_llm.generation.request import Request, Wanted
from nano_llm.model.readout import TwoHeadReadout

VOCAB_SIZE, NUM_ROWS, OUTCOME = 264, 64, 1
COLUMNS: Columns = {
    "scale": field("scale"),
    "way": field("way"),
    "texts": field("texts"),
    "tokens/s (lowest-highest)": ranged("tokens_per_second", ",.0f"),
    "first token, ms": field("first_token_milliseconds", ".0f"),
    "between tokens, ms": field("gap_median_milliseconds", ".0f"),
    "95 % of them, ms": field("gap_95_milliseconds", ".0f"),
    "speed / one text": field("speed_over_one_text", ".2f"),
    "speed / writer": field("speed_over_writer", ".2f"),
}


def save_checkpoint(folder: Path, scale: str) -> None:
    """Save an untrained TARNet whose texts never end by themselves."""
    config = compose_config(["model=tarnet", "data=imdb", f"scale={scale}"])
    tokenizer = Tokenizer.fit_bytes([], VOCAB_SIZE, split_words=True)
    torch.manual_seed(0)
    model = checkpoint.build_model(config, tokenizer.vocab_size)
    trunk, readout = model.passes[0]
    assert isinstance(readout, TwoHeadReadout)
    first, second, output = readout.shared.parameters()
    ends = list(tokenizer.end_ids)
    with torch.no_grad():
        # The entries of a normed state average to this bias, so that the first unit of each layer is always positive.
        trunk.final_norm.bias.fill_(1.0)
        first[0] = 1 / first.shape[1]
        second[0], output[ends] = 0.0, 0.0
        second[0, 0], output[ends, 0] = 1.0, -100.0
    checkpoint.save(folder, config=config, tokenizer=tokenizer, model=model, metrics={})


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """Run a server and yield its port."""
    command = [sys.executable, "-m", "nano_llm.cli.main", "serve", str(folder), "--port", "0", "--rows", str(NUM_ROWS)]
    log = folder.with_name("server.log")  # of every request, more than a pipe holds
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            if (found := re.search(r"http://127\.0\.0\.1:(\d+)", said)) is None:
                raise ServingError(f"The server did not start:\n{said}{log.read_text(encoding='utf-8')}")
            yield int(found[1])
        finally:
            process.terminate()
            process.wait()


async def stream(port: int, number: int, num_tokens: int) -> tuple[int, list[float]]:
    """Read one text; returns its tokens, and when each chunk came in seconds after the request was sent."""
    body = {
        "prompt": prompt(number),
        "max_tokens": num_tokens,
        "seed": number,
        "stream": True,
        "stream_options": {"include_usage": True},
        "nano_llm": {"outcome": OUTCOME},
    }
    payload = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    began = time.perf_counter()
    writer.write(f"{head}Content-Length: {len(payload)}\r\nConnection: close\r\n\r\n".encode() + payload)
    times, last = [], b""
    async for line in reader:
        if line.startswith(b"data: {"):
            times.append(time.perf_counter() - began)
            last = line
    writer.close()
    num_written = json.loads(last[len(b"data: ") :])["usage"]["completion_tokens"]
    if num_written != num_tokens:
        raise ServingError(
            f"Stream {number} ended after {num_written} of {num_tokens} tokens: this model may end a text."
        )
    return num_written, times


async def stream_all(port: int, num_streams: int, num_tokens: int) -> Figures:
    """Read so many texts at once."""
    began = time.perf_counter()
    streams = await asyncio.gather(*(stream(port, number, num_tokens) for number in range(num_streams)))
    seconds = time.perf_counter() - began
    gaps = sorted(after - before for _, times in streams for before, after in pairwise(times))
    return {
        "tokens_per_second": sum(num for num, _ in streams) / seconds,
        "first_token_milliseconds": 1000 * statistics.median(times[0] for _, times in streams),
        "gap_median_milliseconds": 1000 * statistics.median(gaps),
        "gap_95_milliseconds": 1000 * gaps[int(0.95 * (len(gaps) - 1))],
    }


def write_all(author: Author, num_texts: int, num_tokens: int) -> Figures:
    """Write the same texts without a server."""
    began = time.perf_counter()
    commissions = [
        commission
        for number in range(num_texts)
        for commission in author.commissions(
            Request(
                wanted=Wanted(f"y{OUTCOME}"),
                begin=prompt(number),
                seed=number,
                num_tokens=num_tokens + len(author.tokenizer.encode(prompt(number))),
            )
        )
    ]
    author.write(commissions)
    return {"tokens_per_second": num_texts * num_tokens / (time.perf_counter() - began)}


def prompt(number: int) -> str:
    """Return what a text begins with, so that no two share a row."""
    return f"{number:02d} films. "


def ways_of(port: int, author: Author, num_tokens: int) -> dict[Key, Way]:
    """Return the ways to write, by who writes and how many texts at once."""
    return {
        ("server", 1): lambda: asyncio.run(stream_all(port, 1, num_tokens)),
        ("server", NUM_ROWS): lambda: asyncio.run(stream_all(port, NUM_ROWS, num_tokens)),
        ("writer", 1): lambda: write_all(author, 1, num_tokens),
        ("writer", NUM_ROWS): lambda: write_all(author, NUM_ROWS, num_tokens),
    }


def measure(scales: Sequence[str], repeats: int, num_tokens: int, ceilings: Way | None = None) -> Measured:
    """Let all ways of a scale take turns, scale after scale."""
    ceilings = ceilings or Ceilings()
    turns: list[Turn] = []
    rows: list[Row] = []
    for scale in scales:
        taken = turns_of(scale, repeats, num_tokens, ceilings)
        rows += [{"scale": scale, **row(key, taken)} for key in taken[0].figures]
        turns += taken
    return Measured({"tokens": num_tokens, "vocabulary": VOCAB_SIZE}, turns, rows, COLUMNS)


def turns_of(scale: str, repeats: int, num_tokens: int, ceilings: Way) -> list[Turn]:
    """Let the ways of one scale take turns, after each has gone once."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "best"
        save_checkpoint(place, scale)
        author = Author(checkpoint.load(place), torch.device("cpu"), NUM_ROWS)
        with server(place) as port:
            ways = ways_of(port, author, num_tokens)
            for way in ways.values():
                way()
            return take_turns(ways, repeats, ceilings)


def row(key: Key, turns: Sequence[Turn]) -> Row:
    """Sum up the turns of one way; its ratios are of tokens a second."""
    who, num_texts = key
    return {
        "way": who,
        "texts": num_texts,
        **{figure: spread(told(turns, key, figure)) for figure in turns[0].figures[key]},
        "speed_over_one_text": ratio(turns, key, (who, 1), "tokens_per_second"),
        "speed_over_writer": ratio(turns, key, ("writer", num_texts), "tokens_per_second"),
    }
