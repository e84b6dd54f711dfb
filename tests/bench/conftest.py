"""A machine whose ceilings are known, and a peer that needs no package."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from nano_llm.bench.harness import Figures, Way


@pytest.fixture
def machine() -> Way:
    """The ceilings of a machine that multiplies bf16 twice as fast as fp32."""
    ceilings = {
        "fp32_gigaflops_per_second": 100.0,
        "bf16_gigaflops_per_second": 200.0,
        "read_gigabytes_per_second": 20.0,
        "copy_gigabytes_per_second": 10.0,
    }

    def measure() -> Figures:
        return dict(ceilings)

    return measure


class FakeGpt2(nn.Module):
    """What the benchmarks use of transformers' model, and no more."""

    def __init__(self, vocab_size: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.transformer = nn.Module()
        self.transformer.wpe = nn.Embedding(1, width)

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        past_key_values: object = None,
        use_cache: bool = False,
        logits_to_keep: int = 0,
    ) -> SimpleNamespace:
        logits_BTV = self.embedding(input_ids) @ self.embedding.weight.T
        loss = None if labels is None else logits_BTV.logsumexp(-1).mean()
        return SimpleNamespace(logits=logits_BTV, loss=loss, past_key_values=past_key_values)

    def generate(self, tokens_BT: Tensor, *, attention_mask: Tensor, max_new_tokens: int, **knobs: object) -> Tensor:
        return torch.cat([tokens_BT, tokens_BT.new_zeros(len(tokens_BT), max_new_tokens)], dim=1)


@pytest.fixture
def fake_gpt2() -> Callable[..., FakeGpt2]:
    return lambda scale, vocab_size, window, dropout: FakeGpt2(vocab_size, scale.d_model)
