"""How long the steps of each recipe of the studies take one core: all recipes take turns, alone on the machine.

    python experiments/recipe/rates.py

Reads the cells of recipe and recipe_mini, and writes rates.json beside this file.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from nano_llm.bench.harness import spread, take_turns, timed, told
from nano_llm.bench.train import step_of
from nano_llm.config.schema import Config
from nano_llm.config.stored import from_plain
from nano_llm.tracking.environment import environment

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
    steps = {arm: step(config) for arm, config in configs.items()}
    for take in steps.values():
        take()
    turns = take_turns({(arm,): timed(take) for arm, take in steps.items()}, REPEATS, ceilings=dict)
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


def step(config: Config) -> Callable[[], object]:
    """Return a training step of a recipe on random windows."""
    return step_of(config, config.data.tokenizer.vocab_size, config.trainer.batch_size, config.data.window_length).run


def targets(config: Config) -> int:
    """Return how many tokens a step learns to predict, of full windows."""
    return config.trainer.batch_size * (config.data.window_length - 1)


if __name__ == "__main__":
    main()
