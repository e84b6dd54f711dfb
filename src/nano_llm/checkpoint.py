"""Checkpoints: a folder of JSON and tensors that rebuilds a model from itself alone.

    <run>/checkpoints/best/
      model.safetensors   weights: fp32, or rounded to bf16 in a model that is shipped; a loaded model computes in fp32
      config.json         the run's configuration
      tokenizer.json      the tokenizer, in the format of the `tokenizers` library
      metrics.json        step and figures at the time of saving
      training.safetensors, training.json   (`last` only) optimizer, random state, position: what resuming needs
      manifest.json       format version and SHA-256 of every file, and of itself; written last

Nothing is pickled, nothing is guessed from names; a folder whose manifest is absent or does not fit is refused. Files
that the manifest does not name are never read.

A run that is at work keeps three: ``best``, ``last`` and ``previous``, the `last` one before that. For the time of a
save the new one lies beside them. When a save finds no space, `previous` is given up for it, if `last` is whole: rather
the spare than the run. A finished run keeps two.
"""

import json
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn

from nano_llm.config.identity import to_plain
from nano_llm.config.schema import Config
from nano_llm.config.stored import from_plain
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.errors import CheckpointError, ConfigError, DamagedCheckpointError, DataError, OutputError
from nano_llm.files import (
    SEAL,
    end_exchange,
    explained,
    is_as_sealed,
    put_in_place,
    replaced_folder,
    retired,
    sealed,
    sha256,
    write_bytes,
    write_json,
    write_text,
)
from nano_llm.model.language_model import LanguageModel, build_language_model

FORMAT = 1
BEST, LAST, PREVIOUS = "best", "last", "previous"
_REQUIRED = frozenset({"model.safetensors", "config.json", "tokenizer.json", "metrics.json"})
_OF_TRAINING = frozenset({"training.json", "training.safetensors"})

