"""Write docs/metrics.md: every figure that a run or an evaluation reports.

python tools/metrics.py
"""

from collections.abc import Iterable
from pathlib import Path

from nano_llm.evaluation.suite import GROUPS
from nano_llm.metrics import METRICS

PAGE = Path(__file__).resolve().parents[1] / "docs/metrics.md"

HEAD = """\
<!-- Written by tools/metrics.py from src/nano_llm/metrics.py and src/nano_llm/evaluation/suite.py. Do not edit. -->

# Metrics

Every figure, with its unit. ↓ smaller is better, ↑ larger is better; without an arrow neither is, and the figure is to
be read beside others. Nats are natural logarithms; a review's nats are sums over its tokens and its end marker. How
they are measured is in [evaluation.md](evaluation.md).

`test_ppl`, `test_js` and the like are as those of validation, on the test split. `train_ce`, `train_loss` and
`train_js` are means by token since the last row of `metrics.jsonl`. `val_reviews` and `test_reviews` tell how many
reviews were scored.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


def render() -> str:
    """Return the page."""
    of_suites = {name for group in GROUPS for name in group.metrics}
    parts = [HEAD, "## Of a run\n", *_table(name for name in METRICS if name not in of_suites), ""]
    for group in GROUPS:
        if group.metrics:
            suites = "both suites" if len(group.suites) > 1 else f"the suite `{group.suites[0].name}`"
            where = "" if group.need.corpora == "any" else f" Corpora: {group.need.corpora}."
            parts += [f"## {group.name}\n", f"In {suites}.{where}\n", *_table(group.metrics), ""]
    return "\n".join(parts)


def _table(names: Iterable[str]) -> list[str]:
    rows = [
        f"| `{name}` {METRICS[name].better.value} | {METRICS[name].unit} | {_cell(METRICS[name].meaning)} |"
        for name in names
    ]
    return ["| figure | unit | meaning |", "|---|---|---|", *(row.replace("`  |", "` |") for row in rows)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")


if __name__ == "__main__":
    main()
