"""The trackers of a run: they show its figures beside metrics.jsonl, which stays the truth. None can stop a run."""

import contextlib
from collections.abc import Iterator
from typing import Any

from nano_llm.config.schema import TrackerConfig
from nano_llm.errors import ConfigError
from nano_llm.tracking.installation import lacking
from nano_llm.tracking.run_folder import RunFolder
from nano_llm.tracking.tensorboard import TensorboardTracker
from nano_llm.tracking.tracker import Start, Tracker
from nano_llm.tracking.wandb import WandbTracker

WANDB, TENSORBOARD = "wandb", "tensorboard"
"""What trackers are called, which is what their packages are called too."""


def demand_installed(chosen: TrackerConfig) -> None:
    """Make sure that the packages of the trackers are there, in a version that will do.

    Raises:
        ConfigError: One is not.
    """
    parts = {WANDB: chosen.wandb, TENSORBOARD: chosen.tensorboard}
    for lack in lacking("track"):
        if parts.get(lack.name) is not None:
            raise ConfigError(
                f"tracker={lack.name}: needs {lack}. Add it with pip install 'nano-llm[track]', or leave the tracker "
                "out: metrics.jsonl has the same figures."
            )


class Trackers:
    """The trackers of one session; use as a context.

    One that fails is left out from there on, which is said once. At the end of the context they are told what the
    folder says of the run, so that is to be written before.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._at_work: dict[str, Tracker] = {}

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, *_: object) -> None:
        state, summary = self._state(), self._folder.summary()
        for name, tracker in list(self._at_work.items()):
            try:
                with self._or_without(name):
                    tracker.finish(state, summary)
            except KeyboardInterrupt:
                self._folder.say(f"The tracker {name} is not waited for any longer; metrics.jsonl has all figures.")

    def begin(self, start: Start) -> None:
        """Open the trackers that the configuration of the run asks for; they end in this order, uploads last."""
        chosen = start.config.tracker
        if chosen.tensorboard is not None:
            with self._or_without(TENSORBOARD):
                self._at_work[TENSORBOARD] = TensorboardTracker(start, self._folder.path)
        if chosen.wandb is not None:
            with self._or_without(WANDB):
                self._at_work[WANDB] = WandbTracker(chosen.wandb, start, self._folder)

    def log(self, row: dict[str, Any]) -> None:
        """Show a row of metrics.jsonl."""
        for name, tracker in list(self._at_work.items()):
            with self._or_without(name):
                tracker.log(row)

    @contextlib.contextmanager
    def _or_without(self, name: str) -> Iterator[None]:
        """Go on without a tracker that fails in the block, whatever its client raises."""
        try:
            yield
        except Exception as error:
            self._let_go(name)
            told = next(iter(str(error).splitlines()), "")
            self._folder.say(
                f"The tracker {name} has failed and is left out from here on ({type(error).__name__}: {told}). The run "
                "itself is not affected; metrics.jsonl has all figures."
            )

    def _let_go(self, name: str) -> None:
        """Drop a tracker that has failed, and let its client clear up if it can."""
        tracker = self._at_work.pop(name, None)
        if tracker is not None:
            with contextlib.suppress(Exception):
                tracker.finish(self._state(), None)

    def _state(self) -> str:
        return str(self._folder.status().get("state"))
