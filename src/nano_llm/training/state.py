"""Where training stands: one value that, with weights and random state, resumes it exactly."""

from dataclasses import asdict, dataclass, field
from typing import Any

from nano_llm.training.budget import Spent


@dataclass
class State:
    """Position and memory of the training loop."""

    spent: Spent = field(default_factory=Spent)
    epoch: int = 0
    """Whole passes over the training windows finished."""
    position: int = 0
    """Windows of the current pass already used."""
    pending: list[list[float]] = field(default_factory=list)
    """Per step since the last log row: what `step.Measured` holds."""
    train_ce: float = 0.0
    """Of the last log row, in nats a token."""
    evaluated_step: int = -1
    """Step of the last validation, so that a resumed run does not repeat it."""
    evaluated_epoch: int = 0
    """Passes finished at the last validation."""
    best_value: float | None = None
    best_step: int = 0
    num_worse: int = 0
    """Validations since the best one."""

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON's types."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "State":
        """Rebuild what `to_json` returned."""
        return cls(**{**values, "spent": Spent(**values["spent"])})
