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

import IPython.display as show
import pandas as pd
import torch
from rich.console import Console

from nano_llm import checkpoint
from nano_llm.config.compose import compose_config
from nano_llm.data.prepare import prepare
from nano_llm.evaluation.depth import depth_profile
from nano_llm.identity import identify
from nano_llm.report.figures import depth_weights, loss_curves
from nano_llm.session import run_session
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
    "trainer.batch_size=16", "trainer.max_epochs=null", f"trainer.max_steps={4 if FAST else 120}",
    f"trainer.log_every={1 if FAST else 10}", "trainer.eval_every=30", "trainer.test_reviews=0",
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
# The three curves lie on top of each other. Mixing costs few parameters, a query and a key weight for each sublayer.
# One seed at this size cannot say which trunk is better; `experiments/quick_table` compares them on real reviews over
# three seeds, with intervals.
#
# ## Where it begins
#
# A heat map has a column for each sublayer, in the order in which they run, and a row for each source, the embedding
# lowest. An empty cell is a source that does not exist yet. Each column's sum is 1. Before training, queries of the
# paper's trunk are zero: every source weighs the same.

# %%
config = configs["paper"]
data = prepare(config.data, config.protocol, 1, Path(folder.name) / "cache", log=lambda line: None)
machine = find_machine(config.trainer)


def profile(model):
    """Mean depth weights over all words of the validation reviews."""
    return depth_profile(model, data.windows["validation"], machine, batch_size=32)


def untrained(config):
    """A model with the very values that its run began with."""
    torch.manual_seed(config.seed)
    return checkpoint.build_model(config, data.tokenizer.vocab_size).eval()


trunks = ("paper", "interblock")
before = {name: profile(untrained(configs[name])) for name in trunks}
depth_weights(before["paper"].weights_SM, before["paper"].names)

# %% [markdown]
# ## What training makes of it
#
# The paper's trunk keeps what each block has *added*, so equal weights are the residual sum of a vanilla decoder, but
# for a factor. Every departure from them is a choice.

# %%
after = {name: profile(checkpoint.load(runs[name] / "checkpoints/best").model()) for name in trunks}
depth_weights(after["paper"].weights_SM, after["paper"].names)

# %% [markdown]
# The reference keeps snapshots of the whole stream instead: the newest holds all that came before it. Its queries start
# at random, so it has opinions before it has learned anything. There is no final mix; the norm before the readout gets
# the stream itself. Before training, and after:

# %%
for found in (before["interblock"], after["interblock"]):
    show.display(depth_weights(found.weights_SM, found.names))

# %% [markdown]
# Look along a row to see who still reads the embedding late in the network, and along a column to see how sharply one
# sublayer chooses. How far has training moved each sublayer? Half the sum of all changes in a column is the share of
# its reading that has gone from one source to another.

# %%
moved = {name: pd.DataFrame(after[name].weights_SM - before[name].weights_SM).abs().sum() / 2 for name in trunks}
pd.DataFrame(moved).set_axis(after["paper"].names[1]).rename_axis("sublayer").round(3)

# %% [markdown]
# In a training as short as this the paper's trunk stays near its equal weights: but for the first feed-forward
# sublayer, none has moved more than about a tenth of its reading. The reference's trunk has moved further, most of all
# in its first block.

# %%
folder.cleanup()

# %% [markdown]
# **Further:** `model.trunk` has the switches between the two rules (`source`, `partial`, `final_mix`, `query_init`,
# `macro_block_size`), each of which can be swept. `depth_profile` takes any checkpoint with one inter-block trunk.
