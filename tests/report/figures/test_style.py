"""The look of figures: readable on any paper, and their own wherever they are drawn."""

import io
import struct

import matplotlib as mpl
import pytest
from matplotlib.colors import to_rgb

from nano_llm.report.figures.style import INK, STYLE, Drawing, line_styles


def luminance(colour: str) -> float:
    """Return the relative luminance, after WCAG 2."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("paper", ["#ffffff", "#111111"])
def test_the_ink_is_readable_on_light_and_on_dark_paper(paper: str) -> None:
    dark, light = sorted((luminance(INK), luminance(paper)))
    assert (light + 0.05) / (dark + 0.05) > 4


def test_a_figure_keeps_its_ink_and_no_paper_where_it_is_drawn_later() -> None:
    with mpl.rc_context(STYLE):
        figure = Drawing(2.0, 1.0)
        figure.add_subplot().set_xlabel("a label")
    stream = io.StringIO()
    figure.savefig(stream, format="svg")
    assert f"fill: {INK}" in stream.getvalue()
    assert "fill: #000000" not in stream.getvalue()
    assert "fill: #ffffff" not in stream.getvalue()
    assert ">a label<" in stream.getvalue()


def test_a_notebook_gets_a_picture_of_twice_the_pixels_that_it_takes_on_the_page() -> None:
    with mpl.rc_context(STYLE):
        figure = Drawing(2.0, 1.0)
    picture, size = figure._repr_png_()
    assert size == {"width": 200, "height": 100}
    assert struct.unpack(">II", picture[16:24]) == (400, 200)


def test_many_arms_look_different() -> None:
    looks = line_styles([f"arm-{i}" for i in range(20)])
    assert len({tuple(look.values()) for look in looks.values()}) == 20
