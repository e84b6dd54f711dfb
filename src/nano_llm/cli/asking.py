"""What the commands that let a model write have in common: options, and the model itself."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nano_llm.config.schema import Device

if TYPE_CHECKING:  # torch takes a second to import, which `--help` need not wait for
    from nano_llm.checkpoint import Checkpoint
    from nano_llm.generation.author import Author
    from nano_llm.tracking.locate import Place

NUM_ROWS = 32
"""Texts that are written at once, unless a command says otherwise."""
HEADINGS = {0: "Y0 (negative)", 1: "Y1 (positive)", None: "review"}
"""How texts of each outcome are announced."""


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add what finds a model that is to write, and whether its words are redacted."""
    add_run(parser)
    add_place(parser)
    parser.add_argument("--no-censor", action="store_true", help="leave explicit words as they are")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the name of a trained model."""
    parser.add_argument(
        "run", metavar="RUN", help="folder of a run or of a checkpoint, a shipped model such as imdb-mini, or `latest`"
    )


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the options that tell where a model runs, and where the latest one lies."""
    parser.add_argument("--device", choices=[device.name for device in Device], default="auto")
    parser.add_argument(
        "--outputs",
        type=Path,
        default=Path(os.environ.get("NANO_LLM_OUTPUTS") or "outputs"),
        help="where `latest` looks; default: NANO_LLM_OUTPUTS, else outputs",
    )


def add_law(parser: argparse.ArgumentParser) -> None:
    """Add the options that change the law of the next token, in the order in which they are applied."""
    steering = parser.add_argument_group("steering", "rules over the two heads of a model")
    steering.add_argument("--steer", choices=["plain", "contrast", "cfg", "posterior"], help="default: plain")
    steering.add_argument("--strength", type=float, help="default: contrast 0.5, cfg 1.5, posterior 4")
    steering.add_argument("--base", choices=["head", "mixture"], help="what a contrast starts from; default: head")
    steering.add_argument("--plausibility", type=float, help="least share of the head's likeliest token; 0 is off")
    steering.add_argument("--posterior-scale", type=float, help="c in sigmoid(c * evidence); default: 1")
    knobs = parser.add_argument_group("sampling", "applied in this order, after steering")
    knobs.add_argument("--repetition-penalty", type=float, help="exponent of tokens already in the text; 1 is off")
    knobs.add_argument("--temperature", type=float, help="0 takes the likeliest token; default: 1")
    knobs.add_argument("--top-k", type=int, help="0 is off")
    knobs.add_argument("--top-p", type=float, help="1 cuts nothing")
    knobs.add_argument("--min-p", type=float, help="least share of the likeliest token; 0 is off")
    parser.add_argument("--seed", type=int, help="the same seed gives the same text; default: 0")
    parser.add_argument(
        "--events",
        choices=["event", "position"],
        help="what noise is keyed by: sentence and place in it, or place in the text; default: event",
    )


def given_fields(given: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Return the options that were given and are fields of a request."""
    return {name: value for name, value in vars(given).items() if name in names and value is not None}


def find_place(given: argparse.Namespace) -> "Place":
    """Return where the model lies that the options name, and tell which one is the latest.

    Raises:
        RequestError: There is no trained model of that name.
    """
    from nano_llm import checkpoint
    from nano_llm.tracking.locate import LATEST, locate

    place = locate(given.run, given.outputs)
    if given.run == LATEST:
        print(f"{LATEST}: {checkpoint.present(place.checkpoint)}", file=sys.stderr)
    return place


def find_checkpoint(given: argparse.Namespace) -> Path:
    """Return the folder of the checkpoint that the options name.

    Raises:
        RequestError: There is no trained model of that name.
    """
    from nano_llm import checkpoint

    return checkpoint.present(find_place(given).checkpoint)


def open_author(given: argparse.Namespace) -> "Author":
    """Load the model that the options name.

    Raises:
        RequestError: There is no trained model of that name.
        CheckpointError: It is damaged.
        ConfigError: The device does not exist here.
    """
    from nano_llm import checkpoint

    return author_of(checkpoint.load(find_checkpoint(given)), Device[given.device], NUM_ROWS)


def author_of(loaded: "Checkpoint", device: Device, num_rows: int) -> "Author":
    """Return who writes with a model on a device, so many texts at once.

    Raises:
        ConfigError: The device does not exist here.
    """
    from nano_llm.generation.author import Author
    from nano_llm.training.machine import find_machine

    # What is written is drawn anew from its own seed: how the model was trained need not slow it.
    machine = find_machine(replace(loaded.config.trainer, device=device, deterministic=False))
    return Author(loaded, machine.device, num_rows)
