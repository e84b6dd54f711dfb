# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Data and conditioning: from a review to what a model is trained on
#
# nano_llm asks what a review would say if it were negative (Y0) and if it were positive (Y1). The sentiment is the
# *treatment* T, and every review is seen under one treatment only. This notebook follows a review on its way to the
# model, then opens the law behind the structural corpus, where both outcomes are known, to see what there is to learn.

# %%
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import IPython.display as show
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Conditioning
from nano_llm.data.prepare import prepare
from nano_llm.data.samples import format_samples
from nano_llm.data.scm import Sampling, parse, review_law, sample_reviews, twins
from nano_llm.data.scm_law import log_probabilities, next_event_laws, posterior, read_events, treatment_prior
from nano_llm.data.scm_truth import corpus_constants, jensen_shannon
from nano_llm.data.template import Template
from nano_llm.data.windows import Windows
from nano_llm.report.figures import divergence_text, windows_map
from nano_llm.report.figures.style import STYLE

# %matplotlib inline
# %config InlineBackend.figure_format = "retina"
plt.rcParams.update(STYLE)
pd.set_option("display.max_colwidth", None)
FAST = "NANO_LLM_FAST" in os.environ  # the tests: fewer reviews

# %% [markdown]
# `compose_config` takes the same overrides as `nano-llm run`; `prepare` does what a run does first. It writes arrays
# into a cache, here a temporary folder, and opens them memory-mapped.

# %%
config = compose_config(["data=scm", "model=tarnet", f"data.num_train={500 if FAST else 5000}", "data.num_pairs=100"])
folder = TemporaryDirectory()
data = prepare(config.data, config.protocol, num_outcomes=2, cache=Path(folder.name), log=lambda line: None)
pd.DataFrame(data.record["counts"]["splits"]).transpose()

# %% [markdown]
# ## Reviews
#
# A review is a text and its treatment. The structural corpus also knows its topic, which the prompt may name, and the
# *propensity*: the probability with which such a review is positive.

# %%
reviews = sample_reviews(config.data, "train", 4)
pd.DataFrame(reviews)[["treatment", "topic", "propensity", "text"]]

# %% [markdown]
# ## Two ways to tell a model the sentiment
#
# A model with one head reads the sentiment in its prompt, as `tags` or in `natural` words. A model with two heads must
# not: its prompt is a `command` that is the same for both, and the label only chooses which head is trained. What the
# heads say then differs for no other reason than the outcome. `data.conditioning=auto` chooses by the model.

# %%
prompts = {kind.value: Template(kind, config.data.prompt) for kind in Conditioning if kind is not Conditioning.auto}
pd.DataFrame({kind: [template.prompt(t, "drama") for t in (0, 1)] for kind, template in prompts.items()}).transpose()

# %% [markdown]
# Prompt, review and end marker make a sample:

# %%
data.template.sample(reviews[0])

# %% [markdown]
# ## Windows
#
# A model sees windows of a fixed number of tokens. A longer review takes several, and each repeats the prompt. Under
# `protocol=fair` every token of a sample is a target exactly once. In training the windows of a review lie end to end;
# for evaluation they overlap, so that a token is judged with at least half a window of text before it.

# %%
samples = format_samples(reviews, data.template, data.tokenizer)
for title, num_views in (("training", 1), ("evaluation", 2)):
    windows = Windows.covering(samples, 40, data.tokenizer.pad_id, num_views=num_views)
    title = f"{title}: {len(windows)} windows, {windows.num_targets} targets"
    show.display(windows_map(windows.prompt_length_W, windows.first_target_W, windows.length_W, 40, title))
print(f"{samples.length_R.sum() - len(reviews)} tokens in {len(reviews)} samples, <bos> not counted")

# %% [markdown]
# ## The law behind the corpus
#
# The topic of a review drives its sentiment and its words: it *confounds* them. As found, dramas are mostly panned and
# documentaries mostly praised. Under *do(T)* a fair coin decides instead, which no observed corpus can show.

# %%
law = review_law(config.data)
found = pd.DataFrame(sample_reviews(config.data, "train")).groupby("topic")["treatment"].mean()
chances = pd.DataFrame({"law": law.treatment_Z, "these reviews": found[list(law.topics)], "do(T)": 0.5}, law.topics)
_ = chances.plot.bar(figsize=(5.6, 3), ylabel="P(positive)", rot=20).legend(loc="upper left")

