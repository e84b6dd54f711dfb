"""Checkpoints of the reference system (dyh1265/Transformers), read as ours.

Its ``best.pt`` is a dict written by ``torch.save``: ``model`` (weights), ``config`` (one flat dict),
``tokenizer_state`` (kind and text of the tokenizer) and ``vocab`` (once more its entries, not read here).

| its setting (default) | ours |
|---|---|
| d_model, num_heads, num_layers, d_ff (must be given) | scale.* |
| seq_len (128) | data.window_length |
| dropout (0.1) | model.dropout |
| position_encoding (sinusoidal) | model.position |
| block_attn_residuals (false) | model/trunk: interblock or vanilla |
| macro_block_size (2) | model.trunk.macro_block_size |
| max_block_representations (9) | model.trunk.max_block_representations; below 1 it keeps all, which is our 0 |
| tarnet_two_heads (false) | model=tarnet |
| weight_tie (true) | model/readout: tied, or mlp with two hidden layers; means nothing with two heads |
| tarnet_head_n_fc (2) | model.readout.hidden_layers; its 1 is our 0, from 2 on both count alike |
| tarnet_head_hidden_dim (null: d_model) | model.readout.hidden_width |
| tarnet_head<k>_n_fc, tarnet_head<k>_hidden_dim (null: as above) | model.readout.delta<k>.* |
| tarnet_head_separation_weight (0) | model.separation.weight; below 0 it has no effect, as our 0 |
| dataset_id (imdb_sentiment) | data=imdb; any other is refused |
| imdb_conditioning_style (tags) | data=tags or data=natural; two heads take the command instead |
| imdb_negative_instruction, imdb_positive_instruction (null) | data.prompt.negative, .positive; empty: the default |
| imdb_tarnet_command_prompt (GENERATE an IMDB-like review:) | data.prompt.command |
| imdb_max_train_samples, imdb_max_val_samples (null) | data.max_train_reviews, data.max_validation_reviews |
| imdb_max_review_chars (null) | data.max_review_chars; its 0 is our null |
| seed (42) | seed, data.split_seed |
| learning_rate (3e-4), batch_size (32), epochs (5) | optimizer.lr, trainer.batch_size, trainer.max_epochs |

The rest of the recipe is not kept: ``optimizer=reference schedule=reference`` stand for it. Of the tokenizer, the
stored one alone counts (data.tokenizer.*): ``vocab_size`` is never updated there, and ``tokenizer_type``,
``bpe_vocab_size`` and ``bpe_word_boundary_aware`` are those of the last command line, which a resumed run ignored.
"""

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor

from nano_llm import checkpoint
from nano_llm.checkpoint import Checkpoint, listed, weight_problems
from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Config, Position
from nano_llm.data.template import SPECIALS
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.errors import CheckpointError, NanoLLMError, OutputError
from nano_llm.files import explained_writes
from nano_llm.model.reference_names import reference_state

EXPECTED = (
    "Expected is a best.pt of the reference system (dyh1265/Transformers): a dict of model, config and "
    "tokenizer_state, trained on IMDB with the tokenizer hf_bpe_byte. Name such a file, or train a model here."
)

ENTRIES = ("model", "config", "tokenizer_state")

LFS_POINTER = b"version https://git-lfs.github.com/spec/"

# The reference stores its position tables with the weights; our models compute theirs.
POSITION_TABLES = re.compile(r"(?P<sinusoidal>pos_enc\.pe)|(?P<rope>blocks\.\d+\.attn\.rope\.(?:cos|sin)_cached)")

Settings = dict[str, str | int | float | None]
"""Our settings by their dotted names, config groups (``model/trunk``) by their choice."""


