"""Budgets: whichever is used up first ends the run."""

import pytest

from nano_llm.config.compose import compose_config
from nano_llm.training.budget import Spent, budget_share

SPENT = Spent(steps=50, tokens=4000, windows=300, seconds=90.0)


@pytest.mark.parametrize(
    ("overrides", "share"),
    [
        (["trainer.max_epochs=6"], 0.5),
        (["trainer.max_epochs=0.75"], 4.0),
        (["trainer.max_epochs=null", "trainer.max_steps=200"], 0.25),
        (["trainer.max_epochs=null", "trainer.max_tokens=5000"], 0.8),
        (["trainer.max_epochs=null", "trainer.max_minutes=15"], 0.1),
        (["trainer.max_epochs=6", "trainer.max_minutes=2"], 0.75),
    ],
)
def test_the_most_used_budget_counts(overrides: list[str], share: float) -> None:
    assert budget_share(compose_config(overrides).trainer, SPENT, windows_per_epoch=100) == pytest.approx(share)
