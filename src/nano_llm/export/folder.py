"""A checkpoint as a folder that transformers loads.

    <folder>/
      model.safetensors        weights, under the names that they have in a checkpoint
      config.json  generation_config.json
      configuration_nano_llm.py  modeling_nano_llm.py    copies of `nano_llm.export.shipped`
      tokenizer.json  tokenizer_config.json
      README.md                the model's card
      LICENSE.md               of the code, and what is known of the rights in the reviews

Nothing of it needs nano_llm, and writing it needs no transformers.
"""

import json
from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import save as serialize

from nano_llm.checkpoint import Checkpoint
from nano_llm.errors import OutputError, RequestError
from nano_llm.export import shipped
from nano_llm.export.card import Background, render_card, render_licence
from nano_llm.export.settings import DTYPES, MODEL_TYPE, generation_settings, model_settings
from nano_llm.export.vocabulary import tokenizer_json, tokenizer_settings
from nano_llm.files import end_exchange, explained_writes, replaced_folder, write_bytes, write_json, write_text
from nano_llm.generation.author import Author

CODE = ("configuration_nano_llm.py", "modeling_nano_llm.py")
FILES = frozenset(
    {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
        "LICENSE.md",
        *CODE,
    }
)


def check_target(folder: Path) -> None:
    """Check that an export may be written to a folder: one that is not there, is empty or holds an earlier export.

    Raises:
        OutputError: It holds anything else, or cannot be looked at.
    """
    with explained_writes(folder):
        if not folder.exists():
            return
        if not folder.is_dir():
            raise OutputError(f"{folder} is a file; name a folder for the export.")
        names = {entry.name for entry in folder.iterdir()}
    if not names or (names <= FILES and _is_export(folder)):
        return
    other = ", ".join(sorted(names - FILES)[:3]) or "a config.json of another model"
    raise OutputError(
        f"{folder} holds what no export does ({other}), and is left as it is. Name a new folder, an empty one, or one "
        "of an earlier export, which is replaced."
    )


def write_export(
    folder: Path,
    checkpoint: Checkpoint,
    author: Author,
    background: Background,
    *,
    dtype: str = "fp32",
    outcome: int | None = None,
    repository: str | None = None,
) -> None:
    """Write a checkpoint as a folder for transformers, whole or not at all.

    Args:
        folder: New, empty or of an earlier export, which is replaced.
        checkpoint: The model.
        author: Of the same model; writes the samples of the card.
        background: What else the card tells of it.
        dtype: Of the weights: ``fp32`` or ``bf16``.
        outcome: 0 or 1: what a model with two outcomes speaks for unless told otherwise; 1 if not given.
        repository: Its name on the Hub, if it is to get one.

    Raises:
        RequestError: The model has no such outcome, or cannot be exported.
        OutputError: The folder holds anything else, or cannot be written.
    """
    if author.num_heads == 2:
        outcome = 1 if outcome is None else outcome
    elif outcome is not None:
        raise RequestError(
            "This model has one law of the next token, which is told the outcome by its prompt: no outcome."
        )
    torch_dtype = DTYPES[dtype]
    tokenizer, window_length = checkpoint.tokenizer, checkpoint.config.data.window_length
    settings = model_settings(checkpoint.config, tokenizer, dtype=torch_dtype, outcome=outcome)
    card = render_card(checkpoint, author, background, dtype=torch_dtype, outcome=outcome, repository=repository)
    weights = {name: tensor.to(getattr(torch, torch_dtype)).contiguous() for name, tensor in checkpoint.weights.items()}
    folder = folder.resolve()
    with explained_writes(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
    end_exchange(folder)
    check_target(folder)
    with replaced_folder(folder) as new:
        write_bytes(new / "model.safetensors", serialize(weights, metadata={"format": "pt"}))
        write_json(new / "config.json", settings)
        write_json(new / "generation_config.json", generation_settings(checkpoint.config, tokenizer))
        write_text(new / "tokenizer.json", tokenizer_json(tokenizer))
        write_json(new / "tokenizer_config.json", tokenizer_settings(tokenizer, window_length))
        write_text(new / "README.md", card)
        write_text(new / "LICENSE.md", render_licence(checkpoint.config))
        for name in CODE:
            write_text(new / name, files(shipped).joinpath(name).read_text(encoding="utf-8"))


def _is_export(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"] == MODEL_TYPE)
    except (OSError, ValueError, LookupError, TypeError):
        return False