@dataclass(frozen=True)
class FlatConfig:
    """The settings of the reference that are read, under its names and with its defaults."""

    d_model: int
    num_heads: int
    num_layers: int
    d_ff: int
    seq_len: int = 128
    dropout: float = 0.1
    position_encoding: str = "sinusoidal"
    block_attn_residuals: bool = False
    macro_block_size: int = 2
    max_block_representations: int = 9
    weight_tie: bool = True
    tarnet_two_heads: bool = False
    tarnet_head_n_fc: int = 2
    tarnet_head_hidden_dim: int | None = None
    tarnet_head0_n_fc: int | None = None
    tarnet_head0_hidden_dim: int | None = None
    tarnet_head1_n_fc: int | None = None
    tarnet_head1_hidden_dim: int | None = None
    tarnet_head_separation_weight: float = 0.0
    dataset_id: str = "imdb_sentiment"
    imdb_conditioning_style: str = "tags"
    imdb_negative_instruction: str | None = None
    imdb_positive_instruction: str | None = None
    imdb_tarnet_command_prompt: str = "GENERATE an IMDB-like review:"
    imdb_max_train_samples: int | None = None
    imdb_max_val_samples: int | None = None
    imdb_max_review_chars: int | None = None
    seed: int = 42
    learning_rate: float = 3e-4
    batch_size: int = 32
    epochs: int = 5

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "FlatConfig":
        """Pick the settings from a checkpoint's config.

        Raises:
            CheckpointError: One without a default is missing, or a value has the wrong type.
        """
        hints = get_type_hints(cls)
        known = {setting.name for setting in fields(cls)} & given.keys()
        problems = [
            f"{setting.name} is missing"
            for setting in fields(cls)
            if setting.name not in known and setting.default is MISSING
        ] + [
            f"{name}={given[name]!r:.80} is not of the type {getattr(hints[name], '__name__', hints[name])}"
            for name in sorted(known)
            if not _is_of(given[name], hints[name])
        ]
        if problems:
            raise CheckpointError(f"in its config, {listed(problems)}")
        return cls(**{name: given[name] for name in known})


