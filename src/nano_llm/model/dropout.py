"""Dropout that costs little on a CPU.

PyTorch draws one Bernoulli variable an element on the CPU, which took more than half of a training step.
Here 64 random bits decide over four elements: each is dropped when its 16 bits, read as an integer, lie below
a threshold. All bits come from PyTorch's default CPU generator, so ``torch.set_rng_state`` replays every mask
bit by bit. On other devices, and inside ``torch.compile``, PyTorch's own dropout does the work.

N rows (tokens), F input units, D output units.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nano_llm.model.linear import Linear

LEVELS = 1 << 16
PART = 1 << 18
_INT64_MIN = torch.iinfo(torch.int64).min


def num_dropped_levels(rate: float) -> int:
    """How many of the 65536 levels mean "drop"; at least one level is kept."""
    return min(round(rate * LEVELS), LEVELS - 1)


def keep_scale(rate: float) -> float:
    """1 / (share of kept elements): what makes dropout at the rounded rate keep the mean exactly."""
    return LEVELS / (LEVELS - num_dropped_levels(rate))


def draw_keep_mask(shape: Sequence[int], rate: float) -> Tensor:
    """Independent int8 flags on the CPU: 0 (dropped, with probability ``rate``) or 1 (kept)."""
    count = math.prod(shape)
    # Without bounds random_() would draw 63 bits and leave every fourth level's sign bit unset.
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(_INT64_MIN, None)
    levels = words.view(torch.int16)[:count].view(*shape)
    # An int8 result keeps the comparison vectorised, and int8 * float is faster than bool * float.
    keep = torch.empty(*shape, dtype=torch.int8)
    return torch.ge(levels, num_dropped_levels(rate) - LEVELS // 2, out=keep)


def drop_(x: Tensor, rate: float) -> Tensor:
    """Zero each element of a contiguous CPU tensor with probability ``rate``, in place, as ``draw_keep_mask`` would.

    Levels and flags are made for a part at a time, in memory that is used again and so stays in the cache.
    """
    flags = torch.empty(PART, dtype=x.dtype)
    words = torch.empty(PART // 4, dtype=torch.int64)
    for part in x.view(-1).split(PART):
        levels = words[: -(-len(part) // 4)].random_(_INT64_MIN, None).view(torch.int16)[: len(part)]
        part.mul_(torch.ge(levels, num_dropped_levels(rate) - LEVELS // 2, out=flags[: len(part)]))
    return x


def draws_own_masks(x: Tensor) -> bool:
    """Whether the cheap masks serve this tensor: on a CPU, outside of the compiler."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


class Dropout(nn.Module):
    """Zero each element with probability ``rate`` in training and scale the others to keep the mean."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Map any shape to itself."""
        if not (self.training and self.rate > 0 and draws_own_masks(x)):
            return F.dropout(x, self.rate, self.training)
        dropped: Tensor = _Dropout.apply(x, draw_keep_mask(x.shape, self.rate), keep_scale(self.rate))
        return dropped


class _Dropout(torch.autograd.Function):
    """y = x * keep * scale."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return (x * keep).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        return (grads[0] * keep).mul_(ctx.scale), None, None


class ReluDropoutLinear(Linear):
    """A linear map of a rectified and dropped-out tensor."""

    def __init__(self, in_features: int, out_features: int, rate: float) -> None:
        super().__init__(in_features, out_features)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., F) to (..., D). In training ``x`` may be overwritten: nothing else may need it."""
        if not (self.training and self.rate > 0 and draws_own_masks(x)):
            return super().forward(F.dropout(F.relu(x), self.rate, self.training))
        y_ND: Tensor = _ReluDropoutLinear.apply(x.flatten(0, -2), self.rate, self.weight, self.bias)
        return y_ND.view(*x.shape[:-1], self.out_features)


class _ReluDropoutLinear(torch.autograd.Function):
    """y = (relu(x) * keep * scale) @ weight' + bias.

    What the factors leave of x replaces it: it is positive exactly where x was and the flag is 1, so it serves
    as mask of the gradient too. The scale is left to the matrix products.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, rate: float, weight: Tensor, bias: Tensor) -> Tensor:
        kept = drop_(x.relu_(), rate)
        ctx.save_for_backward(kept, weight)
        ctx.scale = keep_scale(rate)
        return torch.addmm(bias, kept, weight.mT, alpha=ctx.scale)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kept, weight = ctx.saved_tensors
        scaled = grads[0] * ctx.scale
        grad_x = scaled @ weight
        torch.ops.aten.threshold_backward.grad_input(grad_x, kept, 0.0, grad_input=grad_x)
        return grad_x, None, scaled.mT @ kept, grads[0].sum(0)
