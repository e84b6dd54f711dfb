"""The space of a search: what is varied, what is refused before anything starts."""

from collections.abc import Sequence

import pytest
from omegaconf import DictConfig

from nano_llm.config.compose import composing, explain
from nano_llm.errors import ConfigError

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
pytestmark = pytest.mark.filterwarnings("ignore:Deprecated API features")  # of SQLAlchemy, when Optuna is imported


def compose(overrides: Sequence[str]) -> DictConfig:
    from hydra import compose as hydra_compose
    from hydra.errors import HydraException

    with composing():
        try:
            return hydra_compose("config", overrides=list(overrides))
        except HydraException:
            pass
    raise ConfigError(explain(overrides))


def test_what_is_typed_wins_over_what_the_experiment_spans() -> None:
    from nano_llm.sweep.space import read_space

    params = {"model.dropout": "choice(0.0,0.1,0.2)", "optimizer.lr": "interval(0.1,0.2)", "seed": "1"}
    space = read_space(params, ["optimizer.lr=0.3", "seed=int(interval(2,5))", "data=scm"])
    assert space.words == {"model.dropout": "choice(0.0,0.1,0.2)", "seed": "int(interval(2,5))"}
    assert space.fixed == ["optimizer.lr=0.3", "data=scm"]
    assert space.corners() == [
        ["optimizer.lr=0.3", "data=scm", "model.dropout=0.0", "seed=2"],
        ["optimizer.lr=0.3", "data=scm", "model.dropout=0.2", "seed=5"],
    ]


@pytest.mark.parametrize("text", ["model.dropout=interval(0.2,0.0)", "model.dropout=glob(*)", "model.dropout"])
def test_what_spans_nothing_is_named(text: str) -> None:
    from nano_llm.sweep.space import read_space

    with pytest.raises(ConfigError) as caught:
        read_space(None, [text])
    assert str(caught.value).startswith(f"{text}: spans no space")


def test_a_mistyped_name_is_refused_and_a_space_with_a_valid_corner_is_not() -> None:
    from nano_llm.sweep.space import read_space

    fixed = ["data=scm", "trainer.device=cpu"]
    with pytest.raises(ConfigError, match="did you mean"):
        read_space(None, [*fixed, "model.dropuot=interval(0.0,0.1)"]).demand_valid(compose)
    plan = read_space(None, [*fixed, "model.dropout=choice(1.5,0.1)"]).demand_valid(compose)
    assert plan.cells[0].config.model.dropout == 0.1