T = TypeVar("T")


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
    fingerprint: str = ""
    """SHA-256 of its manifest, which is of no other save; empty for one that was not read from a disk."""

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
    spare: Path | None = None,
) -> None:
    """Write a checkpoint in the place of the one at ``folder``, whole or not at all.

    Args:
        folder: Of the checkpoint, in one that exists.
        config: Of the run.
        tokenizer: Of the run.
        model: Whose weights are kept.
        metrics: Step and figures, as JSON.
        training: What resuming needs.
        spare: Where the old checkpoint is kept, in the place of the one kept before; None: it is not kept.

    Raises:
        OutputError: The folder cannot be written; the old checkpoints are untouched.
        FullDiskError: There is no space for it.
    """
    with replaced_folder(folder, spare) as new:
        _save_tensors(model.state_dict(), new / "model.safetensors")
        write_json(new / "config.json", to_plain(config))
        write_text(new / "tokenizer.json", tokenizer.to_json())
        write_json(new / "metrics.json", metrics)
        if training is not None:
            write_json(new / "training.json", training.values)
            _save_tensors(training.tensors, new / "training.safetensors")
        hashes = {file.name: sha256(file) for file in sorted(new.iterdir())}
        write_json(new / "manifest.json", sealed({"format": FORMAT, "sha256": hashes}))


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint and verify it, also while its run saves another one in its place.

    Raises:
        CheckpointError: The folder is no checkpoint, cannot be read, or has a format unknown to this version.
        DamagedCheckpointError: It is not as it was written.
    """
    try:
        return _of_one_save(folder, _read)
    except DamagedCheckpointError as error:
        raise DamagedCheckpointError(f"{error} {_remedy(folder)}") from error


def load_newest(checkpoints: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """Return what a run goes on from: `last` or, where that is damaged or missing, `previous`, which becomes `last`.

    Args:
        checkpoints: Folder of the run's checkpoints.
        say: Is told what is wrong with `last`, and from where the run goes on.

    Returns:
        None where there is neither.

    Raises:
        CheckpointError: `last` cannot be read, or is of a format or has settings unknown to this version: it is sound,
            so that `previous` would throw away what only that version can go on with.
        DamagedCheckpointError: Neither is whole.
    """
    last, previous = checkpoints / LAST, checkpoints / PREVIOUS
    try:
        if exists(last):
            return _demand_training(_read(present(last)), last)
        wrong = f"There is no checkpoint {last}: a save was cut off, or somebody has removed it."
        if not exists(previous):
            return None
    except DamagedCheckpointError as error:
        wrong = str(error)
    start_again = f"Restore one of them from a copy, or delete {checkpoints} to start again from step 0."
    if not exists(previous):
        raise DamagedCheckpointError(f"{wrong} No earlier one was kept. {start_again}")
    try:
        found = _demand_training(_read(present(previous)), previous)
    except CheckpointError as error:
        raise DamagedCheckpointError(f"{wrong} {error} {start_again}") from error
    say(f"{wrong} The run goes on from {previous}, after step {found.metrics['step']}, in its place.")
    # Else the next save would keep the damaged one as the spare.
    put_in_place(present(previous), last)
    return found


def metrics_if_whole(folder: Path) -> dict[str, Any] | None:
    """Return step and figures of a checkpoint; None for one that is missing or not as it was written."""
    try:
        return _of_one_save(folder, _verified_metrics)
    except CheckpointError:
        return None


def end_exchanges(checkpoints: Path) -> None:
    """Clear what saves have left that were cut off; what is whole comes to its place.

    Raises:
        OutputError: It cannot be moved there.
    """
    for name in (BEST, LAST, PREVIOUS):
        try:
            end_exchange(checkpoints / name)
        except OutputError:
            # What cannot be looked at is told of, or gone back behind, where it is needed.
            continue


def remove(folder: Path) -> None:
    """Remove a checkpoint, and what an exchange that was cut off has left of it."""
    for path in (folder, retired(folder)):
        shutil.rmtree(path, ignore_errors=True)


def exists(folder: Path) -> bool:
    """Tell whether a checkpoint was ever completed at this place.

    Raises:
        CheckpointError: It cannot be told.
    """
    return _is_folder(folder) or _is_folder(retired(folder))


def can_resume(checkpoints: Path) -> bool:
    """Tell whether a run has something to go on from, sound or not.

    Raises:
        CheckpointError: It cannot be told.
    """
    return exists(checkpoints / LAST) or exists(checkpoints / PREVIOUS)


def present(folder: Path) -> Path:
    """Return the folder, or the one it was about to replace when a kill fell between the two renames."""
    return folder if _is_folder(folder) or not _is_folder(retired(folder)) else retired(folder)


def _is_folder(path: Path) -> bool:
    # `Path.is_dir` would take one that may not be looked at for one that is not there.
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unreadable(path, error) from error


def _of_one_save(folder: Path, read: Callable[[Path], T]) -> T:
    """Read a checkpoint, and again for as long as another one has come to its place meanwhile.

    Else files of both would be held against each other, or taken for one checkpoint. They are not read into memory to
    be hashed there: weights are mapped, so that a large model is held once.
    """
    while True:
        before = _manifest_bytes(folder)
        try:
            found = read(present(folder))
        except CheckpointError:
            if _manifest_bytes(folder) == before:
                raise
        else:
            if _manifest_bytes(folder) == before:
                return found


def _manifest_bytes(folder: Path) -> bytes | None:
    """Return what tells one save from another; None where it cannot be read, which reading the whole explains."""
    try:
        return (present(folder) / "manifest.json").read_bytes()
    except (OSError, CheckpointError):
        return None


def _read(folder: Path) -> Checkpoint:
    return _contents(folder, _verify(folder))


def _verified_metrics(folder: Path) -> dict[str, Any]:
    _verify(folder)
    return _load_json(folder / "metrics.json")


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
    except OSError as error:
        raise _unreadable(folder / "tokenizer.json", error) from error
    if problems:
        raise CheckpointError(
            f"The weights in {folder} contradict its configuration or its tokenizer: {listed(problems)}. Restore it "
            "from a copy."
        )
    training = None
    if names >= _OF_TRAINING:
        values = _load_json(folder / "training.json")
        training = TrainingState(values, _load_tensors(folder / "training.safetensors"))
    metrics, fingerprint = _load_json(folder / "metrics.json"), sha256(folder / "manifest.json")
    return Checkpoint(config, tokenizer, weights, metrics, training, fingerprint)


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


def _verify(folder: Path) -> set[str]:
    """Hold every file against its hash in the manifest; return the names of the files."""
    manifest = _manifest(folder)
    version, hashes = manifest["format"], manifest["sha256"]
    if version != FORMAT:
        raise CheckpointError(
            f"The checkpoint {folder} has format {version}, this version reads format {FORMAT}; "
            "update nano_llm, or save the checkpoint again with the version that wrote it."
        )
    if not hashes.keys() >= _REQUIRED or not all(Path(name).name == name for name in hashes):
        raise CheckpointError(
            f"The manifest of the checkpoint {folder} names {listed([*hashes]) or 'no file'}; expected names of "
            f"files in this folder, {', '.join(sorted(_REQUIRED))} among them."
        )
    if damaged := [name for name, digest in hashes.items() if not _intact(folder / name, digest)]:
        raise DamagedCheckpointError(f"{_damaged(folder)} {', '.join(damaged)} missing or not as written (by SHA-256).")
    return set(hashes)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_bytes())
        if not isinstance(manifest["sha256"], dict) or "format" not in manifest:
            raise ValueError("it does not name format and hashes")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DamagedCheckpointError(
            f"No checkpoint at {folder}: it has no manifest.json. Name a folder such as "
            "outputs/<study>/<arm>/seed-0/checkpoints/best, or import a foreign file with `nano-llm import`."
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedCheckpointError(f"{_damaged(folder)} manifest.json is unreadable ({error}).") from error
    # One of an earlier version has no seal, and nothing in its place.
    if not is_as_sealed(manifest) or (SEAL not in manifest and manifest.keys() != {"format", "sha256"}):
        raise DamagedCheckpointError(f"{_damaged(folder)} manifest.json is not as written (by its seal).")
    return dict(manifest)


def _intact(path: Path, digest: object) -> bool:
    try:
        return sha256(path) == digest
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    """Return the error for a file that may not be read, or, as damage, for one that the disk does not give back."""
    if isinstance(error, PermissionError):
        return CheckpointError(f"Cannot read {path}: permission denied. Run as a user who may, or change its rights.")
    return DamagedCheckpointError(f"{_damaged(path.parent)} {explained(error, f'read {path.name}')}")


def _damaged(folder: Path) -> str:
    return f"The checkpoint {folder} is damaged:"


def _demand_training(found: Checkpoint, folder: Path) -> Checkpoint:
    if found.training is None:
        raise CheckpointError(f"The checkpoint {folder} holds no training state; delete it to start anew.")
    if type(found.metrics.get("step")) is not int:
        raise CheckpointError(f"The metrics.json of the checkpoint {folder} tells no step; delete it to start anew.")
    return found


def _remedy(folder: Path) -> str:
    """Say what to do about a checkpoint that is not whole, and what else there is."""
    others = [folder.with_name(name) for name in (BEST, LAST, PREVIOUS) if name != folder.name]
    whole = {other: metrics for other in others if (metrics := metrics_if_whole(other)) is not None}
    if not whole:
        return "No whole one lies beside it; restore it from a copy."
    named = ", ".join(f"{other} (after step {metrics.get('step', '?')})" for other, metrics in whole.items())
    return f"Restore it from a copy, or name a whole one in its place, which has weights too: {named}."


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
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"Cannot read {path}: {error}.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds {type(values).__name__}; expected a JSON object.")
    return values