def import_reference(source: Path, target: Path) -> Checkpoint:
    """Write a checkpoint of the reference as one of ours, and return it.

    Args:
        source: A ``best.pt``.
        target: Folder of the new checkpoint; must not exist.

    Raises:
        CheckpointError: The file is not what `read_reference` takes.
        OutputError: The folder exists, or cannot be written.
    """
    if target.exists() or checkpoint.exists(target):
        raise OutputError(f"{target} exists already; name a new folder for the imported checkpoint.")
    read = read_reference(source)
    with explained_writes(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(target, config=read.config, tokenizer=read.tokenizer, model=read.model(), metrics=read.metrics)
    return read


def read_reference(source: Path) -> Checkpoint:
    """Read a checkpoint of the reference with ``weights_only=True``: no code of the file is run.

    Raises:
        CheckpointError: The file is unreadable or incomplete, its model cannot be expressed here, or its parts
            contradict each other.
    """
    try:
        contents = _load(source)
        tokenizer, split_words = _read_tokenizer(contents["tokenizer_state"])
        flat = FlatConfig.of(contents["config"])
        config = _compose(flat, tokenizer.vocab_size, split_words)
        weights = _read_weights(contents["model"], config, tokenizer.vocab_size)
    except NanoLLMError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise CheckpointError(f"Cannot import {source}: {reason}. {EXPECTED}") from error
    metrics = {"step": 0, "imported_from": source.name}  # the file does not say how long it was trained
    return Checkpoint(config, tokenizer, weights, metrics, training=None)


# ------------------------------------------------------------------------------------------- the file


def _load(source: Path) -> dict[str, Any]:
    """Read the file and check that its entries are there."""
    try:
        with source.open("rb") as file:
            start = file.read(len(LFS_POINTER))
    except OSError as error:
        raise CheckpointError(f"it cannot be read: {error.strerror}") from error
    if start == LFS_POINTER:
        raise CheckpointError("it is a Git LFS pointer, not the file itself; fetch that with `git lfs pull`")
    try:
        contents = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file can make the reader fail in any way
        if isinstance(error, UnpicklingError) and zipfile.is_zipfile(source):
            raise CheckpointError(
                "it holds Python objects other than tensors, numbers and text, and building them could run "
                "foreign code; save the file anew with plain values only"
            ) from error
        raise CheckpointError("it is damaged, or torch.save did not write it") from error
    if not isinstance(contents, dict):
        raise CheckpointError(f"it holds an object of the type {type(contents).__name__}")
    missing = [name for name in ENTRIES if not isinstance(contents.get(name), dict)]
    if missing:
        raise CheckpointError(f"it has no dict {listed(missing)}")
    return contents


def _read_tokenizer(state: Mapping[str, Any]) -> tuple[Tokenizer, bool]:
    """Return the tokenizer, and whether its merges stay inside words."""
    kind, text = state.get("type", "hf_bpe_byte"), state.get("tokenizer_json")
    if kind != "hf_bpe_byte":
        raise CheckpointError(f"its tokenizer is of the type {kind!r:.80}")
    if not isinstance(text, str):
        raise CheckpointError("its tokenizer_state has no text tokenizer_json")
    tokenizer = Tokenizer.from_json(text)
    layout = json.loads(text)
    model, pre_tokenizer = layout["model"], layout.get("pre_tokenizer") or {}
    if model.get("type") != "BPE" or pre_tokenizer.get("type") != "ByteLevel":
        raise CheckpointError("its tokenizer is named hf_bpe_byte, but is no byte-level BPE")
    if [model["vocab"].get(token) for token in SPECIALS] != list(range(len(SPECIALS))):
        raise CheckpointError(f"its tokenizer does not begin with {' '.join(SPECIALS)}")
    return tokenizer, bool(pre_tokenizer.get("use_regex", True))


# ------------------------------------------------------------------------------------------- settings


def _compose(flat: FlatConfig, vocab_size: int, split_words: bool) -> Config:
    """Compose our configuration of the same model."""
    settings: Settings = {
        "name": "imported",
        "seed": flat.seed,
        "protocol": "reference",
        "optimizer": "reference",
        "optimizer.lr": flat.learning_rate,
        "schedule": "reference",
        "trainer.batch_size": flat.batch_size,
        "trainer.max_epochs": flat.epochs,
        "data.tokenizer.vocab_size": vocab_size,
        "data.tokenizer.split_words": split_words,
    }
    settings |= _data_settings(flat) | _model_settings(flat) | _readout_settings(flat)
    return compose_config([f"{name}={_written(value)}" for name, value in settings.items()])


def _data_settings(flat: FlatConfig) -> Settings:
    _choose("dataset_id", flat.dataset_id, "imdb_sentiment")
    style = _choose("imdb_conditioning_style", flat.imdb_conditioning_style, "tags", "natural")
    settings: Settings = {
        "data": "imdb" if flat.tarnet_two_heads else style,
        "data.window_length": flat.seq_len,
        "data.max_train_reviews": flat.imdb_max_train_samples,
        "data.max_validation_reviews": flat.imdb_max_val_samples,
        "data.max_review_chars": flat.imdb_max_review_chars or None,
        "data.split_seed": flat.seed,
        "data.prompt.command": flat.imdb_tarnet_command_prompt,
    }
    instructions = {"negative": flat.imdb_negative_instruction, "positive": flat.imdb_positive_instruction}
    return settings | {f"data.prompt.{name}": text for name, text in instructions.items() if text}


def _model_settings(flat: FlatConfig) -> Settings:
    trunk = "interblock" if flat.block_attn_residuals else "vanilla"
    settings: Settings = {
        "model": "tarnet" if flat.tarnet_two_heads else trunk,
        "model/trunk": trunk,
        "model.position": _choose("position_encoding", flat.position_encoding, "rope", "sinusoidal"),
        "model.dropout": flat.dropout,
        "model.embedding_std": 1.0,
        "scale.name": "imported",
        "scale.d_model": flat.d_model,
        "scale.num_layers": flat.num_layers,
        "scale.num_heads": flat.num_heads,
        "scale.d_ff": flat.d_ff,
    }
    if flat.block_attn_residuals:
        settings["model.trunk.macro_block_size"] = flat.macro_block_size
        settings["model.trunk.max_block_representations"] = max(flat.max_block_representations, 0)
    return settings


def _readout_settings(flat: FlatConfig) -> Settings:
    if not flat.tarnet_two_heads:
        if flat.weight_tie:
            return {"model/readout": "tied"}
        return {"model/readout": "mlp", "model.readout.hidden_layers": 2, "model.readout.hidden_width": None}
    heads = {
        "model.readout.delta0": (flat.tarnet_head0_n_fc, flat.tarnet_head0_hidden_dim),
        "model.readout.delta1": (flat.tarnet_head1_n_fc, flat.tarnet_head1_hidden_dim),
    }
    settings: Settings = {
        "model.readout.hidden_layers": _hidden_layers(flat.tarnet_head_n_fc),
        "model.readout.hidden_width": flat.tarnet_head_hidden_dim,
        "model.separation.kind": "js",
        "model.separation.weight": max(flat.tarnet_head_separation_weight, 0.0),
    }
    for head, (n_fc, width) in heads.items():  # what is not given follows the settings above
        if n_fc is not None:
            settings[f"{head}.hidden_layers"] = _hidden_layers(n_fc)
        if width is not None:
            settings[f"{head}.hidden_width"] = width
    return settings


def _hidden_layers(n_fc: int) -> int:
    """Count hidden layers as we do: the reference builds a single linear map for 1, ``n_fc`` of them above."""
    return 0 if n_fc == 1 else n_fc


def _choose(name: str, value: str, *known: str) -> str:
    """Return a word in lower case, if our models can express it."""
    word = value.strip().lower()
    if word not in known:
        raise CheckpointError(f"in its config, {name}={value!r:.80} is not {' or '.join(known)}")
    return word


def _written(value: str | int | float | None) -> str:
    """Write a value so that Hydra and OmegaConf read it back as it is, whatever a text contains."""
    if value is None:
        return "null"
    if not isinstance(value, str):
        return repr(value)
    # OmegaConf halves backslashes before an escaped ${, Hydra those before a quote.
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)\Z", r"\1\1", text) + "'"


