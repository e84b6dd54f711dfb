"""Decoding speed of our models on a CPU, beside a GPT-2 of the same dimensions and beside the memory's limit.

Texts of a given number of tokens behind a prompt, the reading of the prompt included; no token ends a text. Weights are
random, speed does not depend on them.

The limit: a step reads all weights (of the token embedding only rows, unless it is the readout too) and, at half
length, the keys and values of each text. It cannot take less time than the memory needs to hand over so many bytes,
at the rate at which a sum reads a large buffer in the same turn with the same threads. Many texts at once are bound by
arithmetic long before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from nano_llm.bench.gpt2 import build_gpt2
from nano_llm.bench.harness import (
    Ceilings,
    Columns,
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
    timed,
    told,
)
from nano_llm.config.compose import compose_config
from nano_llm.config.schema import ScaleConfig
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.generation.noise import Noise
from nano_llm.generation.sampling import Sampling
from nano_llm.generation.vocabulary import Vocabulary
from nano_llm.generation.writer import Order, Writer
from nano_llm.model.language_model import LanguageModel, build_language_model
from nano_llm.model.readout import TiedReadout

VOCAB_SIZE, WINDOW, NUM_PROMPT, NUM_ROWS = 264, 256, 20, 32
SAMPLINGS = {"greedy": Sampling(temperature=0), "sampled": Sampling(temperature=1, top_p=0.9)}
COLUMNS: Columns = {
    "scale": field("scale"),
    "model": field("model"),
    "way": field("way"),
    "choice": field("choice"),
    "texts": field("texts"),
    "tokens/s (lowest-highest)": ranged("tokens_per_second", ",.0f"),
    "a text": field("tokens_per_second_a_text", ",.0f"),
    "memory's limit": field("limit_tokens_per_second", ",.0f"),
    "share of it": field("share_of_limit", ".0%"),
    "speed / GPT-2 `generate`": field("speed_over_gpt2_generate", ".2f"),
    "speed / one text": field("speed_over_one_text", ".2f"),
}


@dataclass(frozen=True)
class Decoding:
    """One way to write texts with one model."""

    model: str
    name: str
    choice: str  # greedy or sampled
    num_rows: int  # texts at once
    write: Callable[[int], object]  # that many tokens of each text
    num_weight_bytes: int  # read in a step
    num_cache_bytes: int  # of one token of one text; 0 if there is no cache

    @property
    def key(self) -> Key:
        """What tells it from the others."""
        return self.model, self.name, self.choice, self.num_rows


class EndlessVocabulary(Vocabulary):
    """No token ends a text, so that all have their full length."""

    @cached_property
    def ends(self) -> frozenset[int]:
        """None."""
        return frozenset()


def our_decodings(name: str, scale: str) -> list[Decoding]:
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
            Decoding(name, "ours", choice, num_rows, writing(writer, num_rows, sampling), *num_bytes)
            for choice, sampling in SAMPLINGS.items()
            for num_rows in (1, 2, NUM_ROWS)
        ),
        Decoding(name, "no cache", "greedy", 1, lambda num_tokens: write_anew(model, num_tokens), num_bytes[0], 0),
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


def gpt2_decodings(scale: ScaleConfig) -> list[Decoding]:
    """Return transformers' ``generate``, a plain loop with its cache, and one without."""
    model = build_gpt2(scale, VOCAB_SIZE, WINDOW, dropout=0.0).eval()
    num_bytes = weight_bytes(model, [model.transformer.wpe]), cache_bytes(scale)
    return [
        *(
            Decoding("gpt2", "generate", choice, num_rows, generating(model, num_rows, sampling), *num_bytes)
            for choice, sampling in SAMPLINGS.items()
            for num_rows in (1, 2, NUM_ROWS)
        ),
        *(
            Decoding("gpt2", "loop", "greedy", num_rows, looping(model, num_rows, use_cache=True), *num_bytes)
            for num_rows in (1, NUM_ROWS)
        ),
        Decoding("gpt2", "no cache", "greedy", 1, looping(model, 1, use_cache=False), num_bytes[0], 0),
    ]


def generating(model: Any, num_rows: int, sampling: Sampling) -> Callable[[int], None]:
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


def looping(model: Any, num_rows: int, use_cache: bool) -> Callable[[int], None]:
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


def weight_bytes(model: nn.Module, unread: Sequence[nn.Module]) -> int:
    """Return the bytes of the weights that a step reads, without those of modules of which it reads some rows."""
    unread_weights = {id(weight) for module in unread for weight in module.parameters()}
    return sum(weight.nbytes for weight in model.parameters() if id(weight) not in unread_weights)


def cache_bytes(scale: ScaleConfig) -> int:
    """Return the bytes of a token's keys and values in fp32."""
    return scale.num_layers * 2 * scale.d_model * 4


def measure(scales: Sequence[str], repeats: int, num_tokens: int, ceilings: Way | None = None) -> Measured:
    """Let all ways of a scale take turns, scale after scale."""
    ceilings = ceilings or Ceilings()
    turns: list[Turn] = []
    rows: list[Row] = []
    for scale in scales:
        decodings = decodings_of(scale)
        for decoding in decodings:
            decoding.write(4)
        ceilings()
        ways = {decoding.key: timed(partial(decoding.write, num_tokens)) for decoding in decodings}
        taken = take_turns(ways, repeats, ceilings)
        rows += [{"scale": scale, **row(decoding, taken, num_tokens)} for decoding in decodings]
        turns += taken
    settings = {"prompt": NUM_PROMPT, "tokens": num_tokens, "window": WINDOW, "vocabulary": VOCAB_SIZE}
    return Measured(settings, turns, rows, COLUMNS)


def decodings_of(scale: str) -> list[Decoding]:
    """Return all ways to write at one scale."""
    return [
        *our_decodings("tarnet", scale),
        *our_decodings("vanilla", scale),
        *gpt2_decodings(compose_config([f"scale={scale}"]).scale),
    ]


def row(decoding: Decoding, turns: Sequence[Turn], num_tokens: int) -> Row:
    """Sum up the turns of one way; rates count the tokens of all its texts."""
    num_rows = decoding.num_rows
    peer, single = ("gpt2", "generate", decoding.choice, num_rows), (*decoding.key[:3], 1)
    num_bytes = decoding.num_weight_bytes + num_rows * decoding.num_cache_bytes * (NUM_PROMPT + num_tokens / 2)
    rates = [num_rows * num_tokens / seconds for seconds in told(turns, decoding.key)]
    limits = [num_rows * 1e9 * turn.ceilings["read_gigabytes_per_second"] / num_bytes for turn in turns]
    over_one = ratio(turns, single, decoding.key)
    return {
        "model": decoding.model,
        "way": decoding.name,
        "choice": decoding.choice,
        "texts": num_rows,
        "tokens_per_second": spread(rates),
        "tokens_per_second_a_text": spread(rate / num_rows for rate in rates),
        "megabytes_a_step": num_bytes / 1e6,
        "limit_tokens_per_second": spread(limits),
        "share_of_limit": spread(rate / limit for rate, limit in zip(rates, limits, strict=True)),
        "speed_over_gpt2_generate": ratio(turns, peer, decoding.key),
        "speed_over_one_text": {end: num_rows * times for end, times in over_one.items()},
    }
