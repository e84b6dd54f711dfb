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
from collections.abc import Iterator, Mapping, Sequence
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
from nano_llm.errors import CheckpointError, ConfigError, DataError
from nano_llm.files import replaced_folder, retired, sha256, write_bytes, write_json, write_text
from nano_llm.model.language_model import LanguageModel, build_language_model

FORMAT = 1
_REQUIRED = frozenset({"model.safetensors", "config.json", "tokenizer.json", "metrics.json"})


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
    return _contents(folder, _verify(folder))


def _contents(folder: Path, names: set[str]) -> Checkpoint:
    """Read the files of a folder, which are as they were written, and hold them against each other.

    Hashes say nothing about who wrote a file, so what is in it may still be anything.
    """
    try:
        config = from_plain(_load_json(folder / "config.json"))
        tokenizer = Tokenizer.from_json((folder / "tokenizer.json").read_text(encoding="utf-8"))
        weights = _load_tensors(folder / "model.safetensors")
        problems = list(weight_problems(weights, config, tokenizer.vocab_size))
    except (ConfigError, DataError, UnicodeDecodeError) as error:
        raise CheckpointError(f"The configuration in {folder} does not fit this version. {error}") from error
    if problems:
        raise CheckpointError(
            f"The weights in {folder} contradict its configuration or its tokenizer: {listed(problems)}. Restore it "
            "from a copy."
        )
    training = None
    if "training.json" in names:
        values = _load_json(folder / "training.json")
        training = TrainingState(values, _load_tensors(folder / "training.safetensors"))
    return Checkpoint(config, tokenizer, weights, _load_json(folder / "metrics.json"), training)


def weight_problems(weights: Mapping[str, Tensor], config: Config, vocab_size: int) -> Iterator[str]:
    """Say which weights the model of a configuration lacks, does not know or has in another shape or type."""
    if config.scale.num_layers > len(weights):  # told before so many layers are built
        yield f"there are {len(weights)} weights for scale.num_layers={config.scale.num_layers}"
        return
    with torch.device("meta"):
        expected = build_model(config, vocab_size).state_dict()
    yield from (f"{name} is missing" for name in expected if name not in weights)
    yield from (f"{name:.80} has no place" for name in weights if name not in expected)
    for name, wanted in expected.items():
        if name in weights and weights[name].shape != wanted.shape:
            yield f"{name} has the shape {tuple(weights[name].shape)}, not {tuple(wanted.shape)}"
        elif name in weights and not weights[name].is_floating_point():
            yield f"{name} holds {weights[name].dtype}, not floating-point numbers"


def listed(items: Sequence[str], most: int = 3) -> str:
    """Name the first few of many."""
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")


def exists(folder: Path) -> bool:
    """Tell whether a checkpoint was ever completed at this place."""
    return folder.is_dir() or retired(folder).is_dir()


def _present(folder: Path) -> Path:
    """Return the folder, or the one it was about to replace when a kill fell between the two renames."""
    if not folder.is_dir() and retired(folder).is_dir():
        return retired(folder)
    return folder


def _verify(folder: Path) -> set[str]:
    """Hold every file against its hash in the manifest; return the names of the files."""
    manifest_path = folder / "manifest.json"
    if not manifest_path.is_file():
        raise CheckpointError(
            f"No checkpoint at {folder}: it has no manifest.json. Name a folder such as "
            "outputs/<study>/<arm>/seed-0/checkpoints/best, or import a foreign file with `nano-llm import`."
        )
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        version, hashes = manifest["format"], dict(manifest["sha256"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"The manifest of the checkpoint {folder} is unreadable: {error}.") from error
    if version != FORMAT:
        raise CheckpointError(
            f"The checkpoint {folder} has format {version}, this version reads format {FORMAT}; "
            "update nano_llm, or save the checkpoint again with the version that wrote it."
        )
    if not hashes.keys() >= _REQUIRED or not all(Path(name).name == name for name in hashes):
        raise CheckpointError(
            f"The manifest of the checkpoint {folder} names {listed([*hashes])}; expected names of files in this "
            f"folder, {', '.join(sorted(_REQUIRED))} among them."
        )
    damaged = [name for name, digest in hashes.items() if not _intact(folder / name, digest)]
    if damaged:
        raise CheckpointError(
            f"The checkpoint {folder} is damaged: {', '.join(damaged)} missing or not as written. "
            f"Restore it from a copy, or delete {folder}: a run that finds no `last` starts again from step 0."
        )
    return set(hashes)


def _intact(path: Path, digest: str) -> bool:
    return path.is_file() and sha256(path) == digest


def _save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    write_bytes(path, serialize({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def _load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"Cannot read the tensors in {path}: {error}.") from error


def _load_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"Cannot read {path}: {error}.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds {type(values).__name__}; expected a JSON object.")
    return values


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
