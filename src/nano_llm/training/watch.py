"""The watch over a run's steps: which may be taken, which are left out, and when to give up."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median

import torch

from nano_llm.config.schema import BadSteps, TrainerConfig
from nano_llm.errors import DivergedError
from nano_llm.training.state import State
from nano_llm.training.step import MEASURED

NUM_RECENT = 128
"""Steps whose gradient norms are remembered; half of them are waited for before a step is called a spike. Both as in
OLMo-core's ``SkipStepOptimizer``, which like this one leaves figures that are not finite out of the usual."""

MAX_SKIPPED_IN_A_ROW = 20
"""Steps that may be skipped one after another. A bad batch is followed by good ones; when so many different batches
are bad, the weights are, and skipping cannot mend those. Of overflows at the loss scale of fp16 there may be more: each
halves it, so they end in a good step or below `MIN_LOSS_SCALE`, however high it had grown."""

MIN_LOSS_SCALE = 1.0
"""Below it fp16 gradients would overflow without any scale: nothing is left to be lowered. DeepSpeed ends a run there
too (``DynamicLossScaler``), and PyTorch says of such a scale that something is likely wrong (``GradScaler.update``)."""

SMALLER_STEPS = "Lower the learning rate (optimizer.lr), clip gradients (optimizer.grad_clip)"
SMALLER_OR_FINER = f"{SMALLER_STEPS}, or raise the precision (trainer.precision=fp32)"


class FaultKind(Enum):
    """What is wrong with a step."""

    loss = "loss"
    """A figure of the loss is not finite."""
    gradient = "gradient"
    """The loss is finite, the gradient's norm is not."""
    overflow = "overflow"
    """The same, and a gradient has overflowed at the loss scale of fp16: a lower one may mend that."""
    spike = "spike"
    """The gradient's norm is finite, but far beyond those of recent steps."""


@dataclass(frozen=True)
class Fault:
    """Why a step is bad."""

    kind: FaultKind
    text: str
    """What the step did, with its figures: "met ..."."""

    @property
    def remedy(self) -> str:
        """What to do about it."""
        otherwise = "have such steps left out (trainer.bad_steps=skip)"
        if self.kind is FaultKind.spike:
            return f"{SMALLER_STEPS}, raise trainer.spike_factor, or {otherwise}."
        return f"{SMALLER_STEPS}, raise the precision (trainer.precision=fp32), or {otherwise}."


def find_fault(
    figures: Sequence[float], recent_norms: Sequence[float], spike_factor: float | None, overflowed: bool = False
) -> Fault | None:
    """Say what is wrong with a step, if anything is.

    A spike is sought in the gradient and not in the loss: the norm is what the update would follow, and unlike the
    loss it is known by how many times it exceeds the usual, at any stage of training. The usual is the median, which
    a few large norms do not move. Of the 164 runs recorded in ``experiments/``, none has logged a norm above 2.5 times
    the median of the seven before it.

    Args:
        figures: The step's values of `MEASURED`.
        recent_norms: Gradient norms of the latest steps that were taken.
        spike_factor: As in ``trainer.spike_factor``.
        overflowed: Whether a gradient overflowed at the loss scale. A norm can be infinite without: it squares.
    """
    *losses, norm = figures
    if not all(map(math.isfinite, figures)):
        named = ", ".join(f"{name} {value:g}" for name, value in zip(MEASURED, figures, strict=True))
        of_gradient = FaultKind.overflow if overflowed else FaultKind.gradient
        kind = of_gradient if all(map(math.isfinite, losses)) else FaultKind.loss
        return Fault(kind, f"met a figure that is not finite ({named})")
    if spike_factor is None or len(recent_norms) < NUM_RECENT // 2:
        return None
    usual = median(recent_norms)
    if norm <= spike_factor * usual:
        return None
    times = f"{norm / usual:.3g} times the median of recent steps, {usual:g}" if usual else "after gradients of 0"
    return Fault(FaultKind.spike, f"met a spike: its gradient norm {norm:g} is {times} (trainer.spike_factor)")


class Watch:
    """Judges every step of a run once; what it remembers is in the run's `State`.

    Args:
        trainer: ``bad_steps`` and ``spike_factor``.
        scaler: Loss scale of fp16, which explains gradients that are not finite.
    """

    def __init__(self, trainer: TrainerConfig, scaler: torch.amp.GradScaler) -> None:
        self._skips = trainer.bad_steps is BadSteps.skip
        self._spike_factor = trainer.spike_factor
        self._scaler = scaler

    @property
    def may_skip(self) -> bool:
        """Whether a step must be judged before its update: one may be skipped by request, or for the loss scale."""
        return self._skips or self._scaler.is_enabled()

    def judge(self, state: State, step: int, figures: Sequence[float], overflowed: bool = False) -> Fault | None:
        """Find what is wrong with a step, and remember it among the good ones if nothing is.

        Args:
            state: Of the run.
            step: Its number.
            figures: Its values of `MEASURED`.
            overflowed: Whether a gradient overflowed at the loss scale.

        Returns:
            Why the step is to be skipped; None if it may be taken.

        Raises:
            DivergedError: It is bad, and not to be skipped.
        """
        fault = find_fault(figures, state.recent_norms, self._spike_factor, overflowed)
        if fault is None:
            state.skipped_in_a_row = 0
            if self._spike_factor is not None:
                state.recent_norms = [*state.recent_norms[1 - NUM_RECENT :], figures[-1]]
        elif not (self._skips or fault.kind is FaultKind.overflow):
            raise DivergedError(f"Step {step} {fault.text}. {fault.remedy}")
        return fault

    def count_skip(self, state: State, step: int, fault: Fault) -> None:
        """Count a step that was skipped.

        Raises:
            DivergedError: The loss scale has collapsed, or too many steps were skipped in a row.
        """
        state.num_skipped += 1
        state.skipped_in_a_row += 1
        by_scale = fault.kind is FaultKind.overflow
        if by_scale and self._scaler.get_scale() < MIN_LOSS_SCALE:
            raise DivergedError(
                f"The loss scale of fp16 has collapsed to {self._scaler.get_scale():g} at step {step}, the last of "
                f"{state.skipped_in_a_row} in a row that could not be taken: it {fault.text}. Gradients that overflow "
                f"even at a scale of 1 have diverged. {SMALLER_STEPS}, or train in trainer.precision=bf16 or fp32."
            )
        if not by_scale and state.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise DivergedError(
                f"Steps {step - state.skipped_in_a_row + 1} to {step} were all skipped; the last one {fault.text}. "
                "One batch may be bad, but not so many in a row: the weights are, and skipping does not mend them. "
                f"{SMALLER_OR_FINER}."
            )
