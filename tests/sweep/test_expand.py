"""From a command line to cells: grids, rows, seeds."""

from collections.abc import Sequence

import pytest
from omegaconf import DictConfig

from nano_llm.config.compose import composing
from nano_llm.errors import ConfigError
from nano_llm.sweep.expand import expand


def compose(overrides: Sequence[str]) -> DictConfig:
    from hydra import compose as hydra_compose

    with composing():
        return hydra_compose("config", overrides=list(overrides))


def lines(*overrides: str) -> list[str]:
    return [" ".join(words) for words, _ in expand(overrides, compose)]


def test_a_grid_takes_every_combination() -> None:
    found = lines("model=vanilla,tarnet", "seed=range(0,2)")
    assert found == ["model=vanilla seed=0", "model=vanilla seed=1", "model=tarnet seed=0", "model=tarnet seed=1"]


def test_seeds_count_up_and_the_first_of_each_row_come_first() -> None:
    assert lines("model=vanilla,tarnet", "seed=5", "sweep.seeds=2") == [
        "model=vanilla seed=5 sweep.seeds=2",
        "model=tarnet seed=5 sweep.seeds=2",
        "model=vanilla sweep.seeds=2 seed=6",
        "model=tarnet sweep.seeds=2 seed=6",
    ]


def test_rows_are_not_multiplied_with_each_other_and_may_sweep() -> None:
    found = lines("sweep.rows=['model=vanilla','model=tarnet model.separation.weight=0,0.1']")
    assert [line.split(" sweep.rows")[0] for line in found] == [
        "model=vanilla",
        "model=tarnet model.separation.weight=0",
        "model=tarnet model.separation.weight=0.1",
    ]


def test_what_is_typed_wins_over_the_row() -> None:
    (_, first), *_ = expand(["experiment=table512", "trainer.max_epochs=1", "name=mine"], compose)
    assert (first.trainer.max_epochs, first.name) == (1, "mine")


def test_problems_of_all_cells_are_told_once_each() -> None:
    with pytest.raises(ConfigError) as caught:
        expand(["model=vanilla,tarnet", "scale.d_model=-1", "seed=0,1"], compose)
    message = str(caught.value)
    assert message.count("scale.d_model=-1") == 1
    assert "(4 cells)" in message


def test_an_override_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="key=value"):
        expand(["sweep.rows=['model=vanilla nonsense']"], compose)


def test_only_the_rows_must_fit_not_the_command_without_them() -> None:
    rows = "sweep.rows=['model=vanilla','model=interblock']"
    assert len(lines("data=natural", rows)) == 2
    assert len(lines("model.trunk.macro_block_size=2", "sweep.rows=['model=interblock']")) == 1
    with pytest.raises(ConfigError, match=r"data\.conditioning=natural"):
        lines("data=natural", "sweep.rows=['model=vanilla','model=tarnet']")


def test_an_odd_quote_in_a_row_is_told_with_the_other_problems() -> None:
    with pytest.raises(ConfigError) as caught:
        expand(["seed=0,1", """sweep.rows=["name=it's",'model=vanilla scale.d_model=-1']"""], compose)
    message = str(caught.value)
    assert "name=it's: cannot be split" in message
    assert message.count("scale.d_model=-1") == 1
    assert message.count("(2 cells)") == 2


def test_an_error_without_a_list_is_told_whole() -> None:
    def refuse(overrides: Sequence[str]) -> DictConfig:
        raise ConfigError("the search path is empty")

    with pytest.raises(ConfigError, match="the search path is empty"):
        expand(["seed=0,1"], refuse)
