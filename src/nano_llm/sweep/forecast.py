"""What a sweep would do: its cells, their size and a guess at their time; nothing is written or started."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Group
from rich.table import Table

from nano_llm.config.schema import Config
from nano_llm.data.prepare import fingerprint
from nano_llm.model.accounting import expected_parameters
from nano_llm.sweep.cell import Cell
from nano_llm.sweep.plan import Plan, Work, work_of
from nano_llm.tracking.status import read_object, read_summary
from nano_llm.training.machine import find_machine

FLOPS_PER_PARAMETER = 6.0
"""Of a token's forward and backward pass, for each parameter (Kaplan et al., arXiv 2001.08361)."""

EFFICIENCY = 0.5
"""Share of a large product's speed that training steps of small models reach, from experiments/bench."""


@dataclass(frozen=True)
class Forecast:
    """What one cell would take."""

    parameters: int
    tokens: int | None
    """Trained target tokens; None where the length of an epoch is not known yet."""
    seconds: float | None
    """Of training; None where the tokens are not known."""
    is_bound: bool
    """Whether the data are not prepared, so that vocabulary and windows count at their largest."""


def show_forecast(plan: Plan) -> Group:
    """Return a table of the cells of a plan and a line that sums up."""
    table = Table(box=None)
    table.add_column("cell", min_width=max(len(cell.label) for cell in plan.cells))
    table.add_column("work")
    for column in ("parameters", "tokens", "minutes"):
        table.add_column(column, justify="right")
    speeds: dict[str, float] = {}
    total = 0.0
    unknown = bound = False
    for cell in plan.cells:
        work = work_of(cell)
        made = forecast(cell, speeds)
        table.add_row(cell.label, _action(work), *_figures(made))
        if work is not Work.reused:
            total += made.seconds or 0.0
            unknown |= made.seconds is None
            bound |= made.is_bound
    total /= _num_workers(plan)
    more = ", and more for cells whose epochs can be counted only after `nano-llm prepare`" if unknown else ""
    bounds = " (≤ until the data are prepared, by the first cell or by `nano-llm prepare`)" if bound else ""
    spent = f"{total / 60:.0f} minutes" if total < 7200 else f"{total / 3600:.0f} hours"
    sums = f"{plan.counts()}. Training takes about {spent} on this machine{more} (a rough guess){bounds}."
    # Below the table, where they have room on any screen.
    overrides = [f"{cell.label}: {_distinct(cell, plan.cells)}" for cell in plan.cells]
    return Group(table, *overrides, sums, "Nothing was started: sweep.dry_run=true")


def forecast(cell: Cell, speeds: dict[str, float]) -> Forecast:
    """Estimate one cell.

    Args:
        cell: Located, not necessarily frozen.
        speeds: Arithmetic speed in FLOP/s by type of device; what is missing is measured and added.
    """
    config = cell.config
    counts = _prepared_counts(config)
    vocab_size = counts["vocab_size"] if counts else config.data.tokenizer.vocab_size
    parameters = expected_parameters(config.model, config.scale, vocab_size)
    tokens = _tokens(config, counts)
    rate = _known_rate(cell)
    if rate is None:
        device = find_machine(config.trainer).device.type
        if device not in speeds:
            speeds[device] = _product_speed(device)
        rate = EFFICIENCY * speeds[device] / (FLOPS_PER_PARAMETER * parameters)
    limits = [] if tokens is None else [tokens / rate]
    if config.trainer.max_minutes is not None:
        limits.append(60 * config.trainer.max_minutes)
    return Forecast(parameters, tokens, min(limits, default=None), is_bound=counts is None)


def _tokens(config: Config, counts: dict[str, Any] | None) -> int | None:
    """Return the tokens of the tightest budget; without prepared data each window counts in full."""
    trainer = config.trainer
    per_window = float(config.data.window_length)
    limits: list[float] = [] if trainer.max_tokens is None else [trainer.max_tokens]
    if counts:
        train = counts["windows"]["train"]
        per_window = train["targets"] / train["windows"]
        if trainer.max_epochs is not None:
            limits.append(trainer.max_epochs * train["targets"])
    if trainer.max_steps is not None:
        limits.append(trainer.max_steps * trainer.batch_size * trainer.num_micro_batches * per_window)
    return round(min(limits)) if limits else None


def _prepared_counts(config: Config) -> dict[str, Any] | None:
    """Return the counts of the prepared data, where they are in the cache already."""
    if config.data.prepared is not None:
        folder = Path(config.data.prepared).expanduser()
    else:
        named = fingerprint(config.data, config.protocol, config.model.num_outcomes)
        folder = Path(config.paths.cache).expanduser() / named
    manifest = read_object(folder / "manifest.json")
    counts: dict[str, Any] | None = None if manifest is None else manifest["counts"]
    return counts


def _known_rate(cell: Cell) -> float | None:
    """Return the tokens a second of a finished run of the same arm."""
    for folder in sorted(cell.path.parent.glob("seed-*")):
        if summary := read_summary(folder):
            return float(summary["tokens_per_second"])
    return None


def _product_speed(device: str) -> float:
    """Measure the FLOP/s of a matrix product on a device."""
    size = 4096 if device == "cuda" else 768
    matrix = torch.rand(size, size, device=device)
    (matrix @ matrix).sum().item()
    began = time.monotonic()
    repeats = 10
    for _ in range(repeats):
        product = matrix @ matrix
    product.sum().item()
    return repeats * 2.0 * size**3 / (time.monotonic() - began)


def _num_workers(plan: Plan) -> int:
    """Return how many cells progress at full speed at once: one, or one a GPU."""
    on_gpu = find_machine(plan.cells[0].config.trainer).device.type == "cuda"
    return min(plan.settings.parallel, torch.cuda.device_count()) if on_gpu else 1


def _distinct(cell: Cell, cells: list[Cell]) -> str:
    """Return the overrides of a cell that not all cells share."""
    shared = set.intersection(*(set(other.overrides) for other in cells)) if len(cells) > 1 else set()
    return " ".join(text for text in cell.overrides if text not in shared)


def _action(work: Work) -> str:
    return {Work.reused: "done", Work.resumed: "resume", Work.computed: "compute"}[work]


def _figures(made: Forecast) -> tuple[str, str, str]:
    bound = "≤ " if made.is_bound else ""
    tokens = "?" if made.tokens is None else f"{bound}{made.tokens:,}"
    minutes = "?" if made.seconds is None else f"{made.seconds / 60:.1f}"
    return f"{bound}{made.parameters:,}", tokens, minutes
