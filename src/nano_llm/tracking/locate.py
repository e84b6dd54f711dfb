"""Runs by name: a run's folder, a checkpoint, or the latest run."""

from dataclasses import dataclass
from pathlib import Path

from nano_llm.errors import RequestError
from nano_llm.files import retired

LATEST = "latest"


@dataclass(frozen=True)
class Place:
    """Where a trained model lies."""

    checkpoint: Path
    folder: Path
    """Of the run; of the checkpoint itself where it lies in no run."""

    @property
    def checkpoint_name(self) -> str:
        """Which of the run's checkpoints it is; ``best`` of one that lies in no run."""
        return "best" if self.checkpoint == self.folder else self.checkpoint.name


def locate(name: str, outputs: Path) -> Place:
    """Find a trained model.

    Args:
        name: A run's folder (its best checkpoint is taken), a checkpoint's folder, or ``latest``.
        outputs: Below which the latest run is looked for.

    Raises:
        RequestError: There is no trained model there.
    """
    folder = _latest(outputs) if name == LATEST else Path(name).expanduser()
    in_run = folder.parent.name == "checkpoints"
    # One of a run that has lost its manifest is a damaged checkpoint, whose loading tells what else there is.
    if (folder / "manifest.json").is_file() or (in_run and folder.is_dir()):
        return Place(folder, folder.parent.parent if in_run else folder)
    best = folder / "checkpoints/best"
    if best.is_dir() or retired(best).is_dir():
        return Place(best, folder)
    raise RequestError(
        f"{folder} is neither a run with a checkpoint nor a checkpoint. Name a folder such as "
        f"outputs/<study>/<arm>/seed-0, one of its checkpoints, or `{LATEST}` for the newest run below {outputs}."
    )


def _latest(outputs: Path) -> Path:
    """Return the run whose best checkpoint is the newest."""
    found = sorted(outputs.glob("*/*/seed-*/checkpoints/best/manifest.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise RequestError(f"There is no run with a checkpoint below {outputs}. Train one, or name a checkpoint.")
    return found[-1].parents[2]
