"""Exports in tests, and how transformers loads them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
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


@contextmanager
def modules_in(folder: Path) -> Iterator[None]:
    """Let transformers keep the code of models in a folder, and forget what it has imported from elsewhere."""
    from transformers import dynamic_module_utils

    def imported() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] == "transformers_modules"]

    with pytest.MonkeyPatch.context() as patch:
        # It adds its folder behind the others, of which the first would be taken.
        patch.setattr(sys, "path", [entry for entry in sys.path if entry != dynamic_module_utils.HF_MODULES_CACHE])
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(folder))
        for name in imported():
            patch.delitem(sys.modules, name)
        yield
        for name in imported():
            del sys.modules[name]


def load_model(folder: Path) -> Any:
    """Load an export as others do, and check that every weight has found its place."""
    from transformers import AutoModelForCausalLM

    model, told = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    assert not any(told.values()), told
    return model
