"""A run as event files that TensorBoard shows; the package is imported when a run asks for it."""

from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nano_llm.config.identity import to_plain
from nano_llm.tracking.tracker import POSITION, Start

EVENTS = "tensorboard"
"""Folder of the event files, in that of the run."""


class TensorboardTracker:
    """One session of a run as an event file: ``train/...``, ``validation/...`` and, at the end, ``summary/...``."""

    def __init__(self, start: Start, folder: Path) -> None:
        """Begin an event file.

        Args:
            start: Of the session. What earlier ones have shown of later steps counts no more.
            folder: Of the run.
        """
        # Of an extra: types are checked alike with it and without.
        client: Any = import_module("torch.utils.tensorboard")
        self._writer = client.SummaryWriter(folder / EVENTS, purge_step=start.step + 1)
        text = OmegaConf.to_yaml(OmegaConf.create({"id": start.run_id, **to_plain(start.config)}))
        self._writer.add_text("config", f"```yaml\n{text}```", start.step)
        self._writer.flush()

    def log(self, row: dict[str, Any]) -> None:
        """Show a row of metrics.jsonl."""
        figures = {name: value for name, value in row.items() if name not in POSITION}
        self._add(row["split"], figures, row["step"])

    def finish(self, state: str, summary: dict[str, Any] | None) -> None:
        """Show the figures of a finished run at its best step, and close the file."""
        if summary is not None:
            self._add("summary", summary["metrics"], summary["best_step"])
        self._writer.close()

    def _add(self, group: str, figures: dict[str, Any], step: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)
        # Rows are rare, and a kill is to lose none.
        self._writer.flush()
