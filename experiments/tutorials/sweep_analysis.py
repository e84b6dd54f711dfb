# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A sweep, from its files to what may be said
#
# `nano-llm run -m` leaves a folder with a run for each configuration and seed, `nano-llm report` a page about it. This
# notebook goes the same way by hand, over two sweeps whose results are committed: `experiments/separation` turns up a
# reward for heads that differ, `experiments/separation_truth` asks whether that brings them nearer to the truth.
# Nothing is trained here.

# %%
from pathlib import Path

import pandas as pd

from nano_llm.report.arms import with_labels
from nano_llm.report.collect import collect
from nano_llm.report.figures import loss_curves, sweep_plot
from nano_llm.report.statistics import t_interval
from nano_llm.report.table import compare, comparison_table, differences_table

pd.set_option("display.max_colwidth", None)
study = collect(Path("../separation"))
" ".join(study.commands[0])

# %% [markdown]
# ## One row a run
#
# `collect` reads whatever the runs have left: settings under `settings.`, figures of the summary under their names. A
# run that failed is a row, too. So a sweep is a table, and a question is a line of pandas.

# %%
setting = "model.separation.weight"
runs = with_labels(study.runs)
runs.groupby(["name", f"settings.{setting}"])["seed"].count().unstack()

# %%
runs.loc[runs["name"] == "scm", ["arm", "seed", "state", "val_bpb", "val_js", "training_seconds"]].head(6)

# %% [markdown]
# ## Did they train?
#
# Look at curves before any table. Seeds of one arm have one colour; both arms are called `scm`, so their ids tell them
# apart. The first has no reward, the second the largest.

# %%
weights = runs[f"settings.{setting}"]
chosen = runs[(runs["name"] == "scm") & weights.isin([0.0, 0.2])]
loss_curves([study.path / run for run in chosen["folder"]])

# %% [markdown]
# ## What the setting does
#
# Means with 95 % t-intervals over seeds, each seed a faint dot. A panel for each name: the two corpora have scales of
# their own. The reward does what it pays for:

# %%
sweep_plot(runs, "val_js", setting)

# %% [markdown]
# And the fit? In bits a byte, the intervals of all weights overlap.

# %%
sweep_plot(runs, "val_bpb", setting)

# %% [markdown]
# ## Pairs of seeds see more
#
# Most of that width is the seed's: initial values and the order of the data move all arms together. The difference to
# the baseline *under the same seed* is free of it. Half the width of both intervals, for `val_js` on real reviews:


# %%
def half_width(seeds):
    estimate = t_interval(seeds)
    return estimate.high - estimate.mean


imdb = runs[runs["name"] == "imdb"]
table = imdb.pivot(index="seed", columns=f"settings.{setting}", values="val_js")
differences = table.sub(table[0.0], axis="index").drop(columns=0.0)
pd.DataFrame(
    {
        "mean": table.mean(),
        "half width": table.apply(half_width),
        "difference": differences.mean(),
        "its half width": differences.apply(half_width),
    }
).round(5)

# %% [markdown]
# The three seeds agree that the heads lie further apart, and by how much; the intervals of the means overlap
# throughout. The report pairs seeds, too. Its table of differences for bits a byte:

# %%
differences_table(imdb, baseline=imdb["arm"].iloc[0])

# %% [markdown]
# No row claims anything, and rightly: below six seeds no permutation test can reach 5 %, however clear the figures
# look.

# %% [markdown]
# ## Distance is not truth
#
# The second sweep has the structural corpus without confounding and holds each model against the law: `js_ratio` is
# the distance of the heads over that of the laws, `token_pehe` the error of their difference.

# %%
truth = with_labels(collect(Path("../separation_truth")).runs)
rewarded = truth[truth["name"].isin(["none", "js"])].assign(name="js")
sweep_plot(rewarded, "js_ratio", setting)

# %%
sweep_plot(rewarded, "token_pehe", setting)

# %% [markdown]
# The reward moves the heads beyond the truth, and their difference away from it. Which terms do so, and which do not? A
# setting need not be a number (`js` has both weights here):

# %%
structural = truth[truth["name"].isin(["none", "js", "posterior_js", "margin", "unlikelihood", "cad_pairs", "bayes"])]
sweep_plot(structural.assign(name="token_pehe by kind of term"), "token_pehe", "model.separation.kind")

# %%
comparison_table(compare(structural), ["val_bpb", "js_ratio", "token_pehe", "cf_kl", "posterior_accuracy_do"])

# %% [markdown]
# In bits a byte all but `bayes` lie within 0.003 of each other: a sweep that looks at the loss alone would have called
# them equal. The term that the reference has rewards a distance that the truth does not ask for.
#
# **Further:** point `collect` at any folder below `outputs/`; `nano-llm report` writes tables, differences and figures
# of it, and `experiments/analysis` has the same as a notebook over a study of your choice (`NANO_LLM_STUDY`).
