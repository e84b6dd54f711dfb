"""Small models for the tests of this folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Config, ModelConfig, ScaleConfig
from nano_llm.model.language_model import LanguageModel, build_language_model

VOCAB_SIZE = 19
MAX_POSITIONS = 40


@cache
def composed(*overrides: str) -> Config:
    """Compose once. The result is shared, so change copies of its parts (``dataclasses.replace``)."""
    return compose_config(overrides)


def small_scale(num_layers: int, d_model: int = 8, d_ff: int = 12) -> ScaleConfig:
    return ScaleConfig(name="small", d_model=d_model, num_layers=num_layers, num_heads=2, d_ff=d_ff)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make tensors, tables of positions included, in another precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def build(
    model: ModelConfig,
    scale: ScaleConfig,
    *,
    dtype: torch.dtype = torch.float32,
    vocab_size: int = VOCAB_SIZE,
    max_positions: int = MAX_POSITIONS,
) -> LanguageModel:
    """A model, the same on each call."""
    torch.manual_seed(0)
    with default_dtype(dtype):
        return build_language_model(model, scale, vocab_size, max_positions)


def scatter_parameters(model: torch.nn.Module) -> None:
    """Give every parameter, biases and norms included, a value that matters, far from where it starts."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if "norm.weight" in name or "key_weights" in name:
                parameter.copy_(1 + 0.3 * noise)
            elif "embedding" in name or "queries" in name:
                parameter.copy_(noise)
            else:
                parameter.copy_(noise / parameter.shape[-1] ** 0.5)


def some_tokens(num_windows: int, num_positions: int, vocab_size: int = VOCAB_SIZE) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(vocab_size, (num_windows, num_positions), generator=generator)
