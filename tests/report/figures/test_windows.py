"""Windows as a picture: every place has the colour of what is there, and only targets have it in full."""

import numpy as np
from matplotlib.axes import Axes

from nano_llm.data.samples import Samples
from nano_llm.data.windows import Windows
from nano_llm.report.figures import windows_map

SAMPLES = Samples(
    tokens_N=np.arange(20, dtype=np.uint16),
    offset_R1=np.array([0, 13, 20]),
    prompt_length_R=np.array([2, 3]),
    treatment_R=np.zeros(2, np.uint8),
    propensity_R=np.full(2, 0.5, np.float32),
)


def places(axes: Axes, label: str) -> dict[int, tuple[float, float]]:
    """Return where a part begins and ends in each window that has it."""
    (bars,) = [bars for bars in axes.containers if bars.get_label() == label]
    return {w: (bar.get_x(), bar.get_x() + bar.get_width()) for w, bar in enumerate(bars) if bar.get_width()}


def test_what_is_scored_and_what_is_only_read_are_told_apart() -> None:
    windows = Windows.covering(SAMPLES, 8, 0, num_views=2)
    figure = windows_map(windows.prompt_length_W, windows.first_target_W, windows.length_W, 8, "evaluation")
    (axes,) = figure.axes
    # Eleven tokens behind a prompt of two, six of them a window and three a stride; then four behind one of three.
    assert places(axes, "prompt") == {0: (0, 1), 1: (0, 2), 2: (0, 2), 3: (0, 1)}
    assert places(axes, "prompt, target") == {0: (1, 2), 3: (1, 3)}
    assert places(axes, "review, read again") == {1: (2, 5), 2: (2, 5)}
    assert places(axes, "review, target") == {0: (2, 8), 1: (5, 8), 2: (5, 7), 3: (3, 7)}
    assert {bars.get_label(): bars[0].get_alpha() for bars in axes.containers} == {
        "prompt": 0.35, "prompt, target": 1.0, "review, read again": 0.35, "review, target": 1.0,
    }  # fmt: skip
    assert axes.get_xlim() == (0, 8)
    assert axes.get_title(loc="left") == "evaluation"


def test_what_no_window_has_is_not_in_the_legend() -> None:
    windows = Windows.covering(SAMPLES, 16, 0)
    figure = windows_map(windows.prompt_length_W, windows.first_target_W, windows.length_W, 16)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["prompt", "prompt, target", "review, target"]
