"""What a server writes for many clients at once, beside one client and beside its writer without a server.

    make bench                                              # w512, minutes on two cores
    python experiments/bench/serve.py --scale nano --repeats 5

A real `nano-llm serve` of an untrained TARNet runs in a process of its own; clients are streams of /v1/completions on
loopback, read by this process, so that they take their part of the same cores. Each asks for one text of another
prompt, sampled; the weights are such that no text ends before its length. The writer alone is that behind
`nano-llm generate`, in this process, with the same texts. All ways take turns; figures are medians over the turns.
Run it alone: another busy process halves every figure.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from nano_llm import checkpoint
from nano_llm.config.compose import compose_config
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.generation.author import Author
from nano_llm.generation.request import Request, Wanted
from nano_llm.model.readout import TwoHeadReadout
from nano_llm.tracking.environment import environment

VOCAB_SIZE, NUM_ROWS, OUTCOME = 264, 64, 1


def save_checkpoint(folder: Path, scale: str) -> None:
    """Save an untrained TARNet whose texts never end by themselves."""
    config = compose_config(["model=tarnet", "data=imdb", f"scale={scale}"])
    tokenizer = Tokenizer.fit_bytes([], VOCAB_SIZE, split_words=True)
    torch.manual_seed(0)
    model = checkpoint.build_model(config, tokenizer.vocab_size)
    readout = model.passes[0][1]
    assert isinstance(readout, TwoHeadReadout)
    with torch.no_grad():  # what GELU hands over is positive in the mean
        readout.shared.output.weight[list(tokenizer.end_ids)] = -1.0
    checkpoint.save(folder, config=config, tokenizer=tokenizer, model=model, metrics={})


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """Run a server and yield its port."""
    command = [sys.executable, "-m", "nano_llm.cli.main", "serve", str(folder), "--port", "0", "--rows", str(NUM_ROWS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            said = ""
            while (found := re.search(r"http://127\.0\.0\.1:(\d+)", said)) is None:
                line = process.stdout.readline()
                if not line:
                    raise RuntimeError(f"The server did not start:\n{said}")
                said += line
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
    assert num_written == num_tokens, f"stream {number} has {num_written} tokens"
    return num_written, times


async def stream_all(port: int, num_streams: int, num_tokens: int) -> dict[str, float]:
    """Read so many texts at once."""
    began = time.perf_counter()
    told = await asyncio.gather(*(stream(port, number, num_tokens) for number in range(num_streams)))
    seconds = time.perf_counter() - began
    gaps = sorted(after - before for _, times in told for before, after in pairwise(times))
    return {
        "tokens_per_second": sum(num for num, _ in told) / seconds,
        "first_token_seconds": statistics.median(times[0] for _, times in told),
        "gap_median_seconds": statistics.median(gaps),
        "gap_95_seconds": gaps[int(0.95 * (len(gaps) - 1))],
    }


def write_all(author: Author, num_texts: int, num_tokens: int) -> dict[str, float]:
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


def timed_ways(port: int, author: Author, num_tokens: int) -> dict[str, Callable[[], dict[str, float]]]:
    """Return the ways to write."""
    return {
        "server, one stream": lambda: asyncio.run(stream_all(port, 1, num_tokens)),
        f"server, {NUM_ROWS} streams": lambda: asyncio.run(stream_all(port, NUM_ROWS, num_tokens)),
        "writer, one text": lambda: write_all(author, 1, num_tokens),
        f"writer, {NUM_ROWS} texts": lambda: write_all(author, NUM_ROWS, num_tokens),
    }


def measure(scale: str, repeats: int, num_tokens: int) -> dict[str, Any]:
    """Let the ways take turns."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "best"
        save_checkpoint(place, scale)
        author = Author(checkpoint.load(place), torch.device("cpu"), NUM_ROWS)
        with server(place) as port:
            ways = timed_ways(port, author, num_tokens)
            for way in ways.values():
                way()
            turns = [{name: way() for name, way in ways.items()} for _ in range(repeats)]
    many, one = (f"server, {NUM_ROWS} streams", "server, one stream")
    ratios = [turn[many]["tokens_per_second"] / turn[one]["tokens_per_second"] for turn in turns]
    return {
        "ways": {
            name: {figure: spread([turn[name][figure] for turn in turns]) for figure in turns[0][name]} for name in ways
        },
        "speed_over_one_stream": spread(ratios),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Return the median of a figure over the turns, and its ends."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def table(results: dict[str, Any]) -> str:
    """Write the results as Markdown."""
    lines = [
        "| way | tokens/s (lowest-highest) | first token, ms | between tokens, ms: median, 95 % |",
        "|---|---|---|---|",
    ]
    for name, row in results["ways"].items():
        rate = row["tokens_per_second"]
        first, *gaps = [milliseconds(row, name) for name in ("first_token", "gap_median", "gap_95")]
        lines.append(
            f"| {name} | {rate['median']:,.0f} ({rate['lowest']:,.0f}-{rate['highest']:,.0f}) "
            f"| {first} | {', '.join(filter(None, gaps))} |"
        )
    return "\n".join(lines)


def milliseconds(row: dict[str, Any], figure: str) -> str:
    """Spell the median of a figure that not all ways have."""
    return f"{1000 * row[f'{figure}_seconds']['median']:.0f}" if f"{figure}_seconds" in row else ""


def main() -> None:
    """Measure, print the table, write it beside the environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="w512")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("serve.json"))
    given = parser.parse_args()
    results = {
        "scale": given.scale,
        "text": {"tokens": given.tokens, "vocabulary": VOCAB_SIZE},
        "repeats": given.repeats,
        **measure(given.scale, given.repeats, given.tokens),
        "environment": environment(),
    }
    given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    ratio = results["speed_over_one_stream"]
    print(f"{table(results)}\n\n{NUM_ROWS} streams over one: {ratio['median']:.2f}\n\nwritten to {given.out}")


if __name__ == "__main__":
    main()
