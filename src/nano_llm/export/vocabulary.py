"""A tokenizer in the files of transformers: ``tokenizer.json`` and ``tokenizer_config.json``."""

from typing import Any

import tokenizers
from tokenizers.processors import TemplateProcessing

from nano_llm.data.template import BOS, EOS, MARKERS, PAD, UNK
from nano_llm.data.tokenizer import Tokenizer


def tokenizer_json(tokenizer: Tokenizer) -> str:
    """Return the text of ``tokenizer.json``, which puts ``<bos>`` before a prompt as training does."""
    backend = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    backend.post_processor = TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.bos_id)]
    )
    return backend.to_str(pretty=True)


def tokenizer_settings(tokenizer: Tokenizer, window_length: int) -> dict[str, Any]:
    """Return the content of ``tokenizer_config.json``.

    Args:
        tokenizer: Of the run.
        window_length: Of the model, in tokens.
    """
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "unk_token": UNK,
        "extra_special_tokens": [*MARKERS] if tokenizer.has_markers else [],
        "model_max_length": window_length,
        "model_input_names": ["input_ids", "attention_mask"],
        "padding_side": "left",  # a text is written on from its right end
        "clean_up_tokenization_spaces": False,
    }
