"""How much a run may spend, and how much it has spent."""

from dataclasses import dataclass

from nano_llm.config.schema import TrainerConfig


@dataclass
class Spent:
    """What training has used up, over all sessions of the run."""

    steps: int = 0
    tokens: int = 0
    """Target tokens trained on."""
    windows: int = 0
    seconds: float = 0.0
    """Wall time of training; validation and saving excluded."""


def budget_shares(trainer: TrainerConfig, spent: Spent, windows_per_epoch: int) -> dict[str, float]:
    """Return the used share of each budget that is set, by the name of its setting."""
    used = {
        "max_epochs": (spent.windows / windows_per_epoch, trainer.max_epochs),
        "max_steps": (spent.steps, trainer.max_steps),
        "max_tokens": (spent.tokens, trainer.max_tokens),
        "max_minutes": (spent.seconds / 60, trainer.max_minutes),
    }
    return {name: amount / limit for name, (amount, limit) in used.items() if limit is not None}


def budget_share(trainer: TrainerConfig, spent: Spent, windows_per_epoch: int) -> float:
    """Return the largest used share of the budgets that are set; training ends at 1.

    With ``max_steps`` and ``max_minutes`` both set, for example, whichever is used up first ends the run, and
    schedules follow it.
    """
    return max(budget_shares(trainer, spent, windows_per_epoch).values())
