"""Exports in tests, and how transformers loads them."""

from pathlib import Path
from typing import Any

import torch

from nano_llm.checkpoint import Checkpoint
from nano_llm.export.card import Background
from nano_llm.export.folder import write_export
from nano_llm.generation.author import Author

UNKNOWN = Background(run=None, commit=None, data={}, figures=())
"""Of a checkpoint that lies in no run."""


def author_of(checkpoint: Checkpoint) -> Author:
    return Author(checkpoint, torch.device("cpu"), num_rows=4)


def export(folder: Path, checkpoint: Checkpoint, background: Background = UNKNOWN, **choices: Any) -> Path:
    write_export(folder, checkpoint, author_of(checkpoint), background, **choices)
    return folder


def load_model(folder: Path) -> Any:
    """Load an export as others do, and check that every weight has found its place."""
    from transformers import AutoModelForCausalLM

    model, told = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    assert not any(told.values()), told
    return model
