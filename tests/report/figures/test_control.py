"""Control against quality: curves of rules, and what they are compared with."""

import numpy as np
import pandas as pd
import pytest

from nano_llm.errors import RequestError
from nano_llm.report.figures import control_against_quality

ROWS = pd.DataFrame(
    [
        ("contrast", 1.0, 0.98, 0.70), ("contrast", 0.0, 0.86, 0.65), ("posterior", 4.0, 0.97, 0.66),
        ("real reviews", None, 0.85, 0.64),
    ],
    columns=["rule", "strength", "control", "bits"],
)  # fmt: skip


def test_a_curve_joins_the_strengths_of_a_rule_in_order() -> None:
    (axes,) = control_against_quality(ROWS).axes
    curves = {bars.get_label(): bars[0] for bars in axes.containers}
    assert curves["contrast"].get_xydata().tolist() == [[0.65, 0.86], [0.70, 0.98]]
    assert curves["posterior"].get_xydata().tolist() == [[0.66, 0.97]]
    assert curves["real reviews"].get_xydata().tolist() == [[0.64, 0.85]]
    assert curves["contrast"].get_color() != curves["posterior"].get_color()
    assert [(text.xy, text.get_text()) for text in axes.texts] == [
        ((0.65, 0.86), "0"), ((0.70, 0.98), "1"), ((0.66, 0.97), "4"),
    ]  # fmt: skip
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["contrast", "posterior", "real reviews"]


def test_intervals_are_drawn_where_they_are_given() -> None:
    (axes,) = control_against_quality(ROWS.assign(control_low=0.8, control_high=0.99)).axes
    contrast = axes.containers[0]
    assert (contrast.has_xerr, contrast.has_yerr) == (False, True)
    np.testing.assert_allclose(contrast[2][0].get_segments()[0], [[0.65, 0.8], [0.65, 0.99]])


def test_a_missing_column_is_named() -> None:
    with pytest.raises(RequestError, match="lack bits; expected the columns rule, strength, control, bits"):
        control_against_quality(ROWS.drop(columns="bits"))
