"""Every figure that a run reports: its unit, the better direction, its meaning. The one table that reports read."""

from dataclasses import dataclass
from enum import Enum


class Better(Enum):
    """The direction in which a figure improves."""

    lower = "↓"
    higher = "↑"
    neither = ""


@dataclass(frozen=True)
class Metric:
    """What a figure means."""

    unit: str
    better: Better
    meaning: str

    def title(self, name: str) -> str:
        """Return a column's title."""
        return f"{name} {self.better.value}".strip()


METRICS = {
    "val_ce": Metric("nats a target", Better.lower, "cross-entropy over every target, prompt included"),
    "val_ppl": Metric("", Better.lower, "exp(val_ce)"),
    "val_bpb": Metric("bits a byte", Better.lower, "bits a byte of the cleaned review, each byte scored once"),
    "val_js": Metric("nats a token", Better.neither, "mean Jensen-Shannon divergence of the two heads"),
    "val_objective": Metric("nats", Better.lower, "what training minimises, penalties included"),
    "test_bpb": Metric("bits a byte", Better.lower, "as val_bpb, on the test split, once at the end"),
    "test_ce": Metric("nats a target", Better.lower, "as val_ce, on the test split, once at the end"),
    "tokens_per_second": Metric("tokens/s", Better.higher, "trained target tokens a second of training"),
    "training_seconds": Metric("s", Better.lower, "time of the training steps, validation excluded"),
    "parameters": Metric("", Better.neither, "parameters of the model"),
}
