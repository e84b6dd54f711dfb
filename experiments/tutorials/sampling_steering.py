# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Sampling and steering: letting two heads write
#
# A trained model is a law of the next token, one for each outcome. Everything else is a choice: how a token is drawn
# from that law, whether two texts share their chance, how hard a text is pushed to its outcome. This notebook trains a
# small TARNet on the structural corpus (a minute on one core) and tries each choice on it.

# %%
import os
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from rich.console import Console

from nano_llm import checkpoint
from nano_llm.config.compose import compose_config
from nano_llm.data.scm import Sampling as Treatment
from nano_llm.data.scm import sample_reviews, twins
from nano_llm.evaluation.bootstrap import ratio_interval
from nano_llm.evaluation.judges import JudgeKind, fit_judge
from nano_llm.evaluation.ngram_model import ByteNgram
from nano_llm.evaluation.texts import distinct_n
from nano_llm.generation.author import Author
from nano_llm.generation.request import read_counterfactual_request, read_request
from nano_llm.generation.sampling import Sampling, shape
from nano_llm.generation.writer import Finish
from nano_llm.identity import identify
from nano_llm.report.figures import control_against_quality, divergence_text, loss_curves
from nano_llm.report.figures.style import STYLE
from nano_llm.report.text_diff import edit_share, side_by_side
from nano_llm.session import run_session

# %matplotlib inline
# %config InlineBackend.figure_format = "retina"
plt.rcParams.update(STYLE)
pd.set_option("display.max_colwidth", None)
FAST = "NANO_LLM_FAST" in os.environ  # the tests: a few steps, a few texts
folder = TemporaryDirectory()

# %% [markdown]
# ## A model
#
# The same overrides as for `nano-llm run`, in a folder that is thrown away.

# %%
overrides = [
    "model=tarnet", "model/trunk=vanilla", "data=scm", "data.num_train=8000", "data.num_validation=200",
    "data.num_test=200", "data.num_pairs=0", "scale=tiny", "scale.d_model=64", "scale.d_ff=256",
    "trainer.batch_size=32", "trainer.max_epochs=null", f"trainer.max_steps={5 if FAST else 300}",
    "trainer.eval_every=100", "trainer.test_reviews=0", "trainer.evaluation=none", "trainer.device=cpu",
    "trainer.num_threads=1", "schedule.warmup_steps=20", f"paths.outputs={folder.name}/outputs",
    f"paths.cache={folder.name}/cache",
]  # fmt: skip
config = compose_config(overrides)
summary = run_session(config, overrides, Console(quiet=True))
run = identify(config).path
loss_curves([run])

# %%
author = Author(checkpoint.load(run / "checkpoints/best"), torch.device("cpu"), num_rows=64)

# %% [markdown]
# ## The law of the next token
#
# What may follow "i found the plot really", according to each head?

# %%
prompt = author.tokenizer.encode_prompt(author.template.prompt(1, "drama"))
begun = author.tokenizer.encode("i found the plot really great")
laws = author.writer.contexts.laws(prompt, begun)[-1]  # before "great"
tokens = np.argsort(-laws.max(axis=0))[:24]
names = [author.tokenizer.token(token) for token in tokens]
heads = pd.DataFrame({"Y0": np.exp(laws[0, tokens]), "Y1": np.exp(laws[1, tokens])}, names)
_ = heads.plot.bar(figsize=(8, 2.8), width=0.8, ylabel="probability").legend(loc="upper right")

# %% [markdown]
# A request has knobs, which shape that law before a token is drawn. Temperature sharpens or flattens it. `top_p` keeps
# the likeliest tokens that together have that share; `min_p` keeps those with at least that share of the likeliest
# one's probability. All of head Y1:

