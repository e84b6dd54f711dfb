"""The peer that everybody knows: transformers' GPT-2 in the dimensions of a scale of ours."""

from typing import Any

import torch

from nano_llm.config.schema import ScaleConfig


def build_gpt2(scale: ScaleConfig, vocab_size: int, window: int, dropout: float) -> Any:
    """Return a GPT-2 with fresh weights, whose texts no token ends."""
    from transformers import GPT2Config, GPT2LMHeadModel, logging  # of the extra `hf`

    logging.set_verbosity_error()  # it warns of names that its older versions need
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocab_size, n_positions=window, n_embd=scale.d_model, n_layer=scale.num_layers,
        n_head=scale.num_heads, n_inner=scale.d_ff, resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout,
        bos_token_id=1, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config)
