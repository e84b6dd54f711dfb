"""``nano-llm chat``: reviews one after the other, with outcome and steering changed on the way."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from nano_llm.cli.asking import add_law, add_model, given_fields, open_author
from nano_llm.errors import RequestError
from nano_llm.generation.request import KNOBS, REQUEST_FIELDS, RULES, read_request

OUTCOMES = {"+": "y1", "-": "y0", "b": "both", "m": "mixture"}
RULE_SETTINGS = ("strength", "base", "posterior_scale")
"""What means something else, or nothing, once another rule steers."""
SETTINGS = (*RULES, *KNOBS, "tokens", "seed", "pair", "topic", "events")
HELP = f"""\
+  a positive review        -  a negative one
b  both                     m  the mixture of both heads
t TEXT    let reviews begin with TEXT; t alone: with nothing
NAME VALUE  set one of {", ".join(SETTINGS[:7])},
          {", ".join(SETTINGS[7:])}; NAME alone: its default;
          steer takes strength, base and posterior_scale back to theirs
s  show the settings        h  show the reviews so far
?  this help                q  quit, as Ctrl-D does; Ctrl-C ends a review"""


def main(arguments: Sequence[str]) -> int:
    """Read commands and answer them until the input ends."""
    given = _parser().parse_args(arguments)
    fields = given_fields(given, REQUEST_FIELDS)
    read_request(fields)
    author = open_author(given)

    from nano_llm.cli.live import write_live
    from nano_llm.generation.redaction import redact

    if sys.stdin.isatty():
        importlib.import_module("readline")  # arrow keys and a history of lines, for `input`
        print(HELP)
    history: list[str] = []
    while (line := _next_line()) is not None and line != "q":
        try:
            if line in OUTCOMES:
                request = read_request(fields | {"outcome": OUTCOMES[line]})
                commissions = author.commissions(request)
                drafts = write_live(author, commissions, sys.stdout, censored=not given.no_censor)
                told = [draft.text if given.no_censor else redact(draft.text).text for draft in drafts]
                history += [f"{line} seed {request.seed}: {text}" for text in told]
                fields["seed"] = request.seed + 1
            elif line:
                _answer(line, fields, history)
        except RequestError as error:
            print(error)
        except KeyboardInterrupt:
            print(" (ended)")
    return 0


def _next_line() -> str | None:
    """Return the next line of the input, or None at its end."""
    is_terminal = sys.stdin.isatty()
    try:
        return input("> " if is_terminal else "").strip()
    except EOFError:
        print()
        return None
    except KeyboardInterrupt:
        if not is_terminal:
            raise
        print()
        return ""  # meant for the line, or for a review that ended a moment ago
    except UnicodeDecodeError as error:
        raise RequestError(f"The input is not UTF-8: {error}.") from error


def _answer(line: str, fields: dict[str, Any], history: list[str]) -> None:
    """Carry out a command that writes no review."""
    name, _, value = line.partition(" ")
    name = name.replace("-", "_")
    if name in ("?", "help"):
        print(HELP)
    elif name == "h":
        print("\n".join(history) or "no reviews yet")
    elif name == "s":
        print(", ".join(f"{name} {value}" for name, value in fields.items()) or "all as by default")
    elif name == "t":
        _set(fields, "begin", value or None)
    elif name in SETTINGS:
        _set(fields, name, _number(value) if value else None)
    else:
        raise RequestError(f"No command {line!r}. + - b m write a review, ? tells the others.")


def _set(fields: dict[str, Any], name: str, value: object) -> None:
    """Change a setting, unless it could not be used; what belongs to the rule that steered goes with it."""
    if name == "steer" and value != fields.get("steer"):
        kept = {name: value for name, value in fields.items() if name not in RULE_SETTINGS}
    else:
        kept = dict(fields)
    changed = {**kept, name: value}
    read_request(changed)
    fields.clear()
    fields.update({name: value for name, value in changed.items() if value is not None})


def _number(value: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nano-llm chat",
        description="Write reviews on command: + positive, - negative, b both, q quit. Steering and sampling can be "
        "changed on the way.",
        epilog="example: nano-llm chat latest --steer posterior --temperature 0.8",
    )
    add_model(parser)
    parser.add_argument("--tokens", type=int, help="most tokens of a review; default: 200")
    parser.add_argument("--pair", choices=["coupled", "independent"], help="default: coupled")
    parser.add_argument("--topic", help="what the prompt names, for corpora with topics")
    add_law(parser)
    return parser