# %%
knobs = {
    "as it is": Sampling(),
    "temperature 0.5": Sampling(temperature=0.5),
    "temperature 1.5": Sampling(temperature=1.5),
    "top_p 0.5": Sampling(top_p=0.5),
    "min_p 0.3": Sampling(min_p=0.3),
}
shaped = {name: np.exp(shape(laws[1], knob, author.vocabulary.allowed_V, [])) for name, knob in knobs.items()}
likeliest = np.argsort(-laws[1])[:16]
bars = pd.DataFrame(shaped).iloc[likeliest].set_axis([author.tokenizer.token(token) for token in likeliest])
figure, rows = plt.subplots(len(knobs), 1, figsize=(7, 6.5), sharex=True, sharey=True, layout="constrained")
_ = bars.plot.bar(ax=rows, subplots=True, legend=False, width=0.85)

# %% [markdown]
# ## Two judges
#
# To say what a knob does to whole texts we need readers who are not the model. One tells sentiment, one tells how
# fluent a text is, in bits a byte; both are fitted to the law's own reviews, which no model trains on.

# %%
num_texts = 16 if FAST else 120
known = sample_reviews(config.data, "judge", 300 if FAST else 3000, Treatment.do)
judge = fit_judge(
    JudgeKind.lr, [review.text for review in known], [review.treatment for review in known], np.ones(len(known))
)
reader = ByteNgram.fit([review.text for review in known])


def judged(texts, ended, outcomes):
    """Control and bits a byte, with 95 % intervals over pairs of texts."""
    pairs = np.arange(len(texts)) // 2
    right = (judge.logit(texts) > 0) == np.array(outcomes)
    control, bits = ratio_interval(right, np.ones(len(texts)), pairs), ratio_interval(*reader.bits(texts, ended), pairs)
    of_control = {"control": control.value, "control_low": control.low, "control_high": control.high}
    return of_control | {"bits": bits.value, "bits_low": bits.low, "bits_high": bits.high}