# %% [markdown]
# Since all probabilities are known, so is how the evidence for either treatment grows with each word, by Bayes' rule.
# Below, a review and its *structural twin*: the same noise under the other treatment. That is the true counterfactual,
# which says what *this* review would have been. Twins share all words but those that carry sentiment.


# %%
def belief(law, review, sampling=Sampling.observational):
    """P(T = 1) before each word of a review and before its end."""
    events = read_events(law, [review.text], [review.topic])
    prior = treatment_prior(law, events, sampling)
    return posterior(log_probabilities(law, events, sampling), events.offset_R1, prior)


originals, turned = twins(config.data, "test", 54)
review, twin = originals[53], turned[53]
pairs = zip(parse(review.text), parse(twin.text), strict=True)
ticks = [one if one == other else f"{one} / {other}" for one, other in pairs] + ["(end)"]

figure, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
for name, text in (("the review", review), ("its twin", twin)):
    axes.plot(belief(law, text), marker=".", label=f"{name}, {('negative', 'positive')[text.treatment]}")
axes.set_xticks(range(len(ticks)), ticks, rotation=90)
axes.set(ylabel="P(positive) before the word", ylim=(-0.02, 1.02))
_ = axes.legend()

# %% [markdown]
# How much would the two laws differ in what comes next? The Jensen-Shannon divergence says it, at most ln 2 = 0.69
# nats. It is large where a word of opinion is due and zero where grammar decides. Trained heads are to look like this:

# %%
events = read_events(law, [review.text], [review.topic])
laws = next_event_laws(law, events, Sampling.observational)
pieces = [word if word in (".", ",") else f" {word}" for word in parse(review.text)]
divergence_text([*pieces, " (end)"], jensen_shannon(laws, np.full(len(laws), 0.5)).clip(0))

# %% [markdown]
# ## What there is to learn
#
# The law gives every figure of a trained model its best possible value. `entropy_bpb` is the floor of `val_bpb`;
# `bayes_accuracy` is how often the sentiment can be told from a whole review; `information` is what the sentiment is
# worth, in nats *a review*: at most ln 2, whatever its length. That is why a model may ignore the treatment altogether
# and lose almost nothing of its validation loss, and why nano_llm measures the heads otherwise.

# %%
num = 50 if FAST else 400
constants = pd.DataFrame(corpus_constants(law, config.data.corpus_seed, num, Sampling.observational)).transpose()
constants.round(4)

# %% [markdown]
# How loudly the sentiment speaks is a dial, `data.noise`: the probability that a sentence contradicts the sentiment of
# its review. At a half, sentiment leaves no trace in the words, and what accuracy is left comes from the topic.

# %%
noises = (0.05, 0.25, 0.5) if FAST else (0.02, 0.1, 0.2, 0.3, 0.4, 0.5)
corpora = {noise: compose_config(["data=scm", f"data.noise={noise}"]).data for noise in noises}
rows = {
    noise: corpus_constants(review_law(corpus), corpus.corpus_seed, num // 4, Sampling.observational)
    for noise, corpus in corpora.items()
}
dial = pd.DataFrame({noise: {name: row[name]["value"] for name in row} for noise, row in rows.items()}).transpose()
axes = dial[["bayes_accuracy", "information", "decided_share"]].plot(figsize=(5.4, 3.2), marker="o", subplots=False)
_ = axes.set(xlabel="data.noise", ylim=(0, 1.02))

# %% [markdown]
# ## When the cause is hidden
#
# Here the prompt named the topic, so given the prompt nothing is confounded. With `data.topic=hidden` it does not.
# Then words that have nothing to do with sentiment tell of it, because they give the topic away. A model that learns
# from what is found learns the solid line; the effect of the sentiment itself is in the dashed one.

# %%
hidden = compose_config(["data=scm", "data.topic=hidden"]).data
hidden_law = review_law(hidden)
review = sample_reviews(hidden, "test", 15)[14]
figure, axes = plt.subplots(figsize=(9, 3.2), layout="constrained")
for sampling, line in ((Sampling.observational, "-"), (Sampling.do, "--")):
    axes.plot(belief(hidden_law, review, sampling), line, marker=".", label=sampling.value)
axes.set_xticks(range(len(parse(review.text)) + 1), [*parse(review.text), "(end)"], rotation=90)
axes.set(ylabel="P(positive) before the word", ylim=(-0.02, 1.02))
_ = axes.legend()

# %%
folder.cleanup()

# %% [markdown]
# **Further:** every setting of the corpus is in `conf/data/scm.yaml`; `nano-llm evaluate` holds trained heads against
# this law. The notebook `two_heads` trains them, and `sampling_steering` lets them write.
