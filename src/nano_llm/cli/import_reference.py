"""``nano-llm import``: turn a checkpoint of the reference system into one of ours."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from nano_llm.config.schema import Config


def main(arguments: Sequence[str]) -> int:
    """Import a checkpoint and say what it is and where it lies."""
    parser = argparse.ArgumentParser(
        prog="nano-llm import",
        description="Turn a best.pt of the reference system (dyh1265/Transformers) into a checkpoint folder.",
        epilog="example: nano-llm import best.pt --to checkpoints/imported; "
        "the file is read with weights_only=True, so that no code in it is run",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="checkpoint that the reference wrote")
    parser.add_argument("--to", type=Path, metavar="FOLDER", required=True, help="new folder for our checkpoint")
    given = parser.parse_args(arguments)

    from nano_llm.reference_import import import_reference

    imported = import_reference(given.file, given.to)
    num_parameters = sum(tensor.numel() for tensor in imported.weights.values())
    print(f"Imported {given.file}: {_architecture(imported.config)}")
    print(
        f"{num_parameters:,} parameters, vocabulary of {imported.tokenizer.vocab_size:,} tokens, "
        f"windows of {imported.config.data.window_length:,} tokens"
    )
    print(f"Checkpoint lies in {given.to}")
    return 0


def _architecture(config: Config) -> str:
    model, scale = config.model, config.scale
    return (
        f"{model.trunk.name} trunk, {model.readout.name} readout, {model.position.name} positions; "
        f"{scale.num_layers} layers of width {scale.d_model}, {scale.num_heads} heads"
    )
