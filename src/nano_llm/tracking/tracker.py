"""What a tracker is: a view of a run beside metrics.jsonl."""

from dataclasses import dataclass
from typing import Any, Protocol

from nano_llm.config.schema import Config

POSITION = ("step", "split")
"""Of a row of metrics.jsonl: where it stands; the rest are figures."""


@dataclass(frozen=True)
class Start:
    """Where a session of a run begins."""

    config: Config
    run_id: str
    step: int
    """After which it goes on; 0 at the beginning."""


class Tracker(Protocol):
    """Shows one session of a run; raises whatever its client raises."""

    def log(self, row: dict[str, Any]) -> None:
        """Show a row of metrics.jsonl."""

    def finish(self, state: str, summary: dict[str, Any] | None) -> None:
        """Show how the session has ended, and let go.

        Args:
            state: Of the run, as in its status.json.
            summary: As in its summary.json; None unless the run is finished, and of a tracker that has failed.
        """
