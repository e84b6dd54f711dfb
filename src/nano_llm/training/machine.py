"""The machine that trains: device, arithmetic, and what its silicon could do at best."""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch

from nano_llm.config.schema import Device, Precision, TrainerConfig
from nano_llm.errors import CheckpointError, ConfigError
from nano_llm.training.place import SOLE, Place

PEAK_FLOPS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
    "T4": 65e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Dense bf16 (T4: fp16) matrix peaks in FLOP/s, from the makers' data sheets; others have no MFU."""


CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""The variable that makes cuBLAS repeat itself bit for bit."""


@dataclass(frozen=True)
class Machine:
    """Where and in which arithmetic the model runs."""

    device: torch.device
    precision: Precision
    """Arithmetic of the forward pass; never ``auto``."""

    @property
    def name(self) -> str:
        """Name of the device, as its maker calls it where that is known."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    @property
    def peak_flops(self) -> float | None:
        """Matrix peak in FLOP/s, or None where it is not known."""
        known = (peak for chip, peak in PEAK_FLOPS.items() if re.search(rf"\b{chip}\b", self.name))
        return next(known, None)

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass."""
        if self.precision is Precision.fp32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=_DTYPES[self.precision])

    def scaler(self) -> torch.amp.GradScaler:
        """Return a gradient scaler; it passes everything through unless the arithmetic is fp16."""
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision is Precision.fp16)
        # It makes its scale when it first scales something. A process whose share of a step is empty has nothing.
        scaler.scale(torch.zeros((), device=self.device))
        return scaler

    def random_state(self) -> dict[str, torch.Tensor]:
        """Return the states of the generators that training draws from, as byte tensors."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        elif self.device.type == "mps":
            states["mps"] = torch.mps.get_rng_state()
        return states

    def set_random_state(self, states: dict[str, torch.Tensor]) -> None:
        """Restore `random_state`; a state of a device that is not in use now is ignored.

        Raises:
            CheckpointError: A state is missing, or none that the generator can be in.
        """
        if "cpu" not in states:
            raise CheckpointError("The state of the random generator is missing.")
        try:
            torch.set_rng_state(states["cpu"])
            if self.device.type == "cuda" and "cuda" in states:
                torch.cuda.set_rng_state(states["cuda"], self.device)
            elif self.device.type == "mps" and "mps" in states:
                torch.mps.set_rng_state(states["mps"])
        except (RuntimeError, TypeError) as error:  # torch's words for another size, type or content
            raise CheckpointError(f"The state of the random generator cannot be restored: {error}.") from error


def find_machine(trainer: TrainerConfig, place: Place = SOLE) -> Machine:
    """Pick the device and the arithmetic, and set the switches of torch that go with them.

    Args:
        trainer: The settings.
        place: Which process of a job this is; each one of a machine has a GPU of its own.

    Raises:
        ConfigError: The chosen device or arithmetic does not exist here.
    """
    device = _own(_device(trainer.device), place)
    if trainer.num_threads is not None:
        torch.set_num_threads(trainer.num_threads)
    torch.backends.cuda.matmul.allow_tf32 = trainer.tf32
    torch.backends.cudnn.allow_tf32 = trainer.tf32
    _set_determinism(trainer.deterministic, device)
    return Machine(device, _precision(trainer.precision, device))


def _set_determinism(wanted: bool, device: torch.device) -> None:
    """Have torch choose operations that repeat bit for bit, and refuse those it knows to have no such form.

    After PyTorch's notes on randomness (docs/source/notes/randomness.rst): runs repeat
    on one kind of machine and with one version of PyTorch. On the CPU no operation of ours is refused or changed.
    """
    if wanted and device.type == "cuda":
        # cuBLAS reads it when it starts, at the first matrix product of the process: nothing has been computed yet.
        os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")
    torch.backends.cudnn.deterministic = wanted
    # Setting it imports the compiler, which takes a second: not for those who do not ask for it.
    if wanted != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(wanted)


@contextmanager
def explained_refusals() -> Iterator[None]:
    """Explain what ``trainer.deterministic`` makes torch refuse.

    Raises:
        ConfigError: An operation has no deterministic form here.
    """
    try:
        yield
    except RuntimeError as error:
        # torch has no class for it; both of its messages (ATen/Context.cpp) name the function that was called.
        if "use_deterministic_algorithms(True)" not in str(error):
            raise
        raise ConfigError(
            f"trainer.deterministic=true: this run needs an operation that does not repeat bit for bit here. Take "
            f"trainer.deterministic=false, trainer.device=cpu, or settings that do without it. PyTorch says: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _device(wanted: Device) -> torch.device:
    available = {
        Device.cuda: torch.cuda.is_available(),
        Device.mps: torch.backends.mps.is_available(),
        Device.cpu: True,
    }
    if wanted is Device.auto:
        wanted = next(device for device, there in available.items() if there)
    if not available[wanted]:
        there = ", ".join(device.name for device, is_there in available.items() if is_there)
        raise ConfigError(
            f"trainer.device={wanted.name}: this machine or this build of PyTorch ({torch.__version__}) has none; "
            f"available here: {there}"
        )
    return torch.device(wanted.name)


def _own(device: torch.device, place: Place) -> torch.device:
    """Return the device of one process among several on a machine."""
    if place.size == 1 or device.type == "cpu":
        return device
    if device.type != "cuda":
        raise ConfigError(
            f"trainer.device={device.type}: several processes train together on the CPU or on NVIDIA GPUs; "
            "take trainer.device=cpu, or start a single process"
        )
    if place.local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"Process {place.local_rank} of this machine (LOCAL_RANK, from 0) has no GPU of its own: "
            f"{torch.cuda.device_count()} can be seen here. Start at most so many with --nproc-per-node, and let each "
            "process see all GPUs of its machine, or take trainer.device=cpu."
        )
    torch.cuda.set_device(place.local_rank)
    return torch.device("cuda", place.local_rank)


def _precision(wanted: Precision, device: torch.device) -> Precision:
    if wanted is Precision.auto:
        supported = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return Precision.bf16 if supported else Precision.fp32
    if wanted is Precision.fp16 and device.type == "cpu":
        raise ConfigError("trainer.precision=fp16: needs scaled gradients on a GPU; on the CPU use fp32 or bf16")
    return wanted


_DTYPES = {Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}
