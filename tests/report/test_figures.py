"""Figures, by what they draw."""

import pandas as pd

from nano_llm.report.figures import draw, mean_curve


def test_the_mean_runs_over_the_same_seeds_from_end_to_end() -> None:
    rows = pd.DataFrame(
        [
            ("a", "finished", 10, 1.0, 2.0), ("a", "finished", 20, 2.0, 1.0),
            ("b", "finished", 10, 3.0, 4.0), ("b", "finished", 17, 4.0, 9.0), ("c", "failed", 10, 5.0, 90.0),
        ],
        columns=["folder", "state", "step", "spent", "val_ce"],
    )  # fmt: skip
    mean = mean_curve(rows, "val_ce")
    assert mean.index.tolist() == [10]
    assert mean.iloc[0].tolist() == [2.0, 3.0]


def test_every_arm_is_named_also_where_there_are_many() -> None:
    arms = [f"arm-{i:02d}" for i in range(12)]
    runs = pd.DataFrame({"folder": arms, "arm": arms, "state": "finished", "training_seconds": 60.0})
    curves = pd.DataFrame(
        {"folder": arms * 2, "step": [1] * 12 + [2] * 12, "tokens": 1, "training_seconds": 1.0, "val_ce": 2.0}
    )
    figure = draw(runs, curves)["curve_step"]
    assert all(arm in figure for arm in arms)


def test_many_names_share_a_panel() -> None:
    names = [f"n{i}" for i in range(40)]
    runs = pd.DataFrame(
        {"folder": names, "arm": names, "name": names, "state": "finished", "val_ce": 2.0}
        | {"settings.model.separation.weight": [i / 40 for i in range(40)]}
    )
    figures = draw(runs, pd.DataFrame())
    assert figures["weight_val_ce"].count('id="axes_') == 1
