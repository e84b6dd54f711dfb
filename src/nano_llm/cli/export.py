"""``nano-llm export``: a trained model as a folder that `transformers` loads, and on the Hugging Face Hub."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nano_llm.cli.asking import NUM_ROWS, add_place, add_run, author_of, find_place
from nano_llm.cli.extras import require
from nano_llm.config.schema import Device, Suite
from nano_llm.errors import RequestError

if TYPE_CHECKING:
    from nano_llm.export.card import Background
    from nano_llm.tracking.locate import Place

OUTCOMES = {"y0": 0, "y1": 1}


def main(arguments: Sequence[str]) -> int:
    """Export a model, and upload it if that is asked for."""
    given = _parser().parse_args(arguments)
    _demand_folder(given.to)
    if given.push is not None:
        require(["huggingface_hub"], extra="hf", purpose="--push")

    from nano_llm import checkpoint
    from nano_llm.export.folder import check_target, write_export
    from nano_llm.export.hub import check_login, push

    place = find_place(given)
    check_target(given.to)
    if given.push is not None:
        check_login(given.push)
    loaded = checkpoint.load(place.checkpoint)
    write_export(
        given.to,
        loaded,
        author_of(loaded, Device[given.device], NUM_ROWS),
        _background(place, loaded.metrics.get("step")),
        dtype=given.dtype,
        outcome=OUTCOMES.get(given.outcome),
        repository=given.push,
    )
    print(f"Exported {place.checkpoint} to {given.to}")
    if given.push is not None:
        print(f"Uploaded it to {push(given.to, given.push)}")
    return 0


def _demand_folder(target: Path) -> None:
    if f".{target.name}".lower().endswith(".gguf"):
        raise RequestError(
            f"--to {target}: there is no GGUF of these models, for no architecture of llama.cpp computes them "
            "(docs/export.md tells why); name a folder, for transformers to load."
        )


def _background(place: "Place", step: int | None) -> "Background":
    """Return what the files of a run tell of its model."""
    from nano_llm.evaluation.records import records_folder
    from nano_llm.export.card import Background
    from nano_llm.export.figures import read_figures
    from nano_llm.tracking.status import read_object

    records = [records_folder(place.folder, place.checkpoint_name, suite) for suite in (Suite.quick, Suite.full)]
    git = (read_object(place.folder / "environment.json") or {}).get("git")
    folder = place.folder.resolve()
    in_run = place.checkpoint != place.folder and not place.is_shipped
    return Background(
        run=f"{folder.parent.name}/{folder.name}" if in_run else None,
        commit=git.get("commit") if isinstance(git, dict) else None,
        data=read_object(place.folder / "data.json") or {},
        figures=read_figures(records, step),
        is_shipped=place.is_shipped,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nano-llm export",
        description="Write a trained model as a folder that transformers loads: weights, settings, tokenizer, the code "
        "of the model, and a card with its data, figures, samples and limits.",
        epilog="example: nano-llm export latest --to exported/tarnet",
    )
    add_run(parser)
    parser.add_argument(
        "--to", type=Path, metavar="FOLDER", required=True, help="new or empty folder, or one of an earlier export"
    )
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32", help="of the weights; default: fp32")
    parser.add_argument(
        "--outcome",
        choices=[*OUTCOMES],
        help="of a model with two: what it writes where nothing else is asked for; default: y1",
    )
    parser.add_argument(
        "--push",
        metavar="REPOSITORY",
        help="upload it to the Hugging Face Hub too, as owner/name; needs `hf auth login`. A repository that is not "
        "there yet is made, a private one",
    )
    add_place(parser)
    return parser
