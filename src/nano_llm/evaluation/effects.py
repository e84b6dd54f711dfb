"""What the treatment does to generated texts, against what it does by the law, and what it must not do.

The law's effect on a feature is E f(Y1) - E f(Y0) under do(T). Topic, aspects and style do not depend on the treatment
there, so their footprints must not differ between outcomes that answer the same prompts; where they do, the model has
taken a common cause for an effect. Style itself cannot be seen in a text: its footprints are templates and length.

Axes: R prompts, N texts: R under outcome 0, then R under outcome 1, text r of both to prompt r; L lines of a review,
V vocabulary, S slots, Z topics, A aspects, M templates, U templates and one more for all that is none, X values of a
feature, D permutations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from nano_llm.data import scm
from nano_llm.data.arrays import BoolArray, FloatArray, IntArray
from nano_llm.data.scm import SILENT, Records, ReviewLaw
from nano_llm.evaluation.bootstrap import Interval, ratio_interval, statistic_interval
from nano_llm.evaluation.measured import Measured, absolute
from nano_llm.evaluation.text_sample import TextSample

NUM_DRAWS = 204_800
"""Reviews, each under both treatments, that the law's effects are averaged over."""
NUM_PERMUTATIONS = 200
_PART = 20_480  # reviews in memory at a time

_TOPIC, _ASPECT, _POLARITY = 0, 2, 3  # axes of `ReviewLaw.emissions`
_OPINIONS = ("V", "O", "W")
_STOPS = (".", ",")


@dataclass(frozen=True)
class Features:
    """Of N texts."""

    num_words_N: IntArray  # "." and "," not counted
    num_sentences_N: IntArray  # one that was cut counts
    num_positive_N: IntArray  # opinion words of praise
    topic_NZ: IntArray  # nouns of each topic
    aspect_NA: IntArray  # nouns of each aspect
    template_NU: IntArray  # sentences of each template

    @property
    def positive_N(self) -> FloatArray:
        """Words of praise a sentence."""
        return _per_sentence(self.num_positive_N, self.num_sentences_N)


@dataclass(frozen=True)
class Effect:
    """E f(Y1) - E f(Y0) by the law."""

    value: float
    standard_error: float  # of the draws


def measure_effects(law: ReviewLaw, generated: TextSample) -> Measured:
    """Compare the outcomes of a model.

    Prompts are the units of all intervals.

    Args:
        law: Of the reviews that the model was trained on.
        generated: By the model, to the same prompts under both outcomes.
    """
    features = read_features(law, generated.texts)
    figures: dict[str, Interval] = {}
    details: dict[str, Any] = {"permutations": NUM_PERMUTATIONS, "draws": NUM_DRAWS}
    values = {"length": features.num_words_N, "positive": features.positive_N}
    for name, value_N in values.items():
        negative_R, positive_R = np.split(value_N, 2)
        effect, truth = positive_R - negative_R, true_effects(law)[name]
        figures[f"ate_error_{name}"] = absolute(ratio_interval(effect - truth.value, np.ones(len(effect))))
        details[f"effect_on_{name}"] = {
            "model": float(effect.mean()), "law": truth.value, "standard_error_of_law": truth.standard_error,
        }  # fmt: skip
    counts = {"topic": features.topic_NZ, "aspect": features.aspect_NA}
    if np.array_equal(law.stop_JSK[..., 0], law.stop_JSK[..., 1]):
        # Where the treatment acts on length, it acts on the share of sentences of each style, and so on templates.
        counts["template"] = features.template_NU
    for name, count_NX in counts.items():
        negative_RX, positive_RX = np.split(count_NX, 2)
        if negative_RX.any() and positive_RX.any():
            figures[f"null_leakage_{name}"] = leakage(negative_RX, positive_RX)
    columns = {"words": features.num_words_N, "sentences": features.num_sentences_N} | {
        "positive": features.num_positive_N, "unknown_sentences": features.template_NU[:, -1],
    }  # fmt: skip
    return Measured(figures, generated.frame("generated").assign(**columns), details)


def leakage(negative_RX: IntArray, positive_RX: IntArray) -> Interval:
    """Return the total variation of a feature's distributions under the outcomes, less its mean by chance.

    Chance is a fair coin for each prompt that swaps its two texts. In a draw of the bootstrap the copies of a prompt
    are swapped together: apart they would vary less than the draw itself does, and nothing would look like something.

    Args:
        negative_RX: How often each value occurs in each text under outcome 0; some do.
        positive_RX: The same under outcome 1.
    """
    num = len(negative_RX)
    swapped_DR = np.random.default_rng(0).integers(2, size=(NUM_PERMUTATIONS, num)).astype(np.float64)
    difference_RX = (positive_RX - negative_RX).astype(np.float64)

    def excess(row_R: IntArray) -> float:
        times_R = np.bincount(row_R, minlength=num).astype(np.float64)
        negative_X, positive_X = times_R @ negative_RX, times_R @ positive_RX
        moved_DX = (swapped_DR * times_R) @ difference_RX
        by_chance = _total_variation(negative_X + moved_DX, positive_X - moved_DX).mean()
        return float(_total_variation(negative_X, positive_X) - by_chance)

    return statistic_interval([np.arange(num)], excess)


