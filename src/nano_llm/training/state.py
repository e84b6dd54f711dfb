"""Where training stands: one value that, with weights and random state, resumes it exactly."""

import math
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from nano_llm.errors import CheckpointError
from nano_llm.training.budget import Spent


@dataclass
class StepFigures:
    """What is known of one step once its figures have been fetched from the device."""

    tokens: int
    seconds: float
    lr_factor: float
    loss: float
    ce: float
    """Sum over the step's targets, in nats."""
    separation: float
    """Sum of the objective's separation term, in nats."""
    separation_count: float
    """Summands of the term: targets, windows or pairs, as its kind has it; 0 without a term."""
    grad_norm: float | None
    """Before clipping; None where the step was skipped: its other figures of the loss are 0 and enter no average."""


@dataclass
class State:
    """Position and memory of the training loop."""

    spent: Spent = field(default_factory=Spent)
    epoch: int = 0
    """Whole passes over the training windows finished."""
    position: int = 0
    """Windows of the current pass already used."""
    pending: list[StepFigures] = field(default_factory=list)
    """Steps since the last log row."""
    train_ce: float | None = None
    """Of the last log row, in nats a token."""
    evaluated_step: int = -1
    """Step of the last validation, so that a resumed run does not repeat it."""
    evaluated_epoch: int = 0
    """Passes finished at the last validation."""
    best_value: float | None = None
    num_worse: int = 0
    """Validations since the best one."""
    num_skipped: int = 0
    """Steps whose update was left out, of all that were spent."""
    skipped_in_a_row: int = 0
    """Of these, the ones since the last step that was taken."""
    recent_norms: list[float] = field(default_factory=list)
    """Gradient norms of the latest steps taken, the newest last, where spikes are watched for."""

    @property
    def untold(self) -> set[str]:
        """Splits whose row of figures after the last step is still to be told."""
        rows = {"train": bool(self.pending), "validation": self.evaluated_step != self.spent.steps}
        return {split for split, is_due in rows.items() if is_due}

    def forget_best_after(self, step: int) -> bool:
        """Let the next validation be the best one if the best checkpoint is of a step that is not known here.

        Its weights have replaced those that ``best_value`` tells of, and where steps do not repeat exactly, this
        training may never come by them again.

        Args:
            step: Of the best checkpoint.

        Returns:
            Whether it was so.
        """
        if step <= self.evaluated_step:
            return False
        self.best_value, self.num_worse = None, 0
        return True

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON's types."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> "State":
        """Rebuild what `to_json` returned; what an earlier version did not note yet is as at the start.

        Raises:
            CheckpointError: It is nothing that `to_json` returns.
        """
        state = _rebuilt(cls, values, "loop")
        assert isinstance(state, cls)
        spent = state.spent
        counts = (spent.steps, spent.tokens, spent.windows, spent.seconds, state.epoch, state.position)
        if min(counts) < 0 or (spent.steps > 0 and spent.seconds == 0):
            raise CheckpointError(f"Its loop has spent {spent} and is at {(state.epoch, state.position)}.")
        if any(figures.tokens < 1 or figures.seconds <= 0 for figures in state.pending):
            raise CheckpointError("Its loop.pending has a step of no tokens or no time.")
        return state


def _rebuilt(hint: Any, value: Any, name: str) -> Any:
    """Return a value of JSON as one of a type: a dataclass, a list, or a number that may be allowed to be absent."""
    if is_dataclass(hint) and isinstance(value, dict):
        declared = {each.name: each for each in fields(hint)}
        needed = {key for key, each in declared.items() if each.default is each.default_factory is MISSING}
        if wrong := sorted((needed - value.keys()) | (value.keys() - declared.keys())):
            raise CheckpointError(
                f"{', '.join(wrong):.200} in its {name} is missing or unknown to this version; was it saved by a newer "
                "one?"
            )
        hints = get_type_hints(hint)
        return hint(**{key: _rebuilt(hints[key], item, f"{name}.{key}") for key, item in value.items()})  # type: ignore[operator]
    allowed = get_args(hint)
    if get_origin(hint) is list and isinstance(value, list):
        return [_rebuilt(allowed[0], item, f"{name}[{i}]") for i, item in enumerate(value)]
    if value is None and type(None) in allowed:
        return None
    if hint is int and type(value) is int and -1 <= value < 1 << 63:
        return value
    if float in (hint, *allowed) and type(value) in (int, float) and abs(value) < 1 << 1000 and math.isfinite(value):
        return value
    raise CheckpointError(f"Its {name} is {value!r:.80}; expected {hint}.")
