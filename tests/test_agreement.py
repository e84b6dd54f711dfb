"""Processes that were asked for different things do not train together."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from nano_llm.agreement import demand_agreement
from nano_llm.config.compose import compose_config
from nano_llm.errors import ConfigError
from nano_llm.identity import identify
from nano_llm.session import run_session
from nano_llm.training.group import Alone
from nano_llm.training.place import Place
from tiny_run import TINY_RUN


class Many(Alone):
    """One of several processes, whose rank 0 trains another run."""

    def __init__(self, size: int, leaders: dict[str, Any]) -> None:
        self.place = Place(1, size, 1)
        self.leaders = leaders

    def told(self, make: Any) -> Any:
        return self.leaders


def test_a_batch_that_does_not_go_round_is_refused() -> None:
    config = compose_config([*TINY_RUN, "trainer.batch_size=8"])
    with pytest.raises(ConfigError, match=r"trainer\.batch_size=8: .*at least trainer\.batch_size=9.*--nproc-per-node"):
        demand_agreement(identify(config), Many(9, {}))


class Agreed(BaseException):
    """The processes go on to train."""


class Two(Alone):
    """Rank 1 of two; what rank 0 says first was said by a process that had other settings."""

    def __init__(self, *overrides: str) -> None:
        leader = Place(0, 2, 0)
        self.place, self.words = leader, ""
        with pytest.raises(Agreed):
            run_session(compose_config([*TINY_RUN, *overrides]), [], Console(quiet=True), self)
        self.place = Place(1, 2, 1)

    def told(self, make: Any) -> Any:
        if self.place.rank == 0:
            self.words = json.dumps(make())
        return json.loads(self.words)

    def use(self, device: torch.device) -> None:
        raise Agreed


@pytest.mark.parametrize("setting", ["trainer.log_every=3", "trainer.bad_steps=skip", "seed=1", "optimizer.lr=0.5"])
def test_processes_with_different_settings_are_refused_and_told_which(setting: str) -> None:
    name, value = setting.split("=")
    group = Two("trainer.log_every=2")
    with pytest.raises(ConfigError, match=rf"Rank 1 and rank 0 would not train the same: .*\b{name} {value} \(rank 0:"):
        run_session(compose_config([*TINY_RUN, setting]), [], Console(quiet=True), group)


def test_processes_of_different_versions_or_devices_are_refused() -> None:
    group = Two()
    group.words = json.dumps({**json.loads(group.words), "nano_llm": "9.9", "device": "cuda"})
    with pytest.raises(ConfigError, match=r"device cpu \(rank 0: cuda\), nano_llm [\d.]+\S* \(rank 0: 9\.9\)"):
        run_session(compose_config(TINY_RUN), [], Console(quiet=True), group)


def test_what_is_a_machines_own_may_differ(tmp_path: Path) -> None:
    group = Two(f"trainer.num_threads={torch.get_num_threads()}", f"paths.cache={tmp_path / 'one'}")
    with pytest.raises(Agreed):
        run_session(compose_config([*TINY_RUN, f"paths.cache={tmp_path / 'other'}"]), [], Console(quiet=True), group)