def _total_variation(count_X: FloatArray, other_X: FloatArray) -> FloatArray:
    """Return the distance (0 to 1) of distributions along the last axis, from counts."""
    share, other_share = (count / np.maximum(count.sum(-1, keepdims=True), 1) for count in (count_X, other_X))
    distance: FloatArray = np.abs(share - other_share).sum(-1) / 2
    return distance


# ---------------------------------------------------------------------------------------------- law


@lru_cache(maxsize=4)
def true_effects(law: ReviewLaw) -> dict[str, Effect]:
    """Return the effects of the treatment on ``length`` (words) and ``positive`` (words of praise a sentence).

    Averaged over draws under both treatments with the same noise, so what the treatment leaves alone cancels.
    """
    parts: dict[str, list[FloatArray]] = {"length": [], "positive": []}
    for part in range(NUM_DRAWS // _PART):
        noise = scm.draw_noise(law, 0, f"effects-{part}", _PART)
        negative, positive = (_of_records(law, scm.sample_records(law, noise, np.full(_PART, k))) for k in (0, 1))
        for name, differences in parts.items():
            differences.append(positive[name] - negative[name])
    pooled = {name: np.concatenate(differences) for name, differences in parts.items()}
    return {
        name: Effect(float(effect_N.mean()), float(effect_N.std() / np.sqrt(NUM_DRAWS)))
        for name, effect_N in pooled.items()
    }


def _of_records(law: ReviewLaw, records: Records) -> dict[str, FloatArray]:
    # SILENT is -1, so the last entry of a table stands for it.
    num_words_M = np.array([*(sum(item not in _STOPS for item in template) for template in law.templates), 0])
    is_positive_V = np.append(_is_positive(law), False)
    num_positive_N = is_positive_V[records.word_NLP].sum(axis=(1, 2))
    return {
        "length": num_words_M[records.template_NL].sum(axis=1).astype(np.float64),
        "positive": _per_sentence(num_positive_N, (records.template_NL != SILENT).sum(axis=1)),
    }


# --------------------------------------------------------------------------------------------- texts


def read_features(law: ReviewLaw, texts: Sequence[str]) -> Features:
    """Read texts by their words; those that the law does not know count as words and make a sentence no template."""
    column = {word: index for index, word in enumerate(law.vocabulary)}
    slot_of = {law.vocabulary[v]: slot for slot in law.emissions for v in np.flatnonzero(_in_slot(law, slot))}
    template_of = {template: m for m, template in enumerate(law.templates)}
    topic_V, aspect_V, is_positive_V = _telling(law, "Z", _TOPIC), _telling(law, "A", _ASPECT), _is_positive(law)
    num = len(texts)
    num_words_N, num_sentences_N, num_positive_N = (np.zeros(num, np.int64) for _ in range(3))
    topic_NZ = np.zeros((num, len(law.topic_Z)), np.int64)
    aspect_NA = np.zeros((num, law.aspect_ZA.shape[1]), np.int64)
    template_NU = np.zeros((num, len(law.templates) + 1), np.int64)
    for n, text in enumerate(texts):
        words = scm.parse(text)
        num_words_N[n] = sum(word not in _STOPS for word in words)
        for sentence in _sentences(words):
            num_sentences_N[n] += 1
            template_NU[n, template_of.get(tuple(slot_of.get(word, word) for word in sentence), -1)] += 1
        known = np.array([column[word] for word in words if word in column], np.int64)
        num_positive_N[n] = is_positive_V[known].sum()
        for count_NX, value_V in ((topic_NZ, topic_V), (aspect_NA, aspect_V)):
            value = value_V[known]
            np.add.at(count_NX[n], value[value != SILENT], 1)
    return Features(num_words_N, num_sentences_N, num_positive_N, topic_NZ, aspect_NA, template_NU)


def _sentences(words: Sequence[str]) -> list[list[str]]:
    sentences: list[list[str]] = [[]]
    for word in words:
        sentences[-1].append(word)
        if word == ".":
            sentences.append([])
    return [sentence for sentence in sentences if sentence]


def _in_slot(law: ReviewLaw, slot: str) -> BoolArray:
    """Return which words (V,) can stand in a slot."""
    inside_V: BoolArray = np.any(law.emissions[slot] > 0, axis=(0, 1, 2, 3))
    return inside_V


def _telling(law: ReviewLaw, slot: str, axis: int) -> IntArray:
    """Return the one value of a cause that each word (V,) of a slot occurs under; SILENT if it has several or none."""
    if slot not in law.emissions:
        return np.full(len(law.vocabulary), SILENT)
    others = tuple(other for other in range(4) if other != axis)
    occurs_XV = (law.emissions[slot] > 0).any(axis=others)
    return np.where(occurs_XV.sum(axis=0) == 1, occurs_XV.argmax(axis=0), SILENT)


def _is_positive(law: ReviewLaw) -> BoolArray:
    """Return which words (V,) are opinions that only a positive sentence holds."""
    polarity_SV = np.stack([_telling(law, slot, _POLARITY) for slot in _OPINIONS])
    is_positive_V: BoolArray = np.any(polarity_SV == 1, axis=0)
    return is_positive_V


def _per_sentence(num_N: IntArray, num_sentences_N: IntArray) -> FloatArray:
    rate_N: FloatArray = num_N / np.maximum(num_sentences_N, 1)
    return rate_N
