"""Ship a trained model: `python tools/ship.py RUN NAME` turns its best checkpoint into experiments/models/NAME.

A shipped model writes and is judged; it holds nothing to train it on with, and tells of no machine:

    experiments/models/imdb-mini/
      checkpoints/best/          weights in bfloat16, settings, tokenizer, manifest with hashes
      evaluation-full/           records of these weights, as rounded
      samples.json               texts by these weights, explicit words redacted
      summary.json  metrics.jsonl  data.json  environment.json  overrides.yaml    of the run
      README.md                  the card, which says no more than the files above

It needs what the run was trained on, where its config.yaml says that it lies.
"""

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from nano_llm import checkpoint
from nano_llm.assessment import assess
from nano_llm.checkpoint import Checkpoint
from nano_llm.cli.asking import HEADINGS
from nano_llm.cli.ending import ended
from nano_llm.config.places import PLACES, without_places
from nano_llm.config.schema import Device, ImdbConfig, Suite
from nano_llm.data.prepare import prepare
from nano_llm.errors import OutputError, RequestError
from nano_llm.evaluation.records import records_folder
from nano_llm.export.card import citations, licence, strict_template
from nano_llm.export.figures import read_figures
from nano_llm.files import replaced_folder, write_json, write_text
from nano_llm.generation.account import OUTCOME_NAMES, account
from nano_llm.generation.author import Author
from nano_llm.generation.request import Request
from nano_llm.generation.sampling import Sampling
from nano_llm.tracking.locate import locate
from nano_llm.training.machine import find_machine

MODELS = Path(__file__).resolve().parents[1] / "experiments/models"
CARD = Path(__file__).with_name("card.md.j2")
MAX_BYTES = 8_000_000
"""Of all files of a shipped model."""
OF_THE_RUN = ("summary.json", "metrics.jsonl", "data.json", "environment.json")
VARIABLES = {"NANO_LLM_CAD": "cad", "NANO_LLM_IMDB_MOVIES": "movies"}
"""What had to name a folder, by what the source of the data then says."""
SAMPLES = Request(num_texts=3, num_tokens=150, seed=0, sampling=Sampling(temperature=0.8))
SAMPLES_COMMAND = "--num 3 --tokens 150 --seed 0 --temperature 0.8"


