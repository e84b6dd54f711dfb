"""What a configuration says of one machine is taken out of it, and put in on another."""

from dataclasses import replace
from pathlib import Path

import pytest

from nano_llm.config.compose import compose_config
from nano_llm.config.identity import arm_id, to_plain
from nano_llm.config.places import with_places, without_places
from nano_llm.config.schema import ImdbConfig

PLACES = {
    "NANO_LLM_IMDB": "reviews",
    "NANO_LLM_CAD": "pairs",
    "NANO_LLM_IMDB_MOVIES": "movies",
    "NANO_LLM_CACHE": "cache",
    "NANO_LLM_OUTPUTS": "outputs",
}


@pytest.fixture
def on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name, folder in PLACES.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    return tmp_path


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)


def test_nothing_of_the_machine_is_left_and_the_run_keeps_its_name(
    on_this_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = ["tracker=wandb", "tracker.wandb.entity=me", "tracker.wandb.project=secret"]
    machine = ["data.prepared=here", "trainer.num_threads=3", "trainer.device=cpu"]
    config = compose_config(["data=imdb", *machine, *account])
    assert str(on_this_machine) in str(to_plain(config))
    plain = without_places(config)
    assert str(on_this_machine) not in str(to_plain(plain))
    assert arm_id(plain, "") == arm_id(config, "")
    for name in PLACES:
        monkeypatch.delenv(name)
    assert plain == compose_config(["data=imdb"])


@pytest.mark.usefixtures("elsewhere")
def test_a_machine_without_places_has_those_of_the_defaults() -> None:
    for data in ("imdb", "scm"):
        config = compose_config([f"data={data}"])
        assert with_places(without_places(config), has_movies=True) == config


@pytest.mark.usefixtures("elsewhere")
def test_originals_stay_where_the_counterfactual_reviews_are_not_here() -> None:
    config = without_places(compose_config(["data=imdb", "data.exclude_cad=true", "data.cad=there"]))
    for cad, excluded in ((None, False), ("here", True)):
        data = with_places(config, has_movies=False, cad=cad).data
        assert isinstance(data, ImdbConfig)
        assert (data.cad, data.exclude_cad) == (cad, excluded)


def test_the_places_of_this_machine_are_put_in(on_this_machine: Path) -> None:
    config = compose_config(["data=imdb", "scale=tiny"])
    assert with_places(without_places(config), has_movies=True) == config
    assert isinstance(config.data, ImdbConfig)
    unknown = replace(config, data=replace(config.data, movies=None))
    assert with_places(without_places(config), has_movies=False) == unknown
