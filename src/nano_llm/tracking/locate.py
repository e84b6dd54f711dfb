"""Trained models by name: a run's folder, a checkpoint, the latest run, or a model that came with nano_llm.

A shipped model lies as a run does, without what only its training needs:

<models>/imdb-mini/
  checkpoints/best/   evaluation-full/   environment.json  data.json  summary.json  metrics.jsonl  README.md
"""

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
    """Of the run or of the shipped model; of the checkpoint itself where it lies in neither."""
    is_shipped: bool = False
    """Whether it came with nano_llm: nothing is written into its folder."""

    @property
    def checkpoint_name(self) -> str:
        """Which of the run's checkpoints it is; ``best`` of one that lies in no run."""
        return "best" if self.checkpoint == self.folder else self.checkpoint.name


def locate(name: str, outputs: Path) -> Place:
    """Find a trained model.

    Args:
        name: A run's folder (its best checkpoint is taken), a checkpoint's folder, the name of a shipped model, or
            ``latest``. A folder that holds a model goes before a shipped one of its name.
        outputs: Below which the latest run is looked for.

    Raises:
        RequestError: There is no trained model of that name.
    """
    folder = _latest(outputs) if name == LATEST else Path(name).expanduser()
    place = _in_folder(folder)
    if place is None and name in shipped_models():
        place = _in_folder(models_folder() / name)
    if place is not None:
        return place
    raise RequestError(
        f"{folder} is neither a run with a checkpoint nor a checkpoint. Name a folder such as "
        f"outputs/<study>/<arm>/seed-0, one of its checkpoints, `{LATEST}` for the newest run below {outputs}"
        f"{_or_shipped()}."
    )


def models_folder() -> Path:
    """Return the folder of the shipped models: inside the package of a wheel, below ``experiments`` of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "models"
    return installed if installed.is_dir() else package.parents[1] / "experiments/models"


def shipped_models() -> list[str]:
    """Return the names of the shipped models."""
    found = (best.parents[1].name for best in models_folder().glob("*/checkpoints/best"))
    return sorted(name for name in found if not name.startswith("."))  # one that is being made


def _or_shipped() -> str:
    return "".join(f", or `{model}`, which came with nano_llm" for model in shipped_models())


def _in_folder(folder: Path) -> Place | None:
    """Return the model that lies in the folder of a run or of a checkpoint."""
    in_run = folder.parent.name == "checkpoints"
    # One of a run that has lost its manifest is a damaged checkpoint, whose loading tells what else there is.
    if (folder / "manifest.json").is_file() or (in_run and folder.is_dir()):
        return _place(folder, folder.parent.parent if in_run else folder)
    best = folder / "checkpoints/best"
    if best.is_dir() or retired(best).is_dir():
        return _place(best, folder)
    return None


def _place(checkpoint: Path, folder: Path) -> Place:
    return Place(checkpoint, folder, is_shipped=folder.resolve().parent == models_folder().resolve())


def _latest(outputs: Path) -> Path:
    """Return the run whose best checkpoint is the newest."""
    found = sorted(outputs.glob("*/*/seed-*/checkpoints/best/manifest.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise RequestError(
            f"There is no run with a checkpoint below {outputs}. Train one, or name a checkpoint{_or_shipped()}."
        )
    return found[-1].parents[2]
