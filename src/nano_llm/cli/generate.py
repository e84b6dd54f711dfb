"""``nano-llm generate``: reviews written by a trained model."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nano_llm.cli.asking import NUM_ROWS, add_law, add_model, author_of, find_checkpoint, given_fields, open_author
from nano_llm.config.schema import Device
from nano_llm.errors import OutputError, RequestError
from nano_llm.generation.request import REQUEST_FIELDS, read_request


def main(arguments: Sequence[str]) -> int:
    """Write reviews, as text while they come, as JSON, as a page, or for a file of requests."""
    parser = _parser()
    given = parser.parse_args(arguments)
    fields = given_fields(given, REQUEST_FIELDS)
    if given.requests is not None:
        return _write_batch(given, fields)
    if given.out is not None:
        raise RequestError("--out is where the answers to --requests go; give both, or redirect the output.")

    if given.top is not None and not (given.json or given.html):
        raise RequestError("--top is told beside each token of --json and --html; give one of them, or leave it out.")
    request = read_request(fields)
    if given.html is not None and (given.html.is_dir() or not given.html.absolute().parent.is_dir()):
        raise OutputError(f"--html: cannot write a page to {given.html}. Name a file, in a folder that is there.")
    author = open_author(given)
    commissions = author.commissions(request)
    if not (given.json or given.html):
        from nano_llm.cli.live import write_live

        write_live(author, commissions, sys.stdout, censored=not given.no_censor)
        return 0

    from nano_llm.generation.account import account

    drafts = author.write(commissions)
    accounts = [
        account(commission, draft, author.tokenizer, censored=not given.no_censor)
        for commission, draft in zip(commissions, drafts, strict=True)
    ]
    if given.json:
        for told in accounts:
            print(json.dumps(told, ensure_ascii=False))
    if given.html:
        from nano_llm.files import write_text
        from nano_llm.generation.redaction import redact
        from nano_llm.report.text_page import render_texts

        facts = {"model": given.run} | {name.replace("_", " "): str(value) for name, value in fields.items()}
        if not given.no_censor:
            facts = {name: redact(value).text for name, value in facts.items()}
        write_text(given.html, render_texts("Two outcomes, token by token", facts, accounts))
        print(f"Wrote {given.html}", file=sys.stderr)
    return 0


def _write_batch(given: argparse.Namespace, fields: dict[str, Any]) -> int:
    """Answer a file of requests; what the options say holds for every line that does not say otherwise."""
    from nano_llm import checkpoint
    from nano_llm.cli.batch import answer_requests

    if given.out is None:
        raise RequestError("--requests needs --out, the file that the answers go to.")
    if given.json or given.html:
        raise RequestError("--requests writes JSON lines to --out; leave out --json and --html.")
    loaded = checkpoint.load(find_checkpoint(given))
    num_failed = answer_requests(
        author_of(loaded, Device[given.device], NUM_ROWS),
        given.requests,
        given.out,
        fields,
        fingerprint=loaded.fingerprint,
        censored=not given.no_censor,
    )
    return 1 if num_failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nano-llm generate",
        description="Write reviews with a trained model: under either outcome, both as a pair, or their mixture.",
        epilog="example: nano-llm generate latest --outcome both --num 2 --steer posterior",
    )
    add_model(parser)
    parser.add_argument(
        "--outcome",
        choices=["y0", "y1", "both", "mixture", "prompt"],
        help="y0 negative, y1 positive; `prompt`: what the prompt asks for. Default: both, where the model has them",
    )
    parser.add_argument(
        "--pair",
        choices=["coupled", "independent"],
        help="whether Y0 and Y1 share their noise, so that they differ only where the heads do; default: coupled",
    )
    parser.add_argument("--num", type=int, help="texts of each outcome; default: 1")
    parser.add_argument("--tokens", type=int, help="most tokens of a text; default: 200")
    parser.add_argument("--topic", help="what the prompt names, for corpora with topics; default: one after the other")
    parser.add_argument("--prompt", help="in the place of the prompt that the model was trained with")
    parser.add_argument("--begin", help="what every text begins with")
    parser.add_argument("--stop", action="append", metavar="TEXT", help="ends a text; may be given several times")
    parser.add_argument("--stop-newline", action="store_true", default=None, help="end a text at a line feed")
    add_law(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="a JSON object a text, with tokens and what the heads said")
    output.add_argument("--top", type=int, help="likeliest tokens of each head told beside each token; default: 0")
    output.add_argument("--html", type=Path, metavar="PAGE", help="a page whose tokens show where the heads diverge")
    output.add_argument("--requests", type=Path, metavar="JSONL", help="a request a line, with the options as fields")
    output.add_argument("--out", type=Path, metavar="JSONL", help="the answers to --requests; resumes if it is there")
    return parser
