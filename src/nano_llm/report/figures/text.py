"""A text whose pieces are tinted by how much two heads differ on them, for notebooks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from nano_llm.errors import RequestError
from nano_llm.report.text_page import TICKS, tint

FAR = "240 138 60"
"""Orange, red green blue: the tint of the largest divergence."""
STRONGEST = 60.0
"""Percent of it that lie on the paper at most: text in the ink of the page stays readable, on light and on dark."""


@dataclass(frozen=True)
class HtmlText:
    """A text as HTML, which notebooks show."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


def divergence_text(pieces: Sequence[str], divergence: Sequence[float]) -> HtmlText:
    """Tint each piece of a text by the divergence of the heads there; pointing at it tells the number.

    The tint grows with the square root, as on the page of ``nano-llm generate --html``.

    Args:
        pieces: Of the text, in order, such as its tokens. Their white space is kept.
        divergence: Jensen-Shannon divergence at each of them, in nats: from 0 to ln 2.

    Raises:
        RequestError: There are not as many of both, or one is no divergence.
    """
    if len(pieces) != len(divergence):
        raise RequestError(f"{len(pieces)} pieces and {len(divergence)} divergences: give one for each piece.")
    for nats in divergence:
        if not -1e-6 <= nats <= math.log(2) + 1e-6:
            raise RequestError(f"{nats} is no Jensen-Shannon divergence of two laws: it lies from 0 to ln 2 nats.")
    tokens = "".join(_tinted(piece, nats, f"{nats:.4f} nats") for piece, nats in zip(pieces, divergence, strict=True))
    ticks = " ".join(_tinted(f"\N{NO-BREAK SPACE}{nats:.2g}\N{NO-BREAK SPACE}", nats) for nats in TICKS)
    return HtmlText(
        f'<div style="line-height:1.7;white-space:pre-wrap;overflow-wrap:anywhere;max-width:46rem">{tokens}</div>'
        f'<div style="font-size:85%;margin-top:.5em">divergence of the heads, nats: {ticks}</div>'
    )


def _tinted(text: str, nats: float, title: str = "") -> str:
    share = STRONGEST / 100 * float(tint(nats))
    told = f' title="{title}"' if title else ""
    return f'<span style="background:rgb({FAR} / {share:.1f}%)"{told}>{escape(text)}</span>'
