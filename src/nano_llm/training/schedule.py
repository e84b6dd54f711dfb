"""Learning-rate schedules: the share of the peak at a step, as a pure function."""

import math

from nano_llm.config.schema import ConstantConfig, CosineConfig, LinearConfig, ScheduleConfig, WsdConfig


def lr_factor(schedule: ScheduleConfig, step: int, share: float, num_epochs: float | None, epoch: int) -> float:
    """Return the learning rate of a step as a share of its peak.

    Warm-up climbs by steps and starts above zero, so the first step already learns; it multiplies the schedule,
    which runs over the whole budget.

    Args:
        schedule: Kind and settings.
        step: Optimizer steps taken before this one.
        share: Share of the budget used before this step, in [0, 1].
        num_epochs: Budget in epochs, for a schedule that holds the rate during an epoch.
        epoch: Whole passes over the data finished before this step.
    """
    warmup = min(1.0, (step + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    if isinstance(schedule, CosineConfig) and schedule.per_epoch:
        assert num_epochs is not None, "the strict check demands trainer.max_epochs"
        share = min(1.0, epoch / num_epochs)
    return warmup * _shape(schedule, share)


def _shape(schedule: ScheduleConfig, share: float) -> float:
    match schedule:
        case CosineConfig():
            return _between(schedule.final_factor, (1 + math.cos(math.pi * share)) / 2)
        case LinearConfig():
            return _between(schedule.final_factor, 1 - share)
        case WsdConfig():
            return _between(schedule.final_factor, min(1.0, (1 - share) / schedule.decay_share))
        case ConstantConfig():
            return 1.0
    raise TypeError(f"no shape for {type(schedule).__name__}")


def _between(low: float, height: float) -> float:
    """Return the point at ``height`` in [0, 1] between ``low`` and the peak."""
    return low + (1 - low) * height
