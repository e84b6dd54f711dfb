"""Decoding speed of our models beside a GPT-2 of the same dimensions and beside the memory's limit, in one process.

    make bench                                              # nano and w512, minutes on two cores
    python experiments/bench/decode.py --scales nano --repeats 20

Texts of a given number of tokens behind a prompt, the reading of the prompt included; no token ends a text. All ways
of writing take turns, so that a slow moment of the machine hits all alike; figures are medians over the turns, and
ratios are medians of ratios within a turn. Weights are random, speed does not depend on them.

The limit: a step reads all weights (of the token embedding only rows, unless it is the readout too) and, at half
length, the keys and values of each text. It cannot take less time than the memory needs to hand over so many bytes,
at the rate that a sum over a large buffer reaches in the same turn with the same threads. Many texts at once are bound
by arithmetic long before. Run it alone: another busy process halves every figure.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, logging

from nano_llm.config.compose import compose_config
from nano_llm.config.schema import ScaleConfig
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.generation.noise import Noise
from nano_llm.generation.sampling import Sampling
from nano_llm.generation.vocabulary import Vocabulary
from nano_llm.generation.writer import Order, Writer
from nano_llm.model.language_model import LanguageModel, build_language_model
from nano_llm.model.readout import TiedReadout
from nano_llm.tracking.environment import environment

VOCAB_SIZE, WINDOW, NUM_PROMPT, NUM_ROWS = 264, 256, 20, 32
SAMPLINGS = {"greedy": Sampling(temperature=0), "sampled": Sampling(temperature=1, top_p=0.9)}
BUFFER = torch.ones(1 << 28)  # 1 GiB, much more than any cache holds


@dataclass(frozen=True)
class Way:
    """One way to write texts with one model."""

    model: str
    name: str
    choice: str  # greedy or sampled
    num_rows: int  # texts at once
    write: Callable[[int], object]  # that many tokens of each text
    num_weight_bytes: int  # read in a step
    num_cache_bytes: int  # of one token of one text; 0 if there is no cache


class EndlessVocabulary(Vocabulary):
    """No token ends a text, so that all have their full length."""

    @cached_property
    def ends(self) -> frozenset[int]:
        return frozenset()


def our_ways(name: str, scale: str) -> list[Way]:
    """Return one text, two that part at once (both heads, if there are two) and many; and one without a cache."""
    config = compose_config([f"model={name}", "data=imdb", f"scale={scale}"])
    torch.manual_seed(0)
    model = build_language_model(config.model, config.scale, VOCAB_SIZE, WINDOW).eval()
    vocabulary = EndlessVocabulary(Tokenizer.fit_bytes([], VOCAB_SIZE, split_words=True))
    writer = Writer(model, vocabulary, WINDOW, NUM_ROWS)
    is_tied = isinstance(model.passes[0][1], TiedReadout)
    unread = [] if is_tied else [model.passes[0][0].embedding]
    num_bytes = weight_bytes(model, unread), cache_bytes(config.scale)
    return [
        *(
            Way(name, "ours", choice, num_rows, writing(writer, num_rows, sampling), *num_bytes)
            for choice, sampling in SAMPLINGS.items()
            for num_rows in (1, 2, NUM_ROWS)
        ),
        Way(name, "no cache", "greedy", 1, lambda num_tokens: write_anew(model, num_tokens), num_bytes[0], 0),
    ]


def writing(writer: Writer, num_rows: int, sampling: Sampling) -> Callable[[int], None]:
    """Return what writes so many texts at once, heads in turn, whose prompts differ in their last token."""

    def write(num_tokens: int) -> None:
        orders = [
            Order(tuple(prompt), row % 2, Noise.of(0, row), num_tokens, sampling=sampling)
            for row, prompt in enumerate(prompts(num_rows).tolist())
        ]
        drafts = [draft for drafts in writer.run(orders) for draft in drafts if draft.finish is not None]
        assert [len(draft.tokens) for draft in drafts] == [num_tokens] * num_rows

    return write


@torch.inference_mode()
def write_anew(model: LanguageModel, num_tokens: int) -> None:
    """Write one text, reading all of it for each token."""
    tokens_BT = prompts(1)
    for _ in range(num_tokens):
        token_B1 = model(tokens_BT)[:, -1, -1].argmax(-1, keepdim=True)
        tokens_BT = torch.cat([tokens_BT, token_B1], dim=1)


def gpt2_ways(scale: ScaleConfig) -> list[Way]:
    """Return transformers' ``generate``, a plain loop with its cache, and one without."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCAB_SIZE, n_positions=WINDOW, n_embd=scale.d_model, n_layer=scale.num_layers,
            n_head=scale.num_heads, n_inner=scale.d_ff, bos_token_id=1, eos_token_id=None, pad_token_id=0,
        )
    ).eval()  # fmt: skip
    num_bytes = weight_bytes(model, [model.transformer.wpe]), cache_bytes(scale)
    return [
        *(
            Way("gpt2", "generate", choice, num_rows, generating(model, num_rows, sampling), *num_bytes)
            for choice, sampling in SAMPLINGS.items()
            for num_rows in (1, 2, NUM_ROWS)
        ),
        *(
            Way("gpt2", "loop", "greedy", num_rows, looping(model, num_rows, use_cache=True), *num_bytes)
            for num_rows in (1, NUM_ROWS)
        ),
        Way("gpt2", "no cache", "greedy", 1, looping(model, 1, use_cache=False), num_bytes[0], 0),
    ]


