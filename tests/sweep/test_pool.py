"""Slots: what each cell of a machine receives."""

from collections.abc import Sequence

import pytest
import torch
from hydra import compose

from nano_llm.config.compose import compose_config, composing
from nano_llm.config.strict import convert
from nano_llm.sweep.cell import Cell
from nano_llm.sweep.pool import Pool, slots
from nano_llm.sweep.sweep import launch_here


def cells(*overrides: str) -> list[Cell]:
    return [Cell.of(compose_config(["data=scm", *overrides]), [])]


def test_gpus_are_given_out_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    on_any = cells()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots(3, on_any)] == ["0", "1", "0"]


def test_gpus_hidden_from_the_sweep_stay_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    on_any = cells()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots(2, on_any)] == ["5", "7"]


def test_cells_on_the_cpu_share_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert slots(3, cells("trainer.device=cpu")) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert slots(1, cells("trainer.device=cpu")) == [{}]


def test_a_chosen_number_of_threads_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert slots(2, cells("trainer.device=cpu")) == [{}, {}]


def test_threads_are_shared_by_the_cells_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    class RecordingPool(Pool):
        """Notes its slots and runs nothing."""

        def run(self, cells: Sequence[Cell]) -> None:
            given.append(self._environments)

    monkeypatch.setattr("nano_llm.sweep.sweep.Pool", RecordingPool)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    with composing():
        settings = convert(compose("config", overrides=["sweep.parallel=4"])).sweep
    on_cpu = cells("trainer.device=cpu")
    launch_here(settings, on_cpu, print)
    launch_here(settings, on_cpu * 2, print)
    assert given == [[{}], [{"OMP_NUM_THREADS": "4"}] * 2]
