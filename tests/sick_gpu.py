"""GPUs that PyTorch counts and that fail whatever they are asked."""

from typing import NoReturn, Protocol

import pytest
import torch

TOLD = "CUDA error: uncorrectable ECC error\nCompile with TORCH_USE_CUDA_DSA to enable device-side assertions."
"""What torch says, as it does in many lines."""


class Failing(Protocol):
    def __call__(self, *given: object) -> NoReturn: ...


def fail_with(error: type[Exception]) -> Failing:
    def fail(*given: object) -> NoReturn:
        raise error(TOLD)

    return fail


def sick_gpus(monkeypatch: pytest.MonkeyPatch, error: type[Exception] = RuntimeError) -> None:
    """Let the machine seem to have two GPUs that fail with an error."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("get_device_properties", "get_device_name"):
        monkeypatch.setattr(torch.cuda, name, fail_with(error))