def generating(model: GPT2LMHeadModel, num_rows: int, sampling: Sampling) -> Callable[[int], None]:
    """Return what writes so many texts at once with ``generate``."""
    tokens_BT = prompts(num_rows)
    knobs: dict[str, Any] = {"do_sample": False}
    if sampling.temperature > 0:
        knobs = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}

    def write(num_tokens: int) -> None:
        written_BT = model.generate(
            tokens_BT, attention_mask=torch.ones_like(tokens_BT), max_new_tokens=num_tokens, **knobs
        )
        assert written_BT.shape == (num_rows, NUM_PROMPT + num_tokens)

    return write


def looping(model: GPT2LMHeadModel, num_rows: int, use_cache: bool) -> Callable[[int], None]:
    """Return what writes so many texts at once with the model alone."""

    @torch.inference_mode()
    def write(num_tokens: int) -> None:
        tokens_BT, past = prompts(num_rows), None
        for _ in range(num_tokens):
            output = model(tokens_BT, past_key_values=past, use_cache=use_cache, logits_to_keep=1)
            token_B1, past = output.logits[:, -1].argmax(-1, keepdim=True), output.past_key_values
            tokens_BT = token_B1 if use_cache else torch.cat([tokens_BT, token_B1], dim=1)

    return write


def prompts(num_rows: int) -> torch.Tensor:
    """Return prompts (B, T) that differ in their last token."""
    tokens_BT = torch.arange(60, 60 + NUM_PROMPT).repeat(num_rows, 1)
    tokens_BT[:, 0], tokens_BT[:, -1] = 1, torch.arange(100, 100 + num_rows)
    return tokens_BT


def weight_bytes(model: nn.Module, unread: list[nn.Module]) -> int:
    """Return the bytes of the weights that a step reads, without those of modules of which it reads some rows."""
    unread_weights = {id(weight) for module in unread for weight in module.parameters()}
    return sum(weight.nbytes for weight in model.parameters() if id(weight) not in unread_weights)


def cache_bytes(scale: ScaleConfig) -> int:
    """Return the bytes of a token's keys and values in fp32."""
    return scale.num_layers * 2 * scale.d_model * 4


