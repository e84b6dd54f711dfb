"""The tutorial's decoder is the vanilla model but for its positions, and its loop trains it."""

import pytest
import torch

from nano_llm.bench.plain import PlainDecoder, next_token_loss, plain_step
from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Precision
from nano_llm.model.accounting import expected_parameters

VOCAB_SIZE, WINDOW = 32, 16


def decoder() -> PlainDecoder:
    torch.manual_seed(0)
    return PlainDecoder(compose_config(["scale=tiny"]).scale, VOCAB_SIZE, WINDOW, dropout=0.1)


def test_it_has_the_vanilla_models_parameters_and_a_table_of_positions() -> None:
    config = compose_config(["model=vanilla", "scale=tiny"])
    expected = expected_parameters(config.model, config.scale, VOCAB_SIZE) + WINDOW * config.scale.d_model
    assert sum(parameter.numel() for parameter in decoder().parameters()) == expected


def test_no_position_reads_later_ones() -> None:
    model = decoder().eval()
    tokens_BT = torch.arange(8).unsqueeze(0)
    changed_BT = tokens_BT.clone()
    changed_BT[0, 5:] = 20
    torch.testing.assert_close(model(tokens_BT)[:, :5], model(changed_BT)[:, :5])


@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16])
def test_its_loop_learns_a_batch(precision: Precision) -> None:
    model = decoder().train()
    tokens_BT = torch.randint(VOCAB_SIZE, (4, WINDOW))
    step = plain_step(model, lambda: next_token_loss(model, tokens_BT), precision)
    before = next_token_loss(model, tokens_BT).item()
    for _ in range(20):
        step()
    assert next_token_loss(model, tokens_BT).item() < before - 0.05
