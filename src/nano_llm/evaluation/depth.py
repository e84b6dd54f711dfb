"""What depth mixing reads: how much of each source goes into each sublayer, on average.

Axes: B rows, T positions, S sources, M mixes; s the sources of one mix.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import LongTensor, Tensor

from nano_llm.data.arrays import FloatArray
from nano_llm.data.batches import IGNORE, review_batches
from nano_llm.data.windows import Windows
from nano_llm.errors import RequestError
from nano_llm.evaluation.likelihood import chosen_reviews
from nano_llm.model.depth_mixing import Mix
from nano_llm.model.language_model import LanguageModel
from nano_llm.model.trunk import InterblockTrunk
from nano_llm.training.machine import Machine

OPEN = "open block"


@dataclass(frozen=True)
class DepthProfile:
    """Mean depth weights, and what their axes are called."""

    weights_SM: FloatArray
    """Each column's sum is 1; NaN where a sublayer does not read a source."""
    names: tuple[list[str], list[str]]
    """Of the sources and of the sublayers."""


@torch.inference_mode()
def depth_profile(
    model: LanguageModel,
    windows: Windows,
    machine: Machine,
    *,
    batch_size: int,
    num_reviews: int | None = None,
    on_batch: Callable[[], None] = lambda: None,
) -> DepthProfile:
    """Tell how much of each source the sublayers of a model read, as means over review targets.

    Args:
        model: With one trunk, which mixes depths; in evaluation mode, on the machine's device.
        windows: Of a split.
        machine: Device and arithmetic.
        batch_size: Windows in one forward pass.
        num_reviews: Take so many reviews, evenly spaced over the split; None: all.
        on_batch: Called before each forward pass; may raise to end the work.

    Raises:
        RequestError: The model has no such trunk, or two; or none of the windows has a target in its review.
    """
    trunks = {trunk for trunk, _ in model.passes}
    trunk = trunks.pop()
    if trunks or not isinstance(trunk, InterblockTrunk):
        raise RequestError(
            "Depth weights are those of one trunk that mixes depths, and this model has "
            f"{'two trunks' if trunks else 'another'}: take one with model/trunk=interblock or interblock_paper."
        )
    mixes = trunk.mixing.mixes
    sums = [np.zeros(mix.num_sources) for mix in mixes]
    num_targets = 0
    scored_BT: Tensor

    def add(number: int, weights_sBT: Tensor) -> None:
        sums[number] += weights_sBT[:, scored_BT].cpu().double().sum(1).numpy()

    with trunk.mixing.heard(add):
        for batch in review_batches(windows, batch_size, chosen_reviews(windows, num_reviews)):
            on_batch()
            moved = batch.to(machine.device)
            scored_BT = moved.review_targets_BT != IGNORE
            num_targets += int(scored_BT.sum())
            with machine.autocast():
                model.hidden_states(cast(LongTensor, moved.inputs_BT))
    if not num_targets:
        raise RequestError(
            "Depth weights are means over the targets of reviews, and no window of the chosen reviews has one, of "
            f"{len(windows)} in all: take more reviews, or longer windows."
        )
    return _profile(mixes, sums, len(trunk.layers))


def _profile(mixes: Sequence[Mix], sums: Sequence[FloatArray], num_layers: int) -> DepthProfile:
    """Put the weights of each mix into the rows of its sources; a single source is read as it is."""
    num_snapshots = 1 + max(number for mix in mixes for number in mix.snapshots)
    sources = ["embedding", *(f"block {number}" for number in range(1, num_snapshots)), OPEN]
    kinds = ("attention", "feed-forward")
    sublayers = [f"{layer + 1} {kind}" for layer in range(num_layers) for kind in kinds]
    weights_SM = np.full((len(sources), len(mixes)), np.nan)
    for m, (mix, total_s) in enumerate(zip(mixes, sums, strict=True)):
        rows = [*mix.snapshots, *([len(sources) - 1] if mix.partial else [])]
        weights_SM[rows, m] = 1.0 if mix.num_sources == 1 else total_s / total_s.sum()
    return DepthProfile(weights_SM, (sources, [*sublayers, "final"][: len(mixes)]))
