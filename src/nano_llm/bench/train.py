"""Training steps of our models on a CPU, beside two peers of the vanilla model's dimensions in a plain loop.

The peers are transformers' GPT-2 and a decoder as a tutorial would write it. A step is forward, loss, backward, clip
and AdamW on a random batch of full windows. Under bf16 ours train with ``trainer.precision=bf16``, the peers under
autocast; a ratio compares steps of one precision, but for that over fp32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from nano_llm.bench.gpt2 import build_gpt2
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
    timed,
    told,
)
from nano_llm.bench.plain import PlainDecoder, next_token_loss, plain_step
from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Config, Precision, ScaleConfig, TwoOutcomeConfig
from nano_llm.data.batches import Batch
from nano_llm.model.accounting import forward_flops_per_token
from nano_llm.model.language_model import build_language_model
from nano_llm.objective import Objective
from nano_llm.training.machine import find_machine
from nano_llm.training.optimizer import Optimizer
from nano_llm.training.step import train_step

VOCAB_SIZE, ROWS, WINDOW, DROPOUT = 256, 16, 256, 0.1
TARGETS = ROWS * (WINDOW - 1)
OURS = {
    "vanilla": ["model=vanilla"],
    "interblock": ["model=interblock"],
    "tarnet": ["model=tarnet"],
    "tarnet, no separation": ["model=tarnet", "model/separation=none"],
    "s_plus": ["model=s_plus"],
    "t_learner": ["model=t_learner"],
}
PEERS = ("gpt2", "plain")
COLUMNS: Columns = {
    "scale": field("scale"),
    "model": field("model"),
    "precision": field("precision"),
    "tokens/s": field("tokens_per_second", ",.0f"),
    "ms a step (lowest-highest)": ranged("milliseconds", ".0f"),
    "speed / GPT-2": field("speed_over_gpt2", ".2f"),
    "speed / plain": field("speed_over_plain", ".2f"),
    "step / vanilla": field("step_over_vanilla", ".3f"),
    "speed / fp32": field("speed_over_fp32", ".2f"),
    "share of the product's rate": field("share_of_product", ".0%"),
}


@dataclass(frozen=True)
class Step:
    """One training step."""

    run: Callable[[], object]
    flops: float | None
    """Of the batch, forward and backward; None where the model does not compute all that it has."""


def measure(scales: Sequence[str], repeats: int, ceilings: Way | None = None) -> Measured:
    """Let all models of a scale take turns, scale after scale; in bf16 too where the CPU multiplies it faster."""
    ceilings = ceilings or Ceilings()
    precisions = precisions_of(ceilings())
    turns: list[Turn] = []
    rows: list[Row] = []
    for scale in scales:
        steps = steps_of(scale, precisions)
        for step in [*steps.values()] * 2:
            step.run()
        taken = take_turns({key: timed(step.run) for key, step in steps.items()}, repeats, ceilings)
        rows += [{"scale": scale, **row(key, steps[key].flops, taken)} for key in steps]
        turns += taken
    settings = {"rows": ROWS, "window": WINDOW, "vocabulary": VOCAB_SIZE, "dropout": DROPOUT}
    return Measured(settings, turns, rows, COLUMNS)


def precisions_of(ceilings: Figures) -> list[Precision]:
    """Return what is worth a row: a CPU without instructions for bf16 emulates them, many times slower than fp32."""
    is_faster = ceilings["bf16_gigaflops_per_second"] > ceilings["fp32_gigaflops_per_second"]
    return [Precision.fp32, Precision.bf16] if is_faster else [Precision.fp32]


def steps_of(name: str, precisions: Sequence[Precision]) -> dict[Key, Step]:
    """Return a step of every model in every precision."""
    scale = compose_config([f"scale={name}"]).scale
    steps: dict[Key, Step] = {}
    for precision in precisions:
        for model, overrides in OURS.items():
            steps[model, precision.name] = our_step([*overrides, f"scale={name}"], precision)
        flops = steps["vanilla", precision.name].flops
        steps["gpt2", precision.name] = Step(gpt2_step(scale, precision), flops)
        steps["plain", precision.name] = Step(decoder_step(scale, precision), flops)
    return steps


def our_step(overrides: Sequence[str], precision: Precision) -> Step:
    """Return one training step of ours."""
    settings = [f"model.dropout={DROPOUT}", "optimizer=adamw", "trainer.device=cpu"]
    config = compose_config([*overrides, *settings, f"trainer.precision={precision.name}"])
    return step_of(config, VOCAB_SIZE, ROWS, WINDOW)


def step_of(config: Config, vocab_size: int, num_rows: int, length: int) -> Step:
    """Return a training step of a run's model and recipe, on a random batch of full windows of that length."""
    machine = find_machine(config.trainer)
    torch.manual_seed(0)
    model = build_language_model(config.model, config.scale, vocab_size, length).train()
    objective, optimizer = Objective(config.model, config.protocol.loss_average), Optimizer(config.optimizer, model)
    tokens, zeros = random_tokens(vocab_size, num_rows, length), torch.zeros(num_rows, dtype=torch.long)
    halves = torch.full((num_rows,), 0.5)
    batch = Batch(tokens[:, :-1], tokens[:, 1:], torch.arange(num_rows) % 2, zeros, zeros, halves)
    scaler = machine.scaler()
    leaves_out = isinstance(config.model, TwoOutcomeConfig) and not objective.reads_both
    num_targets = num_rows * (length - 1)
    return Step(
        lambda: train_step(model, objective, optimizer, scaler, [batch], 1.0, machine),
        None if leaves_out else 3 * num_targets * forward_flops_per_token(model, length - 1),
    )


def gpt2_step(scale: ScaleConfig, precision: Precision) -> Callable[[], object]:
    """Return one training step of transformers' GPT-2."""
    model = build_gpt2(scale, VOCAB_SIZE, WINDOW, DROPOUT).train()
    tokens = random_tokens()  # the labels are shifted inside: TARGETS of them count
    return plain_step(model, lambda: model(input_ids=tokens, labels=tokens).loss, precision)


def decoder_step(scale: ScaleConfig, precision: Precision) -> Callable[[], object]:
    """Return one training step of the tutorial's decoder."""
    torch.manual_seed(0)
    model = PlainDecoder(scale, VOCAB_SIZE, WINDOW, DROPOUT).train()
    tokens = random_tokens()
    return plain_step(model, lambda: next_token_loss(model, tokens), precision)


def random_tokens(vocab_size: int = VOCAB_SIZE, num_rows: int = ROWS, length: int = WINDOW) -> torch.Tensor:
    """Return a batch of windows."""
    return torch.randint(4, vocab_size, (num_rows, length))


def row(key: Key, flops: float | None, turns: Sequence[Turn]) -> Row:
    """Sum up the turns of one model in one precision."""
    model, precision = key
    seconds = told(turns, key)
    figures: Row = {
        "model": model,
        "precision": precision,
        "tokens_per_second": spread(TARGETS / taken for taken in seconds),
        "milliseconds": spread(1000 * taken for taken in seconds),
        **{f"speed_over_{peer}": ratio(turns, (peer, precision), key) for peer in PEERS},
        "step_over_vanilla": ratio(turns, key, ("vanilla", precision)),
    }
    if precision != Precision.fp32.name:
        figures["speed_over_fp32"] = ratio(turns, (model, Precision.fp32.name), key)
    if flops is not None:
        rates = [1e9 * turn.ceilings[f"{precision}_gigaflops_per_second"] for turn in turns]
        figures["share_of_product"] = spread(flops / taken / rate for taken, rate in zip(seconds, rates, strict=True))
    return figures
