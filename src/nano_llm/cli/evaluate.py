"""``nano-llm evaluate``: a trained model through the evaluation suite."""

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nano_llm.config.schema import DataConfig, Device, ImdbConfig, Suite
from nano_llm.errors import ConfigError
from nano_llm.evaluation.bootstrap import Interval
from nano_llm.metrics import METRICS


def main(arguments: Sequence[str]) -> int:
    """Evaluate a run and print its figures with their intervals."""
    given = _parser().parse_args(arguments)

    from nano_llm import checkpoint
    from nano_llm.assessment import assess
    from nano_llm.data.prepare import prepare
    from nano_llm.evaluation.records import records_folder
    from nano_llm.evaluation.suite import chosen_groups
    from nano_llm.session import num_outcomes
    from nano_llm.tracking.locate import locate
    from nano_llm.training.machine import find_machine

    suite = Suite[given.suite]
    wanted = given.metrics.split(",") if given.metrics else []
    chosen_groups(suite, wanted)
    place = locate(given.run, given.outputs)
    loaded = checkpoint.load(place.checkpoint)
    config = loaded.config
    data_config = config.data if given.data is None else replace(config.data, prepared=given.data)
    loaded = replace(loaded, config=replace(config, data=_with_optional_corpora(config.data, given.cad)))
    cache = Path(config.paths.cache).expanduser()
    data = prepare(data_config, config.protocol, num_outcomes(config), cache, print)
    machine = find_machine(replace(config.trainer, device=Device[given.device]))
    # A checkpoint that lies in no run is its own folder.
    name = "best" if place.checkpoint == place.folder else place.checkpoint.name
    folder = given.to or records_folder(place.folder, name, suite)
    figures = assess(loaded, data, machine, suite, folder, wanted=wanted, say=print)
    console = Console()
    console.print(_table(figures), highlight=False, markup=False)
    console.print(f"Records and a row a review are in {folder}", highlight=False, markup=False, soft_wrap=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nano-llm evaluate",
        description="Evaluate a trained model: bits a byte by head, Bayes' rule over the heads, the truth where it is "
        "known, minimal pairs and, in the full suite, reviews that it writes. The same checkpoint gives the same "
        "figures again.",
        epilog="example: nano-llm evaluate outputs/demo/tarnet-0123456789ab/seed-0 --suite full",
    )
    parser.add_argument("run", help="folder of a run or of a checkpoint, or `latest`")
    parser.add_argument("--suite", choices=[suite.name for suite in Suite if suite is not Suite.none], default="quick")
    parser.add_argument("--metrics", help="only these, separated by commas, such as cf_kl,pair_order")
    parser.add_argument(
        "--to",
        type=Path,
        help="folder of the records; default: RUN/evaluation for the quick suite on the "
        "best checkpoint, RUN/evaluation-full for the full one, RUN/evaluation-last for the checkpoint `last`",
    )
    parser.add_argument("--data", metavar="FOLDER", help="prepared data, where the corpus of the run has moved")
    parser.add_argument(
        "--cad",
        metavar="FOLDER",
        help="counterfactually augmented reviews, for data=imdb; default: NANO_LLM_CAD, else where they were for the "
        "training. NANO_LLM_IMDB names IMDB likewise, for the judges",
    )
    parser.add_argument("--device", choices=[device.name for device in Device], default="auto")
    parser.add_argument(
        "--outputs",
        type=Path,
        default=Path(os.environ.get("NANO_LLM_OUTPUTS") or "outputs"),
        help="where `latest` looks; default: NANO_LLM_OUTPUTS, else outputs",
    )
    return parser


def _table(figures: dict[str, Interval]) -> Table:
    """Return the figures, a row each; one without an interval has a dash."""
    table = Table(box=None)
    for column in ("metric", "value", "95 % interval", "n", "unit"):
        table.add_column(column, justify="right" if column in ("value", "n") else "left", no_wrap=True)
    for name, figure in figures.items():
        metric = METRICS[name]
        interval = "-" if math.isnan(figure.low) else f"[{figure.low:.4f}, {figure.high:.4f}]"
        table.add_row(metric.title(name), f"{figure.value:.4f}", interval, f"{figure.n:,}", metric.unit)
    return table


def _with_optional_corpora(data: DataConfig, cad: str | None) -> DataConfig:
    """Say where corpora lie now; those of the training may have been elsewhere, or not yet there.

    Raises:
        ConfigError: Counterfactual reviews are given for another corpus.
    """
    if isinstance(data, ImdbConfig):
        cad = cad or os.environ.get("NANO_LLM_CAD") or data.cad
        return replace(data, cad=cad, path=os.environ.get("NANO_LLM_IMDB") or data.path)
    if cad is not None:
        raise ConfigError(f"--cad={cad} goes with data=imdb, but the model was trained with data={data.name}.")
    return data
