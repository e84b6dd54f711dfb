"""``nano-llm counterfactual``: what a review would have said under the other sentiment."""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from nano_llm.cli.asking import HEADINGS, add_law, add_model, given_fields, open_author
from nano_llm.errors import RequestError
from nano_llm.generation.request import COUNTERFACTUAL_FIELDS, read_counterfactual_request

CAVEAT = (
    "Counterfactual texts assume the Gumbel-max noise model. Data cannot identify it; other models with the same heads "
    "give other counterfactuals (arXiv 2111.06888, 2509.22297)."
)


def main(arguments: Sequence[str]) -> int:
    """Show a review beside its counterfactual, and how far counterfactuals differ from it and from each other."""
    given = _parser().parse_args(arguments)
    fields = given_fields(given, COUNTERFACTUAL_FIELDS)
    request = read_counterfactual_request(fields | {"text": _read(given.text)})
    author = open_author(given)

    from nano_llm.data.clean import clean
    from nano_llm.generation.account import account
    from nano_llm.generation.redaction import redact
    from nano_llm.report.text_diff import edit_share, side_by_side

    commissions = author.counterfactuals(request)
    drafts = author.write(commissions)
    accounts = [
        account(commission, draft, author.tokenizer, censored=not given.no_censor)
        for commission, draft in zip(commissions, drafts, strict=True)
    ]
    original = clean(request.text)
    # Of the texts as they were written: what is redacted in one alone would count as changed.
    shares = [edit_share(original, draft.text) for draft in drafts]
    if given.json:
        for told, share in zip(accounts, shares, strict=True):
            print(json.dumps(told | {"edit_share": share}, ensure_ascii=False))
        return 0
    console = Console()
    titles = (f"{HEADINGS[request.label]}, as given", f"{HEADINGS[1 - request.label]}, as it would have been")
    shown = original if given.no_censor else redact(original).text
    console.print(side_by_side(shown, accounts[0]["text"], console, titles))
    spread = f", standard deviation {statistics.stdev(shares):.3f}" if len(shares) > 1 else ""
    print(f"\nWords changed, over {len(shares)} draws of noise: mean {statistics.fmean(shares):.3f}{spread}")
    cut = sum(told["finish"] == "length" for told in accounts)
    if cut:
        print(f"{cut} of {len(accounts)} counterfactuals were cut short; give more --tokens.")
    print(CAVEAT)
    return 0


def _read(name: str) -> str:
    """Return the review in a file, or on the standard input."""
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            f"--text: cannot read {name}: {error}. Name a text file, or - for standard input."
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nano-llm counterfactual",
        description="Infer the noise with which the head of its sentiment would have written a review, and let the "
        "other head write with it.",
        epilog="example: nano-llm counterfactual latest --text review.txt --label neg",
    )
    add_model(parser)
    parser.add_argument(
        "--text", required=True, metavar="FILE", help="the review: a text file, or - for standard input"
    )
    parser.add_argument("--label", required=True, choices=["neg", "pos"], help="the sentiment of the review")
    parser.add_argument("--topic", help="of the review; needed where prompts name one")
    parser.add_argument("--draws", type=int, help="noises that could have written the review; default: 8")
    parser.add_argument("--keep-prefix", type=int, metavar="TOKENS", help="tokens of the review that stay; default: 0")
    parser.add_argument(
        "--similarity",
        type=float,
        help="share of events that keep the review's noise: 1 hindsight, 0 a plain intervention; default: 1",
    )
    parser.add_argument("--tokens", type=int, help="most tokens; default: twice those of the review and 32 more")
    add_law(parser)
    parser.add_argument("--json", action="store_true", help="a JSON object a counterfactual, with tokens")
    return parser