def timed(step: Callable[[], object]) -> float:
    """Return the seconds that a step takes."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def measure(scale: str, repeats: int, num_tokens: int) -> dict[str, Any]:
    """Let the ways take turns at one scale."""
    ways = [
        *our_ways("tarnet", scale),
        *our_ways("vanilla", scale),
        *gpt2_ways(compose_config([f"scale={scale}"]).scale),
    ]
    for way in ways:
        way.write(4)
    BUFFER.sum()
    turns = []
    for _ in range(repeats):
        bandwidth = BUFFER.nbytes / min(timed(BUFFER.sum) for _ in range(3))
        turns.append((bandwidth, {key(way): timed(lambda way=way: way.write(num_tokens)) for way in ways}))
    return {
        "read_gigabytes_per_second": statistics.median(bandwidth for bandwidth, _ in turns) / 1e9,
        "ways": [figures(way, turns, num_tokens) for way in ways],
    }


def key(way: Way) -> tuple[str, str, str, int]:
    """Return what tells a way from the others."""
    return way.model, way.name, way.choice, way.num_rows


def figures(
    way: Way, turns: list[tuple[float, dict[tuple[str, str, str, int], float]]], num_tokens: int
) -> dict[str, Any]:
    """Sum up the turns of one way; rates count the tokens of all its texts."""
    written = way.num_rows * num_tokens
    rates = sorted(written / seconds[key(way)] for _, seconds in turns)
    num_bytes = way.num_weight_bytes + way.num_rows * way.num_cache_bytes * (NUM_PROMPT + num_tokens / 2)
    peer, single = ("gpt2", "generate", way.choice, way.num_rows), (way.model, way.name, way.choice, 1)
    return {
        "model": way.model,
        "way": way.name,
        "choice": way.choice,
        "texts": way.num_rows,
        "tokens_per_second": statistics.median(rates),
        "tokens_per_second_lowest": rates[0],
        "tokens_per_second_highest": rates[-1],
        "tokens_per_second_a_text": statistics.median(rates) / way.num_rows,
        "megabytes_a_step": num_bytes / 1e6,
        "limit_tokens_per_second": statistics.median(way.num_rows * bandwidth / num_bytes for bandwidth, _ in turns),
        "share_of_limit": statistics.median(
            num_tokens / seconds[key(way)] * num_bytes / bandwidth for bandwidth, seconds in turns
        ),
        "speed_over_gpt2_generate": statistics.median(seconds[peer] / seconds[key(way)] for _, seconds in turns),
        "speed_over_one_text": statistics.median(
            way.num_rows * seconds[single] / seconds[key(way)] for _, seconds in turns
        ),
    }


def table(results: dict[str, Any]) -> str:
    """Write the results as Markdown."""
    lines = [
        "| scale | model | way | choice | texts | tokens/s (lowest-highest) | a text | memory's limit | share of it "
        "| speed / GPT-2 `generate` | speed / one text |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for scale, result in results["scales"].items():
        for row in result["ways"]:
            spread = f"{row['tokens_per_second_lowest']:,.0f}-{row['tokens_per_second_highest']:,.0f}"
            lines.append(
                f"| {scale} | {row['model']} | {row['way']} | {row['choice']} | {row['texts']} "
                f"| {row['tokens_per_second']:,.0f} ({spread}) | {row['tokens_per_second_a_text']:,.0f} "
                f"| {row['limit_tokens_per_second']:,.0f} | {row['share_of_limit']:.0%} "
                f"| {row['speed_over_gpt2_generate']:.2f} | {row['speed_over_one_text']:.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write it beside the environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", nargs="+", default=["nano", "w512"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=200, help=f"at most {WINDOW - NUM_PROMPT}, what the window holds")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("decode.json"))
    given = parser.parse_args()
    logging.set_verbosity_error()  # transformers warns of names that its older versions need
    results = {
        "text": {"prompt": NUM_PROMPT, "tokens": given.tokens, "window": WINDOW, "vocabulary": VOCAB_SIZE},
        "repeats": given.repeats,
        "scales": {scale: measure(scale, given.repeats, given.tokens) for scale in given.scales},
        "environment": environment(),
    }
    given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    rates = [f"{scale}: {result['read_gigabytes_per_second']:.1f}" for scale, result in results["scales"].items()]
    print(f"memory is read at GB/s: {', '.join(rates)}\n\n{table(results)}\n\nwritten to {given.out}")


if __name__ == "__main__":
    main()
