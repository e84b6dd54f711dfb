"""What the machine computes with, and GPUs that PyTorch cannot use."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nano_llm.tracking import devices
from sick_gpu import fail_with, sick_gpus


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A driver that tells of a GPU, which PyTorch does not see; its tool can be altered."""
    if torch.cuda.is_available():
        pytest.skip("PyTorch can use a GPU here")
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA L4'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tool


def test_a_gpu_that_torch_cannot_use_is_told_with_the_reason(driver: Path) -> None:
    [trouble] = devices.gpu_troubles(devices.gpus())
    assert trouble.startswith("This machine has NVIDIA L4, but torch")
    if torch.version.cuda is None:
        assert "is built without CUDA. Install a build with it" in trouble
    else:
        assert f"cannot use it with CUDA {torch.version.cuda}: " in trouble
    assert devices.gpus() == []


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_who_hides_the_gpus_wants_none(hidden: str, driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert devices.gpu_troubles([]) == []


@pytest.mark.parametrize("script", ["#!/bin/sh\necho 'No devices were found'\nexit 6\n", "#!/no/such/shell\n"])
def test_a_driver_without_gpus_is_no_trouble(script: str, driver: Path) -> None:
    driver.write_text(script)
    assert devices.gpus_of_driver() == []
    assert devices.gpu_troubles([]) == []


@pytest.mark.parametrize("error", [RuntimeError, AssertionError, torch.cuda.DeferredCudaCallError])
def test_a_gpu_that_answers_nothing_is_described_by_its_trouble(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    sick_gpus(monkeypatch, error)
    found = devices.gpus()
    assert [(gpu["name"], gpu["memory_bytes"], gpu["has_bf16"]) for gpu in found] == [(None, None, None)] * 2
    first, second = devices.gpu_troubles(found)
    told = f"GPU 0 does not compute with torch {torch.__version__}: CUDA error: uncorrectable ECC error. Free it"
    assert first.startswith(told)
    assert second.startswith("GPU 1 ")
    assert devices.gpu_name() is None


def test_what_a_gpu_tells_before_its_trouble_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    sick_gpus(monkeypatch, RuntimeError)
    about = SimpleNamespace(name="NVIDIA L4", total_memory=1 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: about)
    monkeypatch.setattr(torch.cuda, "device", fail_with(RuntimeError))
    gpu, _ = devices.gpus()
    assert (gpu["name"], gpu["memory_bytes"], gpu["has_bf16"]) == ("NVIDIA L4", 1 << 30, None)
    assert "uncorrectable" in gpu["trouble"]


def test_memory_is_the_containers_where_that_is_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(devices, "_MEMORY_LIMIT", limit)
    whole = devices.memory_bytes()
    assert whole > 1 << 28
    limit.write_text("max\n")
    assert devices.memory_bytes() == whole
    limit.write_text("1048576\n")
    assert devices.memory_bytes() == 1 << 20


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpus_that_compute_are_told_without_trouble() -> None:
    found = devices.gpus()
    assert len(found) == torch.cuda.device_count()
    assert all(gpu["name"] and gpu["memory_bytes"] > 1 << 30 for gpu in found)
    assert devices.gpu_troubles(found) == []
    assert devices.gpu_name() == found[0]["name"]
