"""``nano-llm bench``: what this machine gets out of our code, beside its ceilings and beside peers."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nano_llm.cli.extras import require
from nano_llm.cli.serve import NEEDED
from nano_llm.config.compose import compose_config
from nano_llm.errors import OutputError

if TYPE_CHECKING:
    from nano_llm.bench.harness import Measured

UNITS = {"gigaflops": "GFLOP/s", "gigabytes": "GB/s"}
MAX_DECODED, MAX_SERVED = 236, 200
"""Tokens that a window of 256 has room for behind the prompts."""


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table and, where asked for, write the figures as JSON."""
    given = _parser().parse_args(arguments)
    if given.out is not None and not given.out.parent.is_dir():
        raise OutputError(f"--out {given.out}: there is no folder {given.out.parent}; make it first.")
    measured: Measured = given.measure(given)
    rates = {tuple(name.split("_")): rate["median"] for name, rate in measured.ceilings().items()}
    print("ceilings: " + ", ".join(f"{what} {rate:.0f} {UNITS[unit]}" for (what, unit, *_), rate in rates.items()))
    print(f"\n{measured.table()}")
    if given.out is not None:
        _write(given, measured)
        print(f"\nwritten to {given.out}")
    return 0


def _write(given: argparse.Namespace, measured: "Measured") -> None:
    from nano_llm.files import write_json
    from nano_llm.tracking.environment import environment

    result = {
        "bench": given.bench,
        "settings": measured.settings,
        "repeats": given.repeats,
        "ceilings": measured.ceilings(),
        "rows": measured.rows,
        "environment": environment(),
    }
    write_json(given.out, result)


def _train(given: argparse.Namespace) -> "Measured":
    _check_scales(given.scales)
    require(["transformers"], extra="hf", purpose="The peer GPT-2")
    from nano_llm.bench.train import measure

    return measure(given.scales, given.repeats)


def _decode(given: argparse.Namespace) -> "Measured":
    _check_scales(given.scales)
    require(["transformers"], extra="hf", purpose="The peer GPT-2")
    from nano_llm.bench.decode import measure

    return measure(given.scales, given.repeats, given.tokens)


def _data(given: argparse.Namespace) -> "Measured":
    overrides = ["model=tarnet", f"data={'imdb' if given.imdb else 'scm'}", *given.overrides]
    compose_config(overrides)
    from nano_llm.bench.data import measure

    return measure(overrides, given.repeats, given.imdb)


def _serve(given: argparse.Namespace) -> "Measured":
    _check_scales(given.scales)
    require(NEEDED, extra="serve", purpose="Serving")
    from nano_llm.bench.serve import measure

    return measure(given.scales, given.repeats, given.tokens)


def _check_scales(scales: Sequence[str]) -> None:
    """Refuse a name that is no scale before the first is measured."""
    for scale in scales:
        compose_config([f"scale={scale}"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nano-llm bench",
        description="Measure on this machine: ways take turns, figures are medians. Run it alone: another busy "
        "process halves every figure.",
        epilog="example: nano-llm bench train --scales nano --repeats 20 --out train.json",
    )
    benches = parser.add_subparsers(dest="bench", required=True, metavar="{train,decode,data,serve}")
    train = _add(benches, "train", _train, "training steps beside GPT-2 and a plain loop", repeats=12)
    _add_scales(train, ["nano", "w512"])
    decode = _add(benches, "decode", _decode, "tokens written beside GPT-2 and the memory's limit", repeats=5)
    _add_scales(decode, ["nano", "w512"])
    _add_tokens(decode, 200, MAX_DECODED)
    data = _add(benches, "data", _data, "preparing a corpus, cold and warm: time and memory", repeats=3)
    data.add_argument(
        "--imdb",
        type=Path,
        default=Path(found) if (found := os.environ.get("NANO_LLM_IMDB")) else None,
        metavar="FOLDER",
        help="IMDB in the Hub's layout; default: NANO_LLM_IMDB, else the structural corpus is prepared",
    )
    data.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="Hydra overrides, as for `nano-llm prepare`")
    serve = _add(benches, "serve", _serve, "what a server writes for 64 clients, beside one", repeats=5)
    _add_scales(serve, ["w512"])
    _add_tokens(serve, 100, MAX_SERVED)
    return parser


def _add(
    benches: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    measure: Callable[[argparse.Namespace], "Measured"],
    summary: str,
    *,
    repeats: int,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = benches.add_parser(
        name, help=summary, description=summary, epilog=f"example: nano-llm bench {name} --out {name}.json"
    )
    parser.set_defaults(measure=measure)
    parser.add_argument("--repeats", type=_number(1, 1000), default=repeats, help="turns; default: %(default)s")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write all figures there, with the environment, as JSON"
    )
    return parser


def _add_scales(parser: argparse.ArgumentParser, scales: list[str]) -> None:
    parser.add_argument("--scales", nargs="+", default=scales, metavar="SCALE", help=f"default: {' '.join(scales)}")


def _add_tokens(parser: argparse.ArgumentParser, num_tokens: int, most: int) -> None:
    parser.add_argument(
        "--tokens", type=_number(2, most), default=num_tokens, help=f"of a text, at most {most}; default: %(default)s"
    )


def _number(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isdecimal() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from {least} to {most}")
        return int(text)

    return number
