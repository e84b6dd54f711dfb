"""How long the steps of each recipe of the studies take one core: all recipes take turns, alone on the machine.

    python experiments/recipe/rates.py

Reads the cells of recipe and recipe_mini, and writes rates.json beside this file.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from nano_llm.bench.harness import Ceilings, spread, take_turns, timed, told
from nano_llm.config.schema import Config
from nano_llm.config.stored import from_plain
from nano_llm.data.batches import Batch
from nano_llm.model.language_model import build_language_model
from nano_llm.objective import Objective
from nano_llm.tracking.environment import environment
from nano_llm.training.machine import find_machine
from nano_llm.training.optimizer import Optimizer
from nano_llm.training.step import train_step

HERE = Path(__file__).parent
STUDIES = (HERE, HERE.parent / "recipe_mini")
REPEATS = 9


def main() -> None:
    torch.set_num_threads(1)
    configs = {}
    for study in STUDIES:
        for cell in sorted(study.glob("*/seed-0/cell.json")):
            config = from_plain(json.loads(cell.read_text())["config"])
            configs[f"{study.name}/{cell.parents[1].name}"] = config
    steps = {arm: step_of(config) for arm, config in configs.items()}
    for step in steps.values():
        step()
    turns = take_turns({(arm,): timed(step) for arm, step in steps.items()}, REPEATS, Ceilings())
    arms = {}
    for arm, config in configs.items():
        seconds = told(turns, (arm,))
        tokens, num_steps = targets(config), config.trainer.max_steps or 0
        arms[arm] = {
            "steps": num_steps,
            "tokens_per_second": spread(tokens / taken for taken in seconds),
            "minutes": spread(num_steps * taken / 60 for taken in seconds),
        }
        print(arm, *(f"{arms[arm][name]['median']:.4g} {name}" for name in ("tokens_per_second", "minutes")), sep="  ")
    record = {"repeats": REPEATS, "environment": environment(), "arms": arms}
    (HERE / "rates.json").write_text(json.dumps(record, indent=1) + "\n")


def targets(config: Config) -> int:
    """Return how many tokens a step learns to predict, of full windows."""
    return config.trainer.batch_size * (config.data.window_length - 1)


def step_of(config: Config) -> Callable[[], object]:
    """Return a training step of a recipe on random windows."""
    machine = find_machine(config.trainer)
    torch.manual_seed(0)
    rows, length, vocab_size = config.trainer.batch_size, config.data.window_length, config.data.tokenizer.vocab_size
    model = build_language_model(config.model, config.scale, vocab_size, length).train()
    objective, optimizer = Objective(config.model, config.protocol.loss_average), Optimizer(config.optimizer, model)
    tokens, zeros = torch.randint(4, vocab_size, (rows, length)), torch.zeros(rows, dtype=torch.long)
    batch = Batch(tokens[:, :-1], tokens[:, 1:], torch.arange(rows) % 2, zeros, zeros, torch.full((rows,), 0.5))
    scaler = machine.scaler()
    return lambda: train_step(model, objective, optimizer, scaler, [batch], 1.0, machine)


if __name__ == "__main__":
    main()
