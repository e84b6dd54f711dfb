"""Initial values: the table, parameter by parameter."""

import re
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from model.building import build, composed, some_tokens
from nano_llm.model.language_model import LanguageModel, build_language_model

D, D_FF = 128, 512


class Law(NamedTuple):
    """N(0, size^2), U(-size, size), or the constant size."""

    kind: str
    size: float


BY_D, BY_D_FF = Law("uniform", D**-0.5), Law("uniform", D_FF**-0.5)
TABLE = {
    r"trunk\.embedding\.weight": Law("normal", 0.02),
    r"trunk\.layers\.\d+\.attention\.(query_key_value|output)\.weight": Law("normal", 0.02),
    r"trunk\.layers\.\d+\.attention\.(query_key_value|output)\.bias": Law("constant", 0),
    r"trunk\.layers\.\d+\.feed_forward\.up\.weight": BY_D,
    r"trunk\.layers\.\d+\.feed_forward\.up\.bias": BY_D,
    r"trunk\.layers\.\d+\.feed_forward\.down\.weight": BY_D_FF,
    r"trunk\.layers\.\d+\.feed_forward\.down\.bias": BY_D_FF,
    r"trunk\..*norm\.weight": Law("constant", 1),
    r"trunk\..*norm\.bias": Law("constant", 0),
    r"trunk\.mixing\.queries\.\d+": BY_D,
    r"trunk\.mixing\.key_weights\.\d+": Law("constant", 1),
    r"readout\.(shared|perceptron)\.(hidden\.\d+|output)\.weight": BY_D,
    r"readout\.deltas\.\d\.hidden\.\d+\.weight": BY_D,
    r"readout\.deltas\.\d\.output\.weight": Law("constant", 0),
    r"readout\.delta\.hidden\.\d+\.weight": BY_D,
    r"readout\.delta\.output\.weight": Law("constant", 0),
    r"treatment_embedding\.weight": Law("constant", 0),
}


def model_of(*overrides: str) -> LanguageModel:
    config = composed("scale=nano", "model.embedding_std=0.02", "model.dropout=0", *overrides)
    assert (config.scale.d_model, config.scale.d_ff) == (D, D_FF)
    return build(config.model, config.scale, vocab_size=256)


def assert_follows(law: Law, values: Tensor) -> None:
    if law.kind == "constant":
        assert (values == law.size).all()
        return
    error = values.numel() ** -0.5  # of the mean, in standard deviations
    std = law.size if law.kind == "normal" else law.size / 3**0.5
    assert abs(values.mean()) < 5 * error * std
    assert values.std().item() == pytest.approx(std, rel=5 * error)
    # How much lies within one standard deviation tells the two laws apart.
    within = {"normal": 0.6827, "uniform": 0.5774}[law.kind]
    assert (values.abs() < std).double().mean().item() == pytest.approx(within, abs=2.5 * error)
    if law.kind == "uniform":
        assert values.abs().max() <= law.size


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=tarnet",),
        ("model=vanilla", "model/readout=mlp"),
        ("model=tarnet_symmetric",),
        ("model=s_plus",),
        ("model=t_learner", "model/readout=mlp"),
    ],
    ids=" ".join,
)
def test_every_parameter_follows_its_row_of_the_table(overrides: tuple[str, ...]) -> None:
    values: dict[str, list[Tensor]] = {}
    for name, parameter in model_of(*overrides).named_parameters():
        rows = [row for row in TABLE if re.fullmatch(rf"(decoders\.\d\.)?{row}", name)]
        assert len(rows) == 1, name
        values.setdefault(rows[0], []).append(parameter.detach().flatten())
    for row, parts in values.items():
        assert_follows(TABLE[row], torch.cat(parts))


@pytest.mark.parametrize("std", [0.02, 1.0])
def test_the_embedding_has_the_standard_deviation_of_the_config(std: float) -> None:
    model = model_of("model=vanilla", f"model.embedding_std={std}")
    assert_follows(Law("normal", std), model.trunk.embedding.weight.detach().flatten())


def test_zero_queries_are_zero_and_change_nothing_else() -> None:
    model, other = model_of("model=interblock", "model.trunk.query_init=zero"), model_of("model=interblock")
    for name, parameter in model.named_parameters():
        if "mixing.queries" in name:
            assert not parameter.any()
            assert dict(other.named_parameters())[name].any()
        elif "mixing" in name:
            assert (parameter == 1).all()


@pytest.mark.parametrize("name", ["tarnet", "tarnet_symmetric", "s_plus"])
def test_two_outcomes_of_one_trunk_start_equal(name: str) -> None:
    y0, y1 = model_of(f"model={name}")(some_tokens(2, 9)).unbind(2)
    assert torch.equal(y0, y1)
    assert y0.any()


def test_the_two_models_of_a_t_learner_are_drawn_one_after_the_other() -> None:
    pair = dict(model_of("model=t_learner").named_parameters())
    torch.manual_seed(0)
    for label in (0, 1):
        config = composed("scale=nano", "model.embedding_std=0.02", "model.dropout=0", "model=interblock")
        alone = build_language_model(config.model, config.scale, 256, 40)
        assert all(torch.equal(pair[f"decoders.{label}.{name}"], p) for name, p in alone.named_parameters())
    assert not torch.equal(pair["decoders.0.trunk.embedding.weight"], pair["decoders.1.trunk.embedding.weight"])


def test_values_come_from_the_default_generator() -> None:
    config = composed("scale=nano", "model=tarnet")
    first = build(config.model, config.scale)
    second = build_language_model(config.model, config.scale, 19, 40)
    torch.manual_seed(0)
    again = build_language_model(config.model, config.scale, 19, 40)
    for name, parameter in first.named_parameters():
        assert torch.equal(again.get_parameter(name), parameter)
    assert not torch.equal(second.trunk.embedding.weight, first.trunk.embedding.weight)
