"""Choosing a machine: what exists, or a sentence that says what does."""

import os

import pytest
import torch

from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Precision
from nano_llm.errors import ConfigError
from nano_llm.training.machine import CUBLAS_WORKSPACE, Machine, explained_refusals, find_machine
from nano_llm.training.place import Place


def test_the_cpu_computes_in_fp32_by_default() -> None:
    machine = find_machine(compose_config(["trainer.device=cpu"]).trainer)
    assert (machine.device.type, machine.precision) == ("cpu", Precision.fp32)
    assert not machine.scaler().is_enabled()
    assert machine.peak_flops is None


def test_bf16_on_the_cpu_casts_matrix_products() -> None:
    machine = find_machine(compose_config(["trainer.device=cpu", "trainer.precision=bf16"]).trainer)
    with machine.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.bfloat16


def test_a_missing_device_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"trainer\.device=cuda.*available here: .*cpu"):
        find_machine(compose_config(["trainer.device=cuda"]).trainer)


def test_each_process_of_a_machine_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    trainer = compose_config(["trainer.device=cuda", "trainer.precision=fp32"]).trainer
    assert find_machine(trainer, Place(rank=5, size=8, local_rank=1)).device == torch.device("cuda", 1)
    assert find_machine(trainer).device == torch.device("cuda")
    assert chosen == [1]
    with pytest.raises(ConfigError, match=r"Process 2 of this machine.*2 can be seen.*--nproc-per-node"):
        find_machine(trainer, Place(rank=2, size=3, local_rank=2))


def test_several_processes_do_not_share_an_apple_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    trainer = compose_config(["trainer.device=mps", "trainer.precision=fp32"]).trainer
    assert find_machine(trainer).device.type == "mps"
    with pytest.raises(ConfigError, match=r"trainer\.device=mps.*trainer\.device=cpu"):
        find_machine(trainer, Place(0, 2, 0))


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA L4", 121e12),
        ("NVIDIA L40", None), ("NVIDIA T400", None), ("Unheard of", None),
    ],
)  # fmt: skip
def test_peaks_belong_to_whole_names(name: str, peak: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "name", property(lambda _: name))
    assert Machine(torch.device("cpu"), Precision.fp32).peak_flops == peak


@pytest.mark.usefixtures("determinism")
def test_determinism_is_switched_on_and_off_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cuda = ["trainer.device=cuda", "trainer.precision=fp32"]
    find_machine(compose_config(cuda).trainer)
    assert CUBLAS_WORKSPACE not in os.environ
    find_machine(compose_config([*cuda, "trainer.deterministic=true"]).trainer)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.backends.cudnn.deterministic
    assert os.environ[CUBLAS_WORKSPACE] == ":4096:8"
    find_machine(compose_config(cuda).trainer)
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic


@pytest.mark.usefixtures("determinism")
def test_what_the_user_chose_for_cublas_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv(CUBLAS_WORKSPACE, ":16:8")
    chosen = ["trainer.device=cuda", "trainer.precision=fp32", "trainer.deterministic=true"]
    find_machine(compose_config(chosen).trainer)
    assert os.environ[CUBLAS_WORKSPACE] == ":16:8"


@pytest.mark.usefixtures("determinism")
def test_an_operation_without_a_deterministic_form_is_refused_by_the_name_of_the_setting() -> None:
    find_machine(compose_config(["trainer.device=cpu", "trainer.deterministic=true"]).trainer)
    with (
        pytest.raises(ConfigError, match=r"trainer\.deterministic=true.*put_ does not have a deterministic"),
        explained_refusals(),
    ):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(RuntimeError, match="shape"), explained_refusals():
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_random_state_replays_what_is_drawn() -> None:
    machine = Machine(torch.device("cpu"), Precision.fp32)
    state = machine.random_state()
    first = torch.rand(5)
    machine.set_random_state(state)
    assert torch.equal(torch.rand(5), first)
