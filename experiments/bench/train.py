"""Training speed of the three models beside a GPT-2 of the same dimensions, in one process.

    make bench                                              # nano and w512, minutes on two cores
    python experiments/bench/train.py --scales nano --repeats 20

All with AdamW and with dropout 0.1, the default of GPT-2, since cheap dropout is part of what is measured.
The models take turns, so that a slow moment of the machine hits all alike; figures are medians over the turns, and
ratios are medians of ratios within a turn. GPT-2 is transformers' own, with dropout as by default, in a plain
loop: forward with labels, backward, clip, AdamW. Run it alone: another busy process halves every figure.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from nano_llm.config.compose import compose_config
from nano_llm.config.schema import ScaleConfig
from nano_llm.data.batches import Batch
from nano_llm.model.language_model import build_language_model
from nano_llm.objective import Objective
from nano_llm.tracking.environment import environment
from nano_llm.training.machine import find_machine
from nano_llm.training.optimizer import Optimizer
from nano_llm.training.step import train_step

VOCAB_SIZE, ROWS, WINDOW, DROPOUT = 256, 16, 256, 0.1
TARGETS = ROWS * (WINDOW - 1)


def our_step(overrides: list[str]) -> Callable[[], object]:
    """Return one training step of ours on a random batch of full windows."""
    config = compose_config(overrides)
    machine = find_machine(config.trainer)
    torch.manual_seed(0)
    model = build_language_model(config.model, config.scale, VOCAB_SIZE, WINDOW).train()
    objective, optimizer = Objective(config.model, config.protocol.loss_average), Optimizer(config.optimizer, model)
    tokens = torch.randint(4, VOCAB_SIZE, (ROWS, WINDOW))
    zeros = torch.zeros(ROWS, dtype=torch.long)
    batch = Batch(tokens[:, :-1], tokens[:, 1:], torch.arange(ROWS) % 2, zeros, zeros, torch.full((ROWS,), 0.5))
    scaler = machine.scaler()
    return lambda: train_step(model, objective, optimizer, scaler, [batch], 1.0, machine)


def gpt2_step(scale: ScaleConfig) -> Callable[[], object]:
    """Return one training step of transformers' GPT-2 in a plain loop."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCAB_SIZE, n_positions=WINDOW, n_embd=scale.d_model, n_layer=scale.num_layers,
            n_head=scale.num_heads, n_inner=scale.d_ff, bos_token_id=1, eos_token_id=2,
        )
    ).train()  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    tokens = torch.randint(4, VOCAB_SIZE, (ROWS, WINDOW))  # the labels are shifted inside: TARGETS of them count

    def step() -> None:
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def matrix_product_gflops() -> float:
    """Return the machine's matrix-product rate, GFLOP/s in fp32: the ceiling of every step."""
    a, b = torch.randn(4096, 512), torch.randn(512, 2048)
    times = [timed(lambda: a @ b) for _ in range(20)]
    return 2 * 4096 * 512 * 2048 / min(times) / 1e9


def timed(step: Callable[[], object]) -> float:
    """Return the seconds that a step takes."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def measure(scale: str, repeats: int) -> dict[str, Any]:
    """Let the models take turns at one scale."""
    steps = {
        **{
            name: our_step(
                [f"scale={scale}", f"model={name}", f"model.dropout={DROPOUT}", "optimizer=adamw", "trainer.device=cpu"]
            )
            for name in ("vanilla", "interblock", "tarnet")
        },
        "gpt2": gpt2_step(compose_config([f"scale={scale}"]).scale),
    }
    for step in steps.values():
        step()
        step()
    turns = [{name: timed(step) for name, step in steps.items()} for _ in range(repeats)]
    return {name: figures(name, turns) for name in steps}


def figures(name: str, turns: list[dict[str, float]]) -> dict[str, float]:
    """Sum up the turns of one model."""
    seconds = sorted(turn[name] for turn in turns)
    return {
        "tokens_per_second": TARGETS / statistics.median(seconds),
        "milliseconds": 1000 * statistics.median(seconds),
        "milliseconds_lowest": 1000 * seconds[0],
        "milliseconds_highest": 1000 * seconds[-1],
        "speed_over_gpt2": statistics.median(turn["gpt2"] / turn[name] for turn in turns),
        "step_over_vanilla": statistics.median(turn[name] / turn["vanilla"] for turn in turns),
    }


def table(results: dict[str, Any]) -> str:
    """Write the results as Markdown."""
    lines = [
        "| scale | model | tokens/s | ms a step (lowest-highest) | speed / GPT-2 | step / vanilla |",
        "|---|---|---|---|---|---|",
    ]
    for scale, models in results["scales"].items():
        for name, row in models.items():
            spread = f"{row['milliseconds_lowest']:.0f}-{row['milliseconds_highest']:.0f}"
            lines.append(
                f"| {scale} | {name} | {row['tokens_per_second']:,.0f} | {row['milliseconds']:.0f} ({spread}) "
                f"| {row['speed_over_gpt2']:.2f} | {row['step_over_vanilla']:.3f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write it beside the environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", nargs="+", default=["nano", "w512"])
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("train.json"))
    given = parser.parse_args()
    results = {
        "batch": {"rows": ROWS, "window": WINDOW, "vocabulary": VOCAB_SIZE, "dropout": DROPOUT},
        "repeats": given.repeats,
        "matrix_product_gflops": matrix_product_gflops(),
        "scales": {scale: measure(scale, given.repeats) for scale in given.scales},
        "environment": environment(),
    }
    given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(
        f"matrix product: {results['matrix_product_gflops']:.0f} GFLOP/s\n\n{table(results)}\n\nwritten to {given.out}"
    )


if __name__ == "__main__":
    main()
