"""A checkpoint through the evaluation suite, and the records it leaves."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nano_llm.checkpoint import Checkpoint
from nano_llm.config.schema import Suite
from nano_llm.data.prepare import PreparedData
from nano_llm.evaluation.bootstrap import Interval
from nano_llm.evaluation.divergence import divergence_profile
from nano_llm.evaluation.outcome_model import OutcomeModel
from nano_llm.evaluation.records import write_measured
from nano_llm.evaluation.suite import SIZES, Subject, evaluate
from nano_llm.files import explained_writes, write_json
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
) -> dict[str, Interval]:
    """Evaluate a checkpoint on the corpus that it was trained for.

    Args:
        checkpoint: Holds the weights.
        data: Prepared as for its training.
        machine: Device and arithmetic.
        suite: How thorough to be.
        folder: Receives a record and a table of rows for each group of metrics, and a profile of where two outcomes
            diverge.
        wanted: Names of metrics; empty for all of the suite.
        say: Tells what is skipped and why.
        on_batch: Called before each forward pass; may raise to end the evaluation.

    Returns:
        The figures by name.

    Raises:
        ConfigError: No metric has a wanted name.
        DataError: A corpus is damaged.
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
    if model.num_outcomes == 2 and not wanted:
        # Windows of the judged split; under the reference protocol only the test is covered byte by byte.
        windows = data.windows["test" if "test" in data.windows else "validation"]
        size = config.trainer.eval_batch_size
        profile = divergence_profile(
            model, windows, machine, batch_size=size, num_reviews=SIZES[suite].reviews, on_batch=on_batch
        )
        with explained_writes(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "divergence.json", {**provenance, **profile})
    figures: dict[str, Interval] = {}
    for name, measured in evaluate(subject, suite, wanted):
        write_measured(folder, name, measured, provenance)
        figures |= measured.figures
    return figures