def main(arguments: Sequence[str]) -> int:
    """Ship the model that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="folder of a finished run, or `latest`")
    parser.add_argument("name", metavar="NAME", help="that it is to have, such as imdb-mini")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="where `latest` looks")
    given = parser.parse_args(arguments)
    folder = ship(locate(given.run, given.outputs).folder, MODELS / given.name, Suite.full)
    print(f"Shipped {folder}: {size_of(folder):,} bytes")
    return 0


def ship(run: Path, target: Path, suite: Suite) -> Path:
    """Turn the best checkpoint of a finished run into a shipped model, whole or not at all, and return its folder.

    Args:
        run: Folder of the run.
        target: Of the shipped model, in a folder that exists; one that lies there is replaced.
        suite: That the rounded weights are put through.

    Raises:
        RequestError: The run is not finished, or its data have changed.
        OutputError: The model would be too large, or cannot be written.
    """
    if missing := [name for name in (*OF_THE_RUN, "overrides.yaml") if not (run / name).is_file()]:
        raise RequestError(f"{run} is no finished run: it has no {', '.join(missing)}. Name the folder of one.")
    trained = checkpoint.load(run / "checkpoints/best")
    with replaced_folder(target) as new:
        rounded = _round(trained, new)
        _demand_small(new, target.name)  # before the minutes that the suite takes
        for name in OF_THE_RUN:
            shutil.copyfile(run / name, new / name)
        write_text(new / "overrides.yaml", yaml.safe_dump(_overrides(run)))
        _assess(rounded, trained, _json(run / "data.json")["fingerprint"], records_folder(new, "best", suite), suite)
        write_json(new / "samples.json", _samples(rounded))
        write_text(new / "README.md", card(new, target.name))
        _demand_small(new, target.name)
    return target


def _demand_small(folder: Path, name: str) -> None:
    if (size := size_of(folder)) > MAX_BYTES:
        raise OutputError(
            f"{name} would take {size:,} bytes, and a shipped model may take {MAX_BYTES:,}. Train a smaller one: "
            "scale, data.tokenizer.vocab_size."
        )


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _round(trained: Checkpoint, folder: Path) -> Checkpoint:
    """Save a model with weights rounded to bfloat16, and return it as others load it."""
    best = folder / "checkpoints/best"
    best.parent.mkdir()
    checkpoint.save(
        best,
        config=without_places(trained.config),
        tokenizer=trained.tokenizer,
        model=trained.model().to(torch.bfloat16),
        metrics=trained.metrics,
    )
    return checkpoint.load(best)


def _overrides(run: Path) -> list[str]:
    words: list[str] = yaml.safe_load((run / "overrides.yaml").read_text(encoding="utf-8"))
    return [word for word in words if not word.startswith(PLACES)]


def _assess(rounded: Checkpoint, trained: Checkpoint, fingerprint: str, folder: Path, suite: Suite) -> None:
    """Judge the rounded weights on the data of their training, and keep the records without their rows."""
    config = trained.config  # tells where the data lie
    cache = Path(config.paths.cache).expanduser()
    data = prepare(config.data, config.protocol, config.model.num_outcomes, cache, print)
    if data.fingerprint != fingerprint:
        raise RequestError(
            f"What the run was trained on has changed since: its data.json says {fingerprint}, and now it is "
            f"{data.fingerprint}. Bring back the data, or train anew."
        )
    machine = find_machine(replace(config.trainer, device=Device.cpu))
    assess(replace(rounded, config=config), data, machine, suite, folder, say=print)
    for rows in folder.glob("*.parquet"):
        rows.unlink()


def _samples(rounded: Checkpoint) -> list[dict[str, Any]]:
    author = Author(rounded, torch.device("cpu"), num_rows=2 * SAMPLES.num_texts)
    commissions = author.commissions(SAMPLES)
    kept = ("index", "outcome", "topic", "text", "finish", "num_redacted")
    return [
        {key: told[key] for key in kept}
        for commission, draft in zip(commissions, author.write(commissions), strict=True)
        for told in [account(commission, draft, author.tokenizer, censored=True)]
    ]


def card(folder: Path, name: str) -> str:
    """Return the card of a shipped model, from the files in its folder."""
    shipped = checkpoint.load(folder / "checkpoints/best")
    figures = read_figures(sorted(folder.glob("evaluation*")), shipped.metrics["step"])
    data = _json(folder / "data.json")
    return strict_template(CARD.read_text(encoding="utf-8")).render(
        name=name,
        config=shipped.config,
        is_imdb=isinstance(shipped.config.data, ImdbConfig),
        num_parameters=sum(tensor.numel() for tensor in shipped.weights.values()),
        vocab_size=shipped.tokenizer.vocab_size,
        num_bytes=(folder / "checkpoints/best/model.safetensors").stat().st_size,
        overrides=yaml.safe_load((folder / "overrides.yaml").read_text(encoding="utf-8")),
        summary=_json(folder / "summary.json"),
        environment=_json(folder / "environment.json"),
        data=data,
        variables=[variable for variable, name in VARIABLES.items() if name in data["source"]],
        suites=sorted({figure.suite for figure in figures}),
        figures=figures,
        licence=licence(shipped.config),
        citations=citations(shipped.config),
        samples_command=SAMPLES_COMMAND,
        samples=[_shown(told) for told in json.loads((folder / "samples.json").read_text(encoding="utf-8"))],
    )


def _shown(told: dict[str, Any]) -> str:
    """Return a text under its heading, indented: whatever it contains is shown as it is."""
    outcome = None if told["outcome"] is None else OUTCOME_NAMES.index(told["outcome"])
    topic = "" if told["topic"] is None else f", {told['topic']}"
    text = told["text"] + (" [...]" if told["finish"] == "length" else "")
    return f"{HEADINGS[outcome]}{topic}:\n\n{textwrap.indent(text.strip(), '    ', lambda _: True)}"


def _json(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


if __name__ == "__main__":
    sys.exit(ended(lambda: main(sys.argv[1:])))
