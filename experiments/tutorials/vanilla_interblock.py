# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Vanilla against inter-block: what a layer reads
#
# In a vanilla decoder every sublayer reads one thing: the sum of the embedding and all that earlier layers have added
# to it. An *inter-block* trunk lets each sublayer choose. After every macro-block of layers it keeps a snapshot, and
# each sublayer reads a learned mix of the embedding, the snapshots, and the block that is still open (Block Attention
# Residuals, arXiv 2603.15031). The weights of the mix, the alphas, are a softmax over depth, taken anew for each token,
# so one can look at them. This notebook trains three small models, a minute on one core, and does.

# %%
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from IPython.display import display
from rich.console import Console

from nano_llm import checkpoint
from nano_llm.config.compose import compose_config
from nano_llm.data.prepare import prepare
from nano_llm.evaluation.depth import depth_profile
from nano_llm.report.figures import depth_weights, loss_curves
from nano_llm.session import identify, run_session
from nano_llm.training.machine import find_machine

FAST = "NANO_LLM_FAST" in os.environ  # the tests: a few steps
folder = TemporaryDirectory()

# %% [markdown]
# ## Three models
#
# All read reviews of the structural corpus (`data=scm`), have six layers, and are told the sentiment in their prompt.
# The overrides are those of `nano-llm run`. `interblock` mixes as the reference system does, `paper` as the paper.

# %%
shared = [
    "data=scm", "data.num_train=8000", "data.num_validation=200", "data.num_test=200", "data.num_pairs=0",
    "scale=tiny", "scale.d_model=64", "scale.d_ff=256", "scale.num_layers=6", "seed=1",
    "trainer.batch_size=16", "trainer.max_epochs=null", f"trainer.max_steps={4 if FAST else 200}",
    f"trainer.log_every={1 if FAST else 10}", "trainer.eval_every=50", "trainer.test_reviews=0",
    "trainer.evaluation=none", "trainer.device=cpu", "trainer.num_threads=1", "schedule.warmup_steps=20",
    f"paths.outputs={folder.name}/outputs", f"paths.cache={folder.name}/cache",
]  # fmt: skip
arms = {
    "vanilla": ["model=vanilla"],
    "interblock": ["model=interblock"],
    "paper": ["model=interblock", "model/trunk=interblock_paper"],
}
configs = {name: compose_config([*shared, *arm, f"name={name}"]) for name, arm in arms.items()}
summaries = {name: run_session(config, arms[name], Console(quiet=True)) for name, config in configs.items()}
runs = {name: identify(config).path for name, config in configs.items()}
figures = {name: {"parameters": summary["parameters"]} | summary["metrics"] for name, summary in summaries.items()}
pd.DataFrame(figures).loc[["parameters", "val_ce", "val_bpb"]].transpose().round(4)

# %%
loss_curves(list(runs.values()))

# %% [markdown]
# Mixing costs few parameters: a query and a key weight for each sublayer. One seed at this size cannot say which trunk
# is better; `experiments/quick_table` compares them on real reviews over three seeds, with intervals.
#
# ## Where it begins
#
# A heat map has a column for each sublayer, in the order in which they run, and a row for each source, the embedding
# lowest. An empty cell is a source that does not exist yet. Each column's sum is 1. Before training, queries of the
# paper's trunk are zero: every source weighs the same.

# %%
data = prepare(
    configs["paper"].data, configs["paper"].protocol, num_outcomes=1, cache=Path(folder.name) / "cache", log=print
)
machine = find_machine(configs["paper"].trainer)


def profile(model):
    """Mean depth weights over all tokens of the validation reviews."""
    return depth_profile(model, data.windows["validation"], machine, batch_size=32)


torch.manual_seed(0)
fresh = {
    name: checkpoint.build_model(configs[name], data.tokenizer.vocab_size).eval() for name in ("paper", "interblock")
}
begun = profile(fresh["paper"])
depth_weights(begun.weights_SM, begun.names)

# %% [markdown]
# ## What training makes of it
#
# The paper's trunk keeps what each block has *added*, so the residual sum of a vanilla decoder would be equal weights.
# Every departure from them is a choice.

# %%
trained = {name: checkpoint.load(runs[name] / "checkpoints/best").model() for name in ("paper", "interblock")}
paper = profile(trained["paper"])
depth_weights(paper.weights_SM, paper.names)

# %% [markdown]
# The reference keeps snapshots of the whole stream instead: the newest holds all that came before it. Its queries start
# at random, and there is no final mix: the norm before the readout gets the stream itself.

# %%
for model in (fresh["interblock"], trained["interblock"]):
    found = profile(model)
    display(depth_weights(found.weights_SM, found.names))

# %% [markdown]
# Look along a row to see who still reads the embedding late in the network, and along a column to see how sharply one
# sublayer chooses. How far has training moved the weights of each sublayer? Half the sum of all changes in a column is
# the share of its reading that was shifted from one source to another.

# %%
shifts = {
    name: pd.DataFrame(profile(trained[name]).weights_SM - profile(fresh[name]).weights_SM).abs().sum() / 2
    for name in trained
}
pd.DataFrame(shifts).set_axis(paper.names[1]).rename_axis("sublayer").round(3).transpose()

# %%
folder.cleanup()

# %% [markdown]
# **Further:** `model.trunk` has the switches between the two rules (`source`, `partial`, `final_mix`, `query_init`,
# `macro_block_size`), each of which can be swept. `depth_profile` takes any checkpoint with one inter-block trunk.