# -------------------------------------------------------------------------------------------- weights


def _read_weights(reference: Mapping[Any, Any], config: Config, vocab_size: int) -> dict[str, Tensor]:
    """Return the weights under our names, as the configuration and the tokenizer ask for."""
    weights: dict[str, Tensor] = {}
    for name, tensor in reference.items():
        if not (isinstance(name, str) and isinstance(tensor, Tensor) and _is_array(tensor)):
            raise CheckpointError(f"its model holds {name!r:.80}, which is no weight")
        # DistributedDataParallel and torch.compile put these in front.
        weights[re.sub(r"^(module\.|_orig_mod\.)+", "", name)] = tensor
    tables = {name: tensor for name, tensor in weights.items() if POSITION_TABLES.fullmatch(name)}
    problems = list(_table_problems(tables, config))
    try:
        state = reference_state({name: weights[name] for name in weights if name not in tables})
    except (RuntimeError, IndexError) as error:  # parts of one matrix that do not join
        raise CheckpointError(f"the shapes of its attention weights differ: {error}") from error
    problems += weight_problems(state, config, vocab_size)
    if problems:
        raise CheckpointError(f"its weights contradict its config or its tokenizer: {listed(problems)}")
    return state


def _is_array(tensor: Tensor) -> bool:
    """Tell whether a tensor holds numbers of its own, each once: a file can spread one over any shape."""
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or not tensor.is_floating_point():
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _table_problems(tables: Mapping[str, Tensor], config: Config) -> Iterator[str]:
    """Say which position tables are not those of the configuration; the only trace of the number of heads."""
    position, scale = config.model.position, config.scale
    width = scale.d_model // scale.num_heads if position is Position.rope else scale.d_model
    for name, table in tables.items():
        found = POSITION_TABLES.fullmatch(name)
        if found is None or found.lastgroup != position.name:
            yield f"{name} is there, but position_encoding is {position.name}"
        elif table.ndim < 2 or table.shape[-1] != width or table.shape[-2] < config.data.window_length:
            yield (
                f"{name} has the shape {tuple(table.shape)}, not {width} columns for "
                f"{config.data.window_length} or more positions"
            )


# ---------------------------------------------------------------------------------------------- words


def _is_of(value: Any, hint: Any) -> bool:
    """Tell whether a value has one of the types of a hint; a whole number is a number, true is not."""
    kinds = get_args(hint) or (hint,)
    return type(value) in kinds or (type(value) is int and float in kinds)
