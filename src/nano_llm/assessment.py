"""A checkpoint through the evaluation suite, and the records it leaves."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nano_llm.checkpoint import Checkpoint
from nano_llm.config.schema import Suite
from nano_llm.data.prepare import PreparedData
from nano_llm.evaluation.bootstrap import Interval
from nano_llm.evaluation.measured import Assessed, Measured
from nano_llm.evaluation.outcome_model import OutcomeModel
from nano_llm.evaluation.records import write_measured
from nano_llm.evaluation.subject import Subject
from nano_llm.evaluation.suite import evaluate
from nano_llm.training.machine import Machine


def assess(
    checkpoint: Checkpoint,
    data: PreparedData,
    machine: Machine,
    suite: Suite,
    folder: Path,
    *,
    wanted: Sequence[str] = (),
    say: Callable[[str], None],
    on_batch: Callable[[], None] = lambda: None,
) -> Assessed:
    """Evaluate a checkpoint on the corpus that it was trained for.

    Args:
        checkpoint: Holds the weights.
        data: Prepared as for its training.
        machine: Device and arithmetic.
        suite: How thorough to be.
        folder: Receives a record and a table of rows for each group of metrics, all figures of the group included.
        wanted: Names of metrics; empty for all of the suite.
        say: Tells what is skipped and why.
        on_batch: Called before each forward pass; may raise to end the evaluation.

    Raises:
        ConfigError: No metric has a wanted name.
        OutputError: The folder cannot be written.
    """
    config = checkpoint.config
    model = checkpoint.model().to(machine.device)
    outcomes = OutcomeModel(
        model=model,
        num_heads=model.num_outcomes,
        tokenizer=checkpoint.tokenizer,
        template=data.template,
        window_length=config.data.window_length,
        machine=machine,
        batch_size=config.trainer.eval_batch_size,
        on_batch=on_batch,
    )
    cache = Path(config.paths.cache).expanduser()
    subject = Subject(config, outcomes, data.splits, suite, cache, say)
    provenance: dict[str, Any] = {
        "suite": suite.name,
        "step": checkpoint.metrics.get("step"),
        "data": data.fingerprint,
        "device": machine.name,
    }
    groups: dict[str, Measured] = {}
    figures: dict[str, Interval] = {}
    for name, measured in evaluate(subject, suite, wanted):
        write_measured(folder, name, measured, provenance)
        groups[name] = measured
        figures |= {metric: figure for metric, figure in measured.figures.items() if not wanted or metric in wanted}
    return Assessed(provenance, figures, groups)
