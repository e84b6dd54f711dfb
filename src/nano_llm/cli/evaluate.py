"""``nano-llm evaluate``: a trained model through the evaluation suite."""

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console, JustifyMethod
from rich.table import Table

from nano_llm.cli.asking import add_place
from nano_llm.config.places import with_places
from nano_llm.config.schema import Config, DataConfig, Device, ImdbConfig, Suite
from nano_llm.errors import ConfigError
from nano_llm.evaluation.bootstrap import Interval
from nano_llm.evaluation.comparison import Arm, Compared, compare, left_out
from nano_llm.evaluation.measured import Assessed
from nano_llm.evaluation.records import records_folder, write_comparison
from nano_llm.metrics import METRICS
from nano_llm.tracking.locate import Place, locate
from nano_llm.tracking.status import read_object

WIDTH = 132
"""Columns that the tables need. A narrower terminal breaks their lines; a narrower table would leave figures out."""


def main(arguments: Sequence[str]) -> int:
    """Evaluate a run and print its figures with their intervals, or its differences from another run."""
    parser = _parser()
    given = parser.parse_args(arguments)

    from nano_llm.evaluation.suite import chosen_groups

    console = Console(width=max(Console().width, WIDTH))
    if given.list:
        console.print(_list(), highlight=False, markup=False)
        return 0
    if given.run is None:
        parser.error("name a run, a checkpoint or `latest`")
    chosen_groups(Suite[given.suite], _wanted(given))
    place = locate(given.run, given.outputs)
    against = None if given.against is None else locate(given.against, given.outputs)
    folder = given.to or _records_folder(place, given)
    found = _assess(place, folder, given)
    if against is None:
        table = _table(found.figures)
    else:
        other_folder = given.to / _name(against) if given.to else _records_folder(against, given)
        other = _assess(against, other_folder, given)
        table = _compare(place, found, against, other, folder)
    console.print(table, highlight=False, markup=False)
    console.print(f"Records and a row a review are in {folder}", highlight=False, markup=False, soft_wrap=True)
    return 0


def _assess(place: Place, folder: Path, given: argparse.Namespace) -> Assessed:
    """Put a model through the suite."""
    from nano_llm import checkpoint
    from nano_llm.assessment import assess
    from nano_llm.data.prepare import prepare
    from nano_llm.training.machine import explained_refusals, find_machine

    loaded = checkpoint.load(place.checkpoint)
    config = _with_places(loaded.config, place, given.cad) if place.is_shipped else loaded.config
    data_config = config.data if given.data is None else replace(config.data, prepared=given.data)
    loaded = replace(loaded, config=replace(config, data=_with_optional_corpora(config.data, given.cad)))
    cache = Path(config.paths.cache).expanduser()
    data = prepare(data_config, config.protocol, config.model.num_outcomes, cache, print)
    if place.is_shipped:
        _tell_other_data(place, data.fingerprint)
    machine = find_machine(replace(config.trainer, device=Device[given.device]))
    with explained_refusals():
        return assess(loaded, data, machine, Suite[given.suite], folder, wanted=_wanted(given), say=print)


def _compare(place: Place, found: Assessed, against: Place, other: Assessed, folder: Path) -> Table:
    """Compare two models, write the record and return the table of the wanted figures."""
    a, b = (
        Arm(_shown(at), f"data {each.provenance['data']}", each.groups)
        for at, each in ((place, found), (against, other))
    )
    compared = compare(a, b)
    unpaired = left_out(a, b, compared)
    told = {
        "a": {"model": a.name, **found.provenance},
        "b": {"model": b.name, **other.provenance},
        "left_out": unpaired,
    }
    write_comparison(folder / f"against-{_name(against)}.json", compared, told)
    wanted = {**found.figures, **other.figures}
    if hidden := [name for name in unpaired if name in wanted]:
        print(f"left out, as only one has it or it follows from no reviews of both: {', '.join(hidden)}")
    print(f"A is {a.name}\nB is {b.name}")
    return _comparison_table({name: each for name, each in compared.items() if name in wanted})


def _wanted(given: argparse.Namespace) -> list[str]:
    return given.metrics.split(",") if given.metrics else []


def _records_folder(place: Place, given: argparse.Namespace) -> Path:
    # What came with nano_llm stays as it came.
    folder = given.outputs / "models" / place.folder.name if place.is_shipped else place.folder
    return records_folder(folder, place.checkpoint_name, Suite[given.suite])


def _shown(place: Place) -> str:
    """Return the folder that a model is known by."""
    return str(place.folder if place.checkpoint_name == "best" else place.checkpoint)


