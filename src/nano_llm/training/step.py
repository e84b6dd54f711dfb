"""One optimizer step over its micro-batches."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nano_llm.data.batches import Batch
from nano_llm.objective import Objective
from nano_llm.training.group import ALONE, Group
from nano_llm.training.machine import Machine
from nano_llm.training.optimizer import Optimizer

MEASURED = ("loss", "ce", "separation", "separation_count", "grad_norm")
"""What `train_step` measures: the loss, sums of nats and of the separation term with the number of its summands (0
where there is no term), the gradient's norm unclipped."""


def train_step(
    model: nn.Module,
    objective: Objective,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    batches: Sequence[Batch],
    lr_factor: float,
    machine: Machine,
    group: Group = ALONE,
    accepts: Callable[[Tensor, bool], bool] = lambda _measured, _overflowed: True,
) -> Tensor:
    """Take one step in which every target token of all micro-batches weighs the same.

    The denominators are counted over all micro-batches before the first forward pass, and over all rows: each
    process of the group has its share of these only, and the sums over the group are those of a single process.

    Args:
        model: What is trained.
        objective: What is minimised.
        optimizer: Updates the parameters of both.
        scaler: Loss scale of fp16; passes through when disabled.
        batches: The micro-batches.
        lr_factor: Share of the peak learning rate.
        machine: Device and arithmetic.
        group: The processes that take the step together.
        accepts: Told before anything is updated what the step has measured, and whether a gradient overflowed at the
            loss scale, which has been lowered for it; False leaves weights and moments alone.

    Returns:
        The values named in `MEASURED`, on the device, shape [5]; fetching them is the caller's synchronisation.
    """
    counts = [objective.counts(batch) for batch in batches]
    window_counts = {name: torch.stack([count[name] for count in counts]).sum() for name in counts[0]}
    measured = torch.zeros(len(MEASURED), device=machine.device)
    for batch in batches:
        share = group.share(batch)
        if len(share) == 0:
            continue
        moved = share.to(machine.device)
        with machine.autocast():
            logits_BTKV = model(moved.inputs_BT, None if objective.reads_both else moved.treatment_B)
        terms = objective.terms(logits_BTKV, moved)
        loss = objective.loss(terms, window_counts)
        scaler.scale(loss).backward()
        measured[:2] += torch.stack([loss, terms["ce"].total]).detach()
        if (separation := terms.get(objective.kind.name)) is not None:
            measured[2:4] += torch.stack([separation.total, separation.count]).detach()
    group.add_up(optimizer.parameters, measured)
    optimizer.unscale(scaler)
    measured[4] = optimizer.clip()
    scale = scaler.get_scale()
    scaler.update()
    if accepts(measured, scaler.get_scale() < scale):
        optimizer.step(lr_factor)
    optimizer.drop_gradients()
    return measured