def written(fields):
    """The texts of a request, Y0 and Y1 in turn; its fields are the options of `nano-llm generate`."""
    return author.write(author.commissions(read_request({"num": num_texts // 2, "tokens": 120, "seed": 1} | fields)))


def measured(fields):
    """How such texts are judged, and how varied they are."""
    drafts = written(fields)
    texts = [draft.text for draft in drafts]
    variety = distinct_n(texts, 2, 300).mean()
    return judged(texts, [draft.finish is Finish.end for draft in drafts], [0, 1] * (num_texts // 2)) | {
        "variety": variety
    }


# %% [markdown]
# ### Temperature
#
# Cold texts are fluent, and all the same; hot ones are varied, and broken. At 1 the model writes as it has learned.

# %%
temperatures = (0.5, 1.0, 1.5) if FAST else (0.3, 0.6, 0.8, 1.0, 1.2, 1.5)
by_temperature = pd.DataFrame({value: measured({"temperature": value}) for value in temperatures}).transpose()
figure, panels = plt.subplots(1, 3, figsize=(9, 2.8), layout="constrained")
labels = {"bits": "bits a byte of the judge", "variety": "distinct pairs of words", "control": "control"}
for axes, (name, label) in zip(panels, labels.items(), strict=True):
    by_temperature[name].plot(ax=axes, marker="o", xlabel="temperature", ylabel=label, ylim=(0, None))

# %% [markdown]
# ## Both outcomes of one text
#
# Y0 and Y1 of a *coupled* pair share their noise: wherever both heads say the same, they write the same. Each is still
# an exact draw from its own head. The tint shows how far the heads' laws lie apart at each word.

# %%
negative, positive = author.write(author.commissions(read_request({"topic": "drama", "tokens": 60, "seed": 8})))
divergence_text([token.text for token in negative.tokens], [token.divergence for token in negative.tokens])

# %%
divergence_text([token.text for token in positive.tokens], [token.divergence for token in positive.tokens])

# %% [markdown]
# Two *independent* draws have nothing in common but their prompt, so that nobody could tell what the sentiment changed.
# Each bar counts pairs by the share of words that differ.

# %%
shares = {}
for pair in ("independent", "coupled"):
    texts = [draft.text for draft in written({"pair": pair})]
    shares[pair] = [edit_share(y0, y1) for y0, y1 in zip(texts[::2], texts[1::2], strict=True)]
axes = pd.DataFrame(shares).plot.hist(bins=20, range=(0, 1), alpha=0.7, figsize=(5.4, 2.8))
_ = axes.set(xlabel="share of words that differ", ylabel="pairs")

# %% [markdown]
# ## Steering
#
# With two heads the sentiment can be turned up. `contrast` adds the difference of the heads' log-probabilities, times
# a strength. `posterior` adds the heads' own belief, given the text so far, that the text has the wanted sentiment, and
# so stops pushing once that is clear. Both curves begin at the plain head: contrast at strength 0, posterior at 1. How
# much control does each buy, and what does the text pay?

# %%
strengths = {"contrast": (0.0, 0.5, 1.0, 1.5, 2.0), "posterior": (1.0, 4.0, 16.0)}
rows = [
    {"rule": rule, "strength": strength} | measured({"steer": rule, "strength": strength})
    for rule, values in strengths.items()
    for strength in (values[:2] if FAST else values)
]
real = sample_reviews(config.data, "test_do", 4 * num_texts, Treatment.do)
ceiling = judged([review.text for review in real], [True] * len(real), [review.treatment for review in real])
rows.append({"rule": "real reviews", "strength": None} | ceiling)
control_against_quality(pd.DataFrame(rows))

# %% [markdown]
# Control above that of real reviews is not better writing: steered reviews state their sentiment more often than
# reviews do. Strong contrast leaves the language altogether; here is what that looks like:

# %%
strong = author.write(author.commissions(read_request({"steer": "contrast", "strength": 4, "tokens": 40, "seed": 3})))
[draft.text for draft in strong]

# %% [markdown]
# ## What would *this* review have said?
#
# A counterfactual starts from a text that exists. Which noise would have made the head of its sentiment write it? That
# noise is *abducted*, and the other head writes with it. On the structural corpus the answer can be compared with
# the truth: the structural twin, made by the noise that did make the review.

# %%
originals, turned = twins(config.data, "test", 54, Treatment.do)
review, twin = originals[53], turned[53]
asked = {"text": review.text, "label": ("neg", "pos")[review.treatment], "topic": review.topic, "draws": 8}
drafts = author.write(author.counterfactuals(read_counterfactual_request(asked)))
console = Console(width=110, force_jupyter=True)
console.print(side_by_side(review.text, drafts[0].text, console, ("the review", "by the model")))
console.print(side_by_side(review.text, twin.text, console, ("the review", "the truth")))

# %% [markdown]
# Several noises explain one review, so there are several counterfactuals, one a draw. What do they change, and does the
# judge find the other sentiment in them?

# %%
texts = [review.text, *[draft.text for draft in drafts]]
told = {"words changed": [edit_share(review.text, text) for text in texts], "log odds, positive": judge.logit(texts)}
pd.DataFrame(told | {"text": texts}, ["the review", *range(1, len(texts))]).round(2)

# %% [markdown]
# `similarity` says how much of the review's noise is kept: all of it is hindsight, none of it a fresh review of
# the other sentiment. In between lies a dial from edit to rewrite.

# %%
similarities = (0.0, 0.5, 1.0) if FAST else (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
changed = {}
for similarity in similarities:
    drafts = author.write(author.counterfactuals(read_counterfactual_request(asked | {"similarity": similarity})))
    changed[similarity] = [edit_share(review.text, draft.text) for draft in drafts]
axes = pd.DataFrame(changed).boxplot(figsize=(5.4, 2.8), color="gray")
_ = axes.set(xlabel="similarity", ylabel="words changed", ylim=(-0.02, 1.02))

# %%
folder.cleanup()

# %% [markdown]
# > Counterfactual texts assume the Gumbel-max noise model. Data cannot identify it; other models with the same heads
# > give other counterfactuals (arXiv 2111.06888, 2509.22297).
#
# **Further:** the same requests from the command line are `nano-llm generate` and `nano-llm counterfactual`; all knobs
# and rules stand in `docs/generation.md`, and `experiments/pairs` has these figures for the model of `make demo`.
