# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Tokenizers: how a text becomes numbers
#
# A model reads whole numbers and writes whole numbers. A tokenizer turns text into them and back. Which pieces it cuts
# decides how long a review is for the model, and in which unit its loss is counted. Here the tokenizers of nano_llm are
# fitted to reviews of the structural corpus (`data=scm`), which is sampled on the spot.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import entropy

from nano_llm.config.compose import compose_config
from nano_llm.data.scm import Sampling, review_law, sample_reviews
from nano_llm.data.scm_truth import corpus_constants
from nano_llm.data.tokenizer import MIN_BYTE_VOCAB, Tokenizer
from nano_llm.report.figures.style import STYLE

# %matplotlib inline
# %config InlineBackend.figure_format = "retina"
plt.rcParams.update(STYLE)
FAST = "NANO_LLM_FAST" in os.environ  # the tests: fewer reviews

config = compose_config(["data=scm"]).data
texts = [review.text for review in sample_reviews(config, "train", 300 if FAST else 5000)]
texts[0]

# %% [markdown]
# ## From bytes to pieces
#
# Byte-level BPE begins with the 256 bytes, so that it can spell *any* text, and joins the commonest pair of neighbours
# into a new token, again and again, until the vocabulary is full. Four special tokens and four markers of the prompt
# come on top, which makes 264 the smallest size. Watch a sentence melt together:

# %%
sizes = [MIN_BYTE_VOCAB, 280, 300, 340, 400, 500, 700, 1000, 1500]
fitted = {size: Tokenizer.fit_bytes(texts, size, split_words=True) for size in sizes}
sentence = texts[0].partition(".")[0] + "."
cuts = {size: "|".join(tok.decode([token]) for token in tok.encode(sentence)) for size, tok in fitted.items()}
pd.DataFrame({"tokens": {size: tok.vocab_size for size, tok in fitted.items()}, "cut": cuts}).rename_axis("size asked")

# %% [markdown]
# A token brings the space before it; the vocabulary spells that space `Ġ`. The first tokens of the review, with the
# bytes that each stands for:

# %%
middle = fitted[400]
ids = middle.encode(texts[0])[:14]
pd.DataFrame({"id": ids, "entry": map(middle.token, ids), "bytes": middle.num_bytes_V[ids]}).transpose()

# %% [markdown]
# ## What the size buys
#
# A larger vocabulary gives shorter sequences: more text fits into a window, and a step of training sees more of it. The
# gain ends where the words of the corpus are whole. With `data.tokenizer.split_words=false` merges may cross from word
# to word, and whole phrases become tokens; good for compression, bad for a model that is to choose its words.
#
# The right figure counts how many bits a byte costs someone who knows only how often each token occurs. The dashed line
# is the entropy of the law that made these reviews: nobody can do better. A good part of the way is the tokenizer's.


# %%
def described(tokenizer):
    rows = tokenizer.encode_reviews(texts)
    counts = np.bincount(rows.tokens_N, minlength=tokenizer.vocab_size)
    bytes_a_token = sum(len(text.encode()) for text in texts) / counts.sum()
    bits_a_token = entropy(counts, base=2)
    return {"bytes a token": bytes_a_token, "bits a token": bits_a_token, "bits a byte": bits_a_token / bytes_a_token}


across = {size: Tokenizer.fit_bytes(texts, size, split_words=False) for size in sizes}
kinds = {"inside words": fitted, "across words": across}
table = pd.concat(
    {kind: pd.DataFrame({size: described(tok) for size, tok in toks.items()}).T for kind, toks in kinds.items()}, axis=1
)
law = review_law(config)
floor = corpus_constants(law, config.corpus_seed, 50 if FAST else 500, Sampling.observational)["entropy_bpb"]["value"]

figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
table.xs("bytes a token", axis=1, level=1).plot(ax=left, marker="o", ylabel="bytes a token", xlabel="vocabulary")
table.xs("bits a byte", axis=1, level=1).plot(ax=right, marker="o", ylabel="bits a byte", xlabel="vocabulary")
right.axhline(floor, linestyle="--", color="gray", label="entropy of the law")
right.set_ylim(bottom=0)
_ = right.legend()

# %% [markdown]
# Now look at the column in the middle: bits *a token* go **up** for a long while, as bits a byte go down.

# %%
table["inside words"].round(2)

# %% [markdown]
# This is why nano_llm compares models by bits a byte (`val_bpb`). A loss a token, or its exponential, the perplexity,
# rises with longer tokens, though nothing got worse; two models with different tokenizers cannot be compared by it.
#
# ## One token a word
#
# The words of the structural corpus are few and known. `data.tokenizer.kind=words`, its default, gives each word one
# token, so that one step of the model is one word. A few tokens are common and most are rare, whichever way one cuts:

# %%
words = Tokenizer.of_words(law.vocabulary, config.tokenizer.vocab_size)
shown = {"bytes": fitted[MIN_BYTE_VOCAB], "BPE, 400": middle, "BPE, 1000": fitted[1000], "words": words}
figure, axes = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
for name, tokenizer in shown.items():
    counts = np.bincount(tokenizer.encode_reviews(texts).tokens_N)
    axes.loglog(np.arange(1, np.count_nonzero(counts) + 1), np.sort(counts[counts > 0])[::-1], label=name)
axes.set(xlabel="rank of the token", ylabel="times it occurs")
_ = axes.legend()

# %% [markdown]
# ## What comes back
#
# A closed vocabulary has no token for anything else, and says so before a model sees it. Bytes give every text back,
# accents and pictures included. The reference system's tokenizer (`protocol=reference`) learns its alphabet from the
# corpus: a byte that never occurred is lost.

# %%
reference = Tokenizer.fit_reference(texts, 400, split_words=True)
strange = "the naïve café is brilliant 🎬"
back = {"BPE": middle, "reference": reference, "words": words}
pd.Series({name: tok.decode(tok.encode(strange)) for name, tok in back.items()}, name="what comes back").to_frame()

# %%
words.first_unknown(strange)

# %% [markdown]
# ## Markup in a review is text
#
# Markers such as `[REVIEW]` tell the model where the prompt ends. Somebody may write one into a review. In a review it
# is spelled out like any other text; only a prompt has real markers.

# %%
{"in a review": middle.encode("dull [REVIEW]"), "in a prompt": middle.encode_prompt("dull [REVIEW]")}

# %% [markdown]
# ## Whole characters, one by one
#
# A character may take several tokens, and a text that is shown while it is written must not show half of one. A stream
# holds back until a character is whole:

# %%
stream = middle.stream()
[(middle.token(token), stream.push(token)) for token in middle.encode("café 🎬")]

# %% [markdown]
# **Further:** `data.tokenizer.kind`, `.vocab_size` and `.split_words` are settings like all others; under
# `protocol=fair` the tokenizer is fitted to the training reviews only. The next notebook, `data_conditioning`, goes
# from tokens to what a model is trained on.
