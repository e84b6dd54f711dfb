"""Figures, by what they draw."""

import re

import pandas as pd

from nano_llm.report.figures import draw, mean_curves


def test_the_mean_runs_over_the_same_seeds_from_end_to_end() -> None:
    rows = pd.DataFrame(
        [
            ("z", "a", "finished", 10, 1.0, 2.0), ("z", "a", "finished", 20, 2.0, 1.0),
            ("z", "b", "finished", 10, 3.0, 4.0), ("z", "b", "finished", 17, 4.0, 9.0),
            ("z", "c", "failed", 10, 5.0, 90.0),
            ("y", "d", "failed", 5, 7.0, 8.0), ("y", "d", "failed", 6, 8.0, 7.0), ("y", "e", "stopped", 5, 9.0, 6.0),
        ],
        columns=["arm", "folder", "state", "step", "tokens", "val_ce"],
    )  # fmt: skip
    means = mean_curves(rows, ["tokens", "val_ce"])
    assert means.values.tolist() == [["z", 10, 2.0, 3.0], ["y", 5, 8.0, 7.0]]


def test_time_is_called_that_of_training_on_every_axis() -> None:
    runs = pd.DataFrame({"folder": ["a"], "arm": "a", "state": "finished", "training_seconds": 60.0})
    curves = pd.DataFrame({"folder": ["a"], "step": 1, "tokens": 1, "training_seconds": 60.0, "val_ce": 2.0})
    figures = draw(runs, curves)
    assert all(">minutes of training<" in figures[name] for name in ("curve_training_seconds", "cost_time"))


def test_rows_that_lack_an_axis_cost_that_figure_only() -> None:
    runs = pd.DataFrame({"folder": ["a"], "arm": "a", "state": "finished"})
    curves = pd.DataFrame({"folder": ["a"], "step": 1, "tokens": 1, "val_ce": 2.0})
    assert set(draw(runs, curves)) == {"curve_step", "curve_tokens"}


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


def test_a_single_validation_is_a_visible_point() -> None:
    runs = pd.DataFrame({"folder": ["a"], "arm": ["a"], "state": "finished", "training_seconds": 60.0})
    one = pd.DataFrame({"folder": ["a"], "step": [60], "tokens": 1, "training_seconds": 1.0, "val_ce": 2.0})
    many = pd.concat([one.assign(step=step) for step in range(1, 9)])
    marked, plain = (draw(runs, curves)["curve_step"] for curves in (one, many))
    marker = re.compile(r'clip-path="[^"]*">\s*<use ')
    assert marker.search(marked)
    assert not marker.search(plain)


def test_long_names_lie_below_the_figure_and_are_wrapped() -> None:
    names = [f"tarnet dropout=0.{i} weight=0.0003493 lr=0.001041 muon_lr=0.02509 and more of it" for i in range(3)]
    runs = pd.DataFrame({"folder": names, "arm": names, "state": "finished", "training_seconds": 60.0})
    curves = pd.DataFrame({"folder": names, "step": 1, "tokens": 1, "training_seconds": 1.0, "val_ce": 2.0})
    height = float(re.search(r'viewBox="0 0 \S+ (\S+)"', draw(runs, curves)["curve_step"]).group(1))  # type: ignore[union-attr]
    short = runs.assign(arm=["a", "b", "c"])
    assert height > float(re.search(r'viewBox="0 0 \S+ (\S+)"', draw(short, curves)["curve_step"]).group(1))  # type: ignore[union-attr]


def test_a_figure_against_the_truth_has_a_line_for_each_arm_that_was_measured() -> None:
    runs = pd.DataFrame(
        {"folder": list("abcd"), "arm": ["x", "x", "y", "z"], "state": "finished", "cf_kl": [0.1, 0.3, 0.2, None]}
    )
    figures = draw(runs, pd.DataFrame())
    assert set(figures) == {"truth_cf_kl"}
    assert ">cf_kl (nats a token)<" in figures["truth_cf_kl"]
    assert [arm for arm in "xyz" if f">{arm}<" in figures["truth_cf_kl"]] == ["x", "y"]
