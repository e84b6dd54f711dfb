"""Checkpoints: a folder of JSON and tensors that rebuilds a model from itself alone.

    <run>/checkpoints/best/
      model.safetensors   weights
      config.json         the run's configuration
      tokenizer.json      the tokenizer, in the format of the `tokenizers` library
      metrics.json        step and figures at the time of saving
      training.safetensors, training.json   (`last` only) optimizer, random state, position: what resuming needs
      manifest.json       format version and SHA-256 of every file; written last

Nothing is pickled, nothing is guessed from names; a folder whose manifest is absent or does not fit is refused.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn

from nano_llm.config.identity import to_plain
from nano_llm.config.schema import Config
from nano_llm.config.stored import from_plain
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.errors import CheckpointError, ConfigError
from nano_llm.files import replaced_folder, retired, sha256, write_bytes, write_json, write_text
from nano_llm.model.language_model import LanguageModel, build_language_model

FORMAT = 1


@dataclass(frozen=True)
class TrainingState:
    """What resuming needs beyond the weights."""

    values: dict[str, Any]
    """Position, counters and accumulators, as JSON."""
    tensors: dict[str, Tensor]
    """Moments of the optimizer and states of the random generators."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read from disk."""

    config: Config
    tokenizer: Tokenizer
    weights: dict[str, Tensor]
    metrics: dict[str, Any]
    training: TrainingState | None

    def model(self) -> LanguageModel:
        """Build the model with its weights, on the CPU, ready for evaluation."""
        model = build_model(self.config, self.tokenizer.vocab_size)
        model.load_state_dict(self.weights)
        return model.eval()


def build_model(config: Config, vocab_size: int) -> LanguageModel:
    """Build the model of a configuration with fresh initial values, from torch's random state."""
    return build_language_model(config.model, config.scale, vocab_size, max_positions=config.data.window_length)


def save(
    folder: Path,
    *,
    config: Config,
    tokenizer: Tokenizer,
    model: nn.Module,
    metrics: dict[str, Any],
    training: TrainingState | None = None,
) -> None:
    """Write a checkpoint in the place of the one at ``folder``, whole or not at all.

    Raises:
        OutputError: The folder cannot be written; the old checkpoint is untouched.
    """
    with replaced_folder(folder) as new:
        _save_tensors(model.state_dict(), new / "model.safetensors")
        write_json(new / "config.json", to_plain(config))
        write_text(new / "tokenizer.json", tokenizer.to_json())
        write_json(new / "metrics.json", metrics)
        if training is not None:
            write_json(new / "training.json", training.values)
            _save_tensors(training.tensors, new / "training.safetensors")
        hashes = {file.name: sha256(file) for file in sorted(new.iterdir())}
        write_json(new / "manifest.json", {"format": FORMAT, "sha256": hashes})


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint and verify it.

    Raises:
        CheckpointError: The folder is no checkpoint, is damaged, or has a format unknown to this version.
    """
    folder = _present(folder)
    _verify(folder)
    try:
        config = from_plain(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except ConfigError as error:
        raise CheckpointError(f"The configuration in {folder} does not fit this version. {error}") from error
    training = None
    if (folder / "training.json").exists():
        values = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        training = TrainingState(values, _load_tensors(folder / "training.safetensors"))
    return Checkpoint(
        config=config,
        tokenizer=Tokenizer.from_json((folder / "tokenizer.json").read_text(encoding="utf-8")),
        weights=_load_tensors(folder / "model.safetensors"),
        metrics=json.loads((folder / "metrics.json").read_text(encoding="utf-8")),
        training=training,
    )


def exists(folder: Path) -> bool:
    """Tell whether a checkpoint was ever completed at this place."""
    return folder.is_dir() or retired(folder).is_dir()


def _present(folder: Path) -> Path:
    """Return the folder, or the one it was about to replace when a kill fell between the two renames."""
    if not folder.is_dir() and retired(folder).is_dir():
        return retired(folder)
    return folder


def _verify(folder: Path) -> None:
    manifest_path = folder / "manifest.json"
    if not manifest_path.is_file():
        raise CheckpointError(
            f"No checkpoint at {folder}: it has no manifest.json. Name a folder such as "
            "outputs/<study>/<arm>/seed-0/checkpoints/best, or import a foreign file with `nano-llm import`."
        )
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        version, hashes = manifest["format"], dict(manifest["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"The manifest of the checkpoint {folder} is unreadable: {error}.") from error
    if version != FORMAT:
        raise CheckpointError(
            f"The checkpoint {folder} has format {version}, this version reads format {FORMAT}; "
            "update nano_llm, or save the checkpoint again with the version that wrote it."
        )
    damaged = [name for name, digest in hashes.items() if not _intact(folder / name, digest)]
    if damaged:
        raise CheckpointError(
            f"The checkpoint {folder} is damaged: {', '.join(damaged)} missing or not as written. "
            f"Restore it from a copy, or delete {folder}: a run that finds no `last` starts again from step 0."
        )


def _intact(path: Path, digest: str) -> bool:
    return path.is_file() and sha256(path) == digest


def _save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    write_bytes(path, serialize({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def _load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"Cannot read the tensors in {path}: {error}.") from error


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of the generators that training draws from, as byte tensors."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_state(states: dict[str, Tensor], device: torch.device) -> None:
    """Restore `random_state`; a state of a device that is not in use now is ignored."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])
