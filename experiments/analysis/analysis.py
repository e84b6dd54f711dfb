# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A study, looked at
#
# Everything that `nano-llm report` writes is made of a few functions over pandas tables. Here they are by hand, to go
# on from where the report stops. `NANO_LLM_STUDY` names the folder of a study, such as `outputs/runs`; without it the
# committed results of `quick_table` are read.

# %%
import os
from pathlib import Path

import IPython.display as show
import numpy as np
import pandas as pd

from nano_llm.report.arms import with_labels
from nano_llm.report.collect import collect
from nano_llm.report.figures import draw
from nano_llm.report.table import compare, comparison_table, differences_table, failures_table

study = collect(Path(os.environ.get("NANO_LLM_STUDY", "../quick_table")))
runs = with_labels(study.runs)
runs[["arm", "seed", "state", "val_bpb"]]

# %% [markdown]
# ## The comparison
#
# One row an arm: mean over seeds with a 95 % t-interval.

# %%
arms = compare(runs)
comparison_table(arms, ["stack", "readout", "parameters", "val_ce", "val_bpb", "val_js"])

# %% [markdown]
# Seeds are paired: the difference to the baseline is taken seed by seed, which removes what the seed alone explains.

# %%
differences_table(runs, baseline=arms[0].label)

# %%
failures_table(runs)

# %% [markdown]
# ## Figures

# %%
figures = draw(runs, study.curves)
for name in [name for name in figures if name.startswith(("curve", "weight"))]:
    show.display(show.SVG(figures[name].replace("currentColor", "#333333")))

# %% [markdown]
# ## Further
#
# `study.curves` has every logged row, so any question is one `groupby` away: how much of the gain between its first and
# its last validation has each arm made by half of its steps? Between two validations the figure is taken from the line
# that joins them.

# %%
curves = study.curves.dropna(subset=["val_bpb"]).merge(runs[["folder", "arm"]], on="folder")


def gained_by_half(run):
    first, last = run["val_bpb"].iloc[[0, -1]]
    half = np.interp(run["step"].iloc[-1] / 2, run["step"], run["val_bpb"])
    return (first - half) / (first - last)


gained = {labels: gained_by_half(run) for labels, run in curves.sort_values("step").groupby(["arm", "folder"])}
by_half = pd.Series(gained, name="gained by half-way").rename_axis(["arm", "folder"]).groupby("arm").mean()
by_half.round(3).to_frame()
