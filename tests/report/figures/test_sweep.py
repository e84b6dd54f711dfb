"""Sweep plots: points, intervals and names."""

import numpy as np
import pandas as pd
import pytest

from nano_llm.errors import RequestError
from nano_llm.report.figures import sweep_plot

WEIGHT = "settings.model.separation.weight"


def rows(**columns: list[object]) -> pd.DataFrame:
    return pd.DataFrame({"name": "scm", "state": "finished"} | columns)


def test_each_value_has_its_mean_its_interval_and_its_seeds() -> None:
    results = rows(val_bpb=[2.0, 1.0, 3.0, 5.0, 9.0], **{WEIGHT: [0.1, 0.0, 0.0, 0.1, 0.1]})
    results.loc[4, "state"] = "failed"
    (axes,) = sweep_plot(results, "val_bpb", "model.separation.weight").axes
    (bars,) = axes.containers
    assert bars[0].get_xydata().tolist() == [[0, 2.0], [1, 3.5]]
    low, high = (segment[:, 1] for segment in bars[2][0].get_segments()[0][None].transpose(1, 0, 2))
    half = 12.706205 * np.std([1, 3], ddof=1) / np.sqrt(2)
    assert (low.item(), high.item()) == (pytest.approx(2 - half), pytest.approx(2 + half))
    seeds = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "."]
    assert seeds == [[[0, 1.0], [0, 3.0]], [[1, 2.0], [1, 5.0]]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "0.1"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("model.separation.weight", "val_bpb (bits a byte)")


def test_values_that_are_no_numbers_keep_their_order_and_their_names() -> None:
    results = rows(val_ce=[3.0, 1.0, 2.0], **{"settings.optimizer.name": ["muon", "adamw", "muon"]})
    (axes,) = sweep_plot(results, "val_ce", "optimizer.name").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["muon", "adamw"]
    assert axes.containers[0][0].get_xydata().tolist() == [[0, 2.5], [1, 1.0]]
    assert axes.containers[0][0].get_linestyle() == "None"  # nothing lies between them


def test_many_numbers_stand_where_they_are() -> None:
    weights = [0.0, *(2.0**-i for i in range(10))]
    results = rows(val_ce=[1.0] * 11, **{WEIGHT: weights})
    (axes,) = sweep_plot(results, "val_ce", "model.separation.weight").axes
    assert axes.containers[0][0].get_xdata().tolist() == sorted(weights)


@pytest.mark.parametrize("weights", [[*range(-9, 0)], [*range(-9, 1)]])
def test_many_numbers_of_which_none_is_above_zero_stand_where_they_are(weights: list[int]) -> None:
    results = rows(val_ce=[1.0] * len(weights), **{WEIGHT: weights})
    (axes,) = sweep_plot(results, "val_ce", "model.separation.weight").axes
    assert axes.containers[0][0].get_xdata().tolist() == weights
    assert axes.get_xscale() == "linear"


def test_what_is_on_or_off_is_no_number() -> None:
    results = rows(val_ce=[3.0, 1.0, 2.0], **{"settings.model.tied": [True, False, True]})
    (axes,) = sweep_plot(results, "val_ce", "model.tied").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["True", "False"]
    assert axes.containers[0][0].get_xydata().tolist() == [[0, 2.5], [1, 1.0]]
    assert axes.containers[0][0].get_linestyle() == "None"


def test_each_name_has_a_panel() -> None:
    results = rows(val_ce=[1.0, 2.0], **{WEIGHT: [0.0, 0.0]}).assign(name=["imdb", "scm"])
    panels = sweep_plot(results, "val_ce", "model.separation.weight").axes
    assert [axes.get_title("left") for axes in panels] == ["imdb", "scm"]


def test_what_is_not_there_is_refused_by_name() -> None:
    results = rows(val_ce=[None], **{WEIGHT: [0.0]})
    with pytest.raises(RequestError, match=r"no 'settings\.model\.depth'.*val_ce"):
        sweep_plot(results, "val_ce", "model.depth")
    with pytest.raises(RequestError, match=r"None of the 1 runs has finished and has both val_ce and"):
        sweep_plot(results, "val_ce", "model.separation.weight")
