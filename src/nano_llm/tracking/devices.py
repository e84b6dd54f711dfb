"""What a machine computes with, and what keeps PyTorch from it."""

import os
import shutil
import subprocess
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""What /proc/cpuinfo calls instructions for bf16: of x86 the first two, of ARM the last."""
_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
_CUDA_ERRORS = (RuntimeError, AssertionError, torch.cuda.DeferredCudaCallError)
"""What torch raises for a driver, a build or a GPU that is not in order."""
_HIDDEN = ("", "-1")
"""Values of CUDA_VISIBLE_DEVICES of those who want no GPU."""


def memory_bytes() -> int:
    """Return the memory that this process may use, in bytes: the machine's, or its container's where that is less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(machine, int(_MEMORY_LIMIT.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # there is none, or it is "max"
        return machine


def cpu_has_bf16() -> bool | None:
    """Tell whether the processor has instructions for bf16, which it otherwise emulates; None where nothing tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    flags = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    return not _BF16_FLAGS.isdisjoint(next(flags, []))


def gpus() -> list[dict[str, Any]]:
    """Describe the GPUs that PyTorch finds, each by computing something with it.

    Returns:
        As JSON's types ``name``, ``memory_bytes``, ``has_bf16``: whether it computes in bf16, and ``trouble``: why it
        is of no use, in sentences, None where all is well. What a GPU in trouble does not tell is None.
    """
    with _without_warnings():
        if not torch.cuda.is_available():
            return []
        return [_gpu(number) for number in range(torch.cuda.device_count())]


def _gpu(number: int) -> dict[str, Any]:
    found: dict[str, Any] = {"name": None, "memory_bytes": None, "has_bf16": None, "trouble": None}
    try:
        about = torch.cuda.get_device_properties(number)
        found |= {"name": about.name, "memory_bytes": about.total_memory}
        with torch.cuda.device(number):
            found["has_bf16"] = torch.cuda.is_bf16_supported(including_emulation=False)
        torch.ones(2, device=f"cuda:{number}").sum().item()  # fails only now, if the build does not know its kind
    except _CUDA_ERRORS as error:
        found["trouble"] = (
            f"GPU {number} does not compute with torch {torch.__version__}: {_first_line(error)}. Free it, or install "
            "a build of torch for it (docs/installation.md)."
        )
    return found


def gpu_name() -> str | None:
    """Return the name of the GPU that PyTorch uses unless told otherwise; None without one, or if it does not tell."""
    if not torch.cuda.is_available():
        return None
    try:
        return torch.cuda.get_device_name()
    except _CUDA_ERRORS:  # whoever computes with it is told
        return None


def gpu_troubles(found: list[dict[str, Any]]) -> list[str]:
    """Return why GPUs of this machine are of no use to PyTorch, some sentences each; none where all is well.

    Args:
        found: What ``gpus`` returns.
    """
    if found:
        return [gpu["trouble"] for gpu in found if gpu["trouble"] is not None]
    named = gpus_of_driver()
    if not named or os.environ.get("CUDA_VISIBLE_DEVICES") in _HIDDEN:
        return []
    here = f"This machine has {', '.join(named)}"
    if torch.version.cuda is None:
        return [
            f"{here}, but torch {torch.__version__} is built without CUDA. Install a build with it "
            "(docs/installation.md), or set CUDA_VISIBLE_DEVICES= to do without."
        ]
    return [
        f"{here}, but torch {torch.__version__} cannot use it with CUDA {torch.version.cuda}: {_refusal()}. Update the "
        "driver, or install a build of torch for it (docs/installation.md)."
    ]


def gpus_of_driver() -> list[str]:
    """Return the names of the GPUs that NVIDIA's driver tells of; none where there is no driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    ask = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        told = subprocess.run(ask, capture_output=True, text=True, errors="replace", timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in told.stdout.splitlines() if line.strip()] if told.returncode == 0 else []


def _refusal() -> str:
    try:
        with _without_warnings():
            torch.zeros(1, device="cuda")
    except _CUDA_ERRORS as error:
        return _first_line(error)
    return "it finds none"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


def _without_warnings() -> AbstractContextManager[object]:
    """Keep quiet what PyTorch warns of about drivers: it is told in words of ours."""
    return warnings.catch_warnings(action="ignore")
