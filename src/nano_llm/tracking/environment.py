"""What a run ran on: versions, commit, machine. No secrets, never the whole environment."""

import hashlib
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from nano_llm.tracking.devices import gpu_name
from nano_llm.tracking.installation import installed_version

PACKAGES = (
    "nano-llm",
    "torch",
    "numpy",
    "tokenizers",
    "safetensors",
    "hydra-core",
    "omegaconf",
    "pyarrow",
    "datasets",
    "transformers",
)
VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "CUBLAS_WORKSPACE_CONFIG",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "PYTHONHASHSEED",
    "SLURM_JOB_ID",
)


def environment() -> dict[str, Any]:
    """Describe the software and the machine, as JSON's types."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "num_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": gpu_name(),
        "cuda": torch.version.cuda,
        "packages": {name: installed_version(name) for name in PACKAGES},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "git": git_state(Path(__file__).parent),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return commit and hash of the uncommitted change of the checkout that holds a folder; None outside one."""
    commit = _git(folder, "rev-parse", "HEAD")
    # An installed package may lie inside somebody else's checkout, which says nothing about it.
    if commit is None or not _git(folder, "ls-files", "."):
        return None
    diff = _git(folder, "diff", "HEAD") or ""
    # Elsewhere new files are no code: pages, texts, exports that commands have written.
    new_code = _git(folder, "ls-files", "--others", "--exclude-standard", ".", ":(top)conf")
    return {
        "commit": commit.strip(),
        "dirty": bool(diff or new_code),
        "diff_sha256": hashlib.sha256(diff.encode()).hexdigest() if diff else None,
    }


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _cpu_name() -> str:
    """Return what the processor calls itself, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
