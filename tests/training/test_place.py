"""The place of a process: what launchers say, and what makes no sense."""

import pytest

from nano_llm.errors import ConfigError
from nano_llm.training.place import SOLE, Place

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "node-0", "MASTER_PORT": "29500"}


def test_a_launcher_tells_the_place() -> None:
    assert Place.of({**TORCHRUN, "HOME": "/"}) == Place(rank=3, size=4, local_rank=1)


@pytest.mark.parametrize("variables", [{}, {"WORLD_SIZE": "4", "LOCAL_RANK": "1"}])
def test_without_a_rank_there_is_no_launcher(variables: dict[str, str]) -> None:
    assert Place.of(variables) == SOLE == Place(0, 1, 0)


def test_one_process_needs_no_address() -> None:
    assert Place.of({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}).size == 1


@pytest.mark.parametrize("missing", ["WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_a_missing_variable_is_named(missing: str) -> None:
    variables = {name: value for name, value in TORCHRUN.items() if name != missing}
    with pytest.raises(ConfigError, match=rf"{missing}=\(not set\).*torchrun"):
        Place.of(variables)


@pytest.mark.parametrize(("name", "value"), [("RANK", "4"), ("RANK", "-1"), ("WORLD_SIZE", "many"), ("LOCAL_RANK", "")])
def test_a_value_without_sense_is_shown(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}={value}"):
        Place.of({**TORCHRUN, name: value})