def _name(place: Place) -> str:
    """Return what a model is called in the name of a file: ``tarnet-0123456789ab-seed-0``, or with its checkpoint."""
    folder, checkpoint = place.folder.resolve(), place.checkpoint_name
    parts = [folder.name] if place.checkpoint == place.folder else [folder.parent.name, folder.name]
    return "-".join([*parts, *([] if checkpoint == "best" else [checkpoint])])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nano-llm evaluate",
        description="Evaluate a trained model: bits a byte by head, Bayes' rule over the heads, the truth where it is "
        "known, minimal pairs and, in the full suite, reviews that it writes. The same checkpoint gives the same "
        "figures again.",
        epilog="examples: nano-llm evaluate outputs/demo/tarnet-0123456789ab/seed-0 --suite full; "
        "nano-llm evaluate outputs/demo/tarnet-0123456789ab/seed-0 --against outputs/demo/vanilla-0123456789ab/seed-0",
    )
    parser.add_argument("run", nargs="?", help="folder of a run or of a checkpoint, a shipped model, or `latest`")
    parser.add_argument(
        "--against",
        metavar="RUN",
        help="another one: evaluate both, and show each figure of both and the difference with an interval by the "
        "paired bootstrap over the reviews that both were judged on, or over their movies",
    )
    parser.add_argument("--list", action="store_true", help="show every metric: what it needs, and what it means")
    parser.add_argument("--suite", choices=[suite.name for suite in Suite if suite is not Suite.none], default="quick")
    parser.add_argument("--metrics", help="only these, separated by commas, such as cf_kl,pair_order")
    parser.add_argument(
        "--to",
        type=Path,
        help="folder of the records; default: RUN/evaluation for the quick suite on the "
        "best checkpoint, RUN/evaluation-full for the full one, RUN/evaluation-last for the checkpoint `last`; of a "
        "shipped model, OUTPUTS/models/NAME/evaluation. A comparison is against-<name>.json in it; with --to, the "
        "other's records are in a folder of its name below",
    )
    parser.add_argument("--data", metavar="FOLDER", help="prepared data, where the corpus of the run has moved")
    parser.add_argument(
        "--cad",
        metavar="FOLDER",
        help="counterfactually augmented reviews, for data=imdb; default: NANO_LLM_CAD, else where they were for the "
        "training. NANO_LLM_IMDB names IMDB likewise, for the judges",
    )
    add_place(parser)
    return parser


def _table(figures: dict[str, Interval]) -> Table:
    """Return the figures, a row each; one without an interval has a dash."""
    table = Table(box=None)
    for column in ("metric", "value", "95 % interval", "n", "unit"):
        table.add_column(column, justify="right" if column in ("value", "n") else "left", no_wrap=True)
    for name, figure in figures.items():
        metric = METRICS[name]
        table.add_row(metric.title(name), f"{figure.value:.4f}", _interval(figure), f"{figure.n:,}", metric.unit)
    return table


def _comparison_table(compared: Mapping[str, Compared]) -> Table:
    """Return figures of two models, a row each."""
    table = Table(box=None)
    for column in ("metric", "A", "B", "A - B", "95 % interval", "n", "unit"):
        justify: JustifyMethod = "left" if column in ("metric", "95 % interval", "unit") else "right"
        table.add_column(column, justify=justify, no_wrap=True)
    for name, found in compared.items():
        metric, difference = METRICS[name], found.difference
        numbers = [f"{found.a:.4f}", f"{found.b:.4f}", f"{difference.value:+.4f}", _interval(difference)]
        table.add_row(metric.title(name), *numbers, f"{difference.n:,}", metric.unit)
    return table


def _list() -> Table:
    """Return all metrics of the suites, a row each."""
    from nano_llm.evaluation.suite import GROUPS

    table = Table(box=None)
    for column in ("metric", "corpora", "suites", "unit", "meaning"):
        table.add_column(column, no_wrap=column != "meaning")
    for group in GROUPS:
        suites = ", ".join(suite.name for suite in group.suites)
        for name in group.metrics:
            metric = METRICS[name]
            table.add_row(metric.title(name), group.need.corpora, suites, metric.unit, metric.meaning)
    return table


def _interval(figure: Interval) -> str:
    return "-" if math.isnan(figure.low) else f"[{figure.low:.4f}, {figure.high:.4f}]"


def _with_places(config: Config, place: Place, cad: str | None) -> Config:
    """Say where the corpora of a shipped model lie, whose configuration does not tell."""
    return with_places(config, has_movies="movies" in _trained_on(place).get("source", {}), cad=cad)


def _tell_other_data(place: Place, fingerprint: str) -> None:
    """Say so if a shipped model is judged on other data than its card tells of."""
    trained = _trained_on(place).get("fingerprint")
    if trained != fingerprint:
        print(
            f"{place.folder.name} was trained on data {trained}, and this is {fingerprint}: of another source, or "
            "without its movies or counterfactual reviews (NANO_LLM_IMDB, NANO_LLM_IMDB_MOVIES, NANO_LLM_CAD). Figures "
            "may differ from those of its card."
        )


def _trained_on(place: Place) -> dict[str, Any]:
    return read_object(place.folder / "data.json") or {}


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
