"""Text tinted by divergence."""

import math
import re
from html import unescape

import pytest

from nano_llm.errors import RequestError
from nano_llm.report.figures import divergence_text

SPAN = re.compile(r'<span style="background:rgb\(240 138 60 / ([0-9.]+)%\)"(?: title="([^"]*)")?>([^<]*)</span>')


def test_each_piece_is_tinted_by_the_root_of_its_divergence() -> None:
    pieces = ["the", " film\n", " & <b>"]
    shown = SPAN.findall(divergence_text(pieces, [0.0, math.log(2) / 4, math.log(2)])._repr_html_())
    assert [unescape(text) for _, _, text in shown[:3]] == pieces
    assert [(float(tint), title) for tint, title, _ in shown[:3]] == [
        (0.0, "0.0000 nats"),
        (30.0, "0.1733 nats"),
        (60.0, "0.6931 nats"),
    ]


def test_the_scale_below_has_the_tints_of_the_text() -> None:
    shown = SPAN.findall(divergence_text(["x"], [0.1]).html)
    ticks = {text.strip(): tint for tint, _, text in shown[1:]}
    assert ticks["0.1"] == shown[0][0]
    assert next(iter(ticks)) == "0"
    assert list(ticks)[-1] == "0.69"


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(RequestError, match="2 pieces and 1 divergences"):
        divergence_text(["a", "b"], [0.0])
    for wrong in (1.0, -0.1, math.nan):
        with pytest.raises(RequestError, match="no Jensen-Shannon divergence"):
            divergence_text(["a"], [wrong])
