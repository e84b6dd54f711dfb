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
    """Describe the GPUs that PyTorch can use, as JSON's types: name, memory in bytes, whether they compute in bf16."""
    with _without_warnings():
        if not torch.cuda.is_available():
            return []
    return [_gpu(number) for number in range(torch.cuda.device_count())]


def _gpu(number: int) -> dict[str, Any]:
    about = torch.cuda.get_device_properties(number)
    with torch.cuda.device(number):
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return {"name": about.name, "memory_bytes": about.total_memory, "has_bf16": has_bf16}


def gpu_troubles() -> list[str]:
    """Return why GPUs of this machine are of no use to PyTorch, a sentence each; none where all is well."""
    with _without_warnings():
        if torch.cuda.is_available():
            troubles = [_trouble_of(number) for number in range(torch.cuda.device_count())]
            return [trouble for trouble in troubles if trouble is not None]
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
    except (RuntimeError, AssertionError) as error:  # torch's words for what is wrong with the driver or the build
        return _first_line(error)
    return "it finds none"


def _trouble_of(number: int) -> str | None:
    """Have a GPU compute something: one of a kind that the build does not know is found only then."""
    try:
        torch.ones(2, device=f"cuda:{number}").sum().item()
    except RuntimeError as error:
        return (
            f"GPU {number} does not compute with torch {torch.__version__}: {_first_line(error)}. Free it, or install "
            "a build of torch for it (docs/installation.md)."
        )
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


def _without_warnings() -> AbstractContextManager[object]:
    """Keep quiet what PyTorch warns of about drivers: it is told in words of ours."""
    return warnings.catch_warnings(action="ignore")
