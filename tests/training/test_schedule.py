"""Schedules as literal lists of the expected shares of the peak."""

import pytest
import torch

from nano_llm.config.schema import ConstantConfig, CosineConfig, LinearConfig, ScheduleConfig, WsdConfig
from nano_llm.training.schedule import lr_factor


def factors(schedule: ScheduleConfig, num_steps: int) -> list[float]:
    return [lr_factor(schedule, step, step / num_steps, None, 0) for step in range(num_steps + 1)]


def test_warm_up_starts_above_zero_and_reaches_the_peak() -> None:
    assert factors(ConstantConfig("constant", 4), 6) == [0.25, 0.5, 0.75, 1, 1, 1, 1]


def test_linear_falls_to_its_last_share() -> None:
    assert factors(LinearConfig("linear", 0, 0.2), 4) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])


def test_cosine_is_half_way_at_half_the_budget() -> None:
    assert factors(CosineConfig("cosine", 0, 0.0, per_epoch=False), 4) == pytest.approx(
        [1, 0.853553, 0.5, 0.146447, 0], abs=1e-6
    )


def test_wsd_holds_the_peak_then_falls() -> None:
    assert factors(WsdConfig("wsd", 0, 0.0, 0.5), 4) == pytest.approx([1, 1, 1, 0.5, 0])


def test_the_reference_steps_once_an_epoch() -> None:
    """CosineAnnealingLR over 4 epochs, from 3e-4 to 1e-6: constant inside an epoch."""
    schedule = CosineConfig("reference", 0, 1e-6 / 3e-4, per_epoch=True)
    ours = [3e-4 * lr_factor(schedule, 10 * e + s, 0.9, 4, e) for e in range(4) for s in range(2)]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4, eta_min=1e-6)
    theirs = []
    for _ in range(4):
        theirs += 2 * scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    assert ours == pytest.approx(theirs)
