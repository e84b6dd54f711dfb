"""Where training stands: one value that, with weights and random state, resumes it exactly."""

from dataclasses import asdict, dataclass, field
from typing import Any

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

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON's types."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "State":
        """Rebuild what `to_json` returned."""
        pending = [StepFigures(**figures) for figures in values["pending"]]
        return cls(**{**values, "spent": Spent(**values["spent"]), "pending": pending})
