"""``nano-llm demo``: the three architectures side by side on the structural corpus, in minutes."""

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from nano_llm.config.compose import compose_config

MODELS = ("vanilla", "interblock", "tarnet")


def main(arguments: Sequence[str]) -> int:
    """Train the three models and print one table."""
    parser = argparse.ArgumentParser(
        prog="nano-llm demo",
        description="Train vanilla, inter-block and TARNet with experiment=demo and compare them.",
        epilog="example: nano-llm demo trainer.max_steps=400",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="Hydra overrides for all three")
    overrides = parser.parse_args(arguments).overrides
    chosen = [["experiment=demo", f"model={model}", *overrides] for model in MODELS]
    configs = [compose_config(row) for row in chosen]

    from nano_llm.session import run_session

    console = Console()
    table = Table(title="Structural reviews: bits a byte, lower is better")
    for column in ("model", "parameters", "val_bpb", "test_bpb", "tokens/s", "seconds"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for model, config, row in zip(MODELS, configs, chosen, strict=True):
        summary = run_session(config, row, console)
        if summary is None:
            return 0
        metrics = summary["metrics"]
        table.add_row(
            model,
            f"{summary['parameters']:,}",
            f"{metrics['val_bpb']:.4f}",
            f"{metrics['test_bpb']:.4f}",
            f"{summary['tokens_per_second']:,.0f}",
            f"{summary['training_seconds']:.0f}",
        )
    console.print(table)
    console.print("Next: python -m nano_llm.run model=tarnet data=scm trainer.max_minutes=5", highlight=False)
    return 0
