"""The structural review corpus: reviews sampled from a law that is known exactly.

Graph: topic Z -> {treatment T, aspects, topic nouns, sense of the ambiguous words}; style S -> {templates,
length, connectives}; T -> polarity of each sentence -> its opinion words (and length, if so configured). The
topic confounds treatment and words; a proxy W of it may stand in the prompt.

A text: "the plot is dull. this cast shines. overall, the story is very memorable."

A `ReviewLaw` holds every parameter. `Noise` holds every exogenous draw, and given both the treatment decides
the rest: the same noise under the other treatment is a text's structural twin.

Axes: N reviews, Z topics, W topics as the proxy names them, S styles (terse, chatty), K treatments,
A aspects, R polarities (negative, positive), J sentences, L lines (the J sentences, then the verdict if there
is one), M templates (the verdict's last), P slots (`SLOTS`), V vocabulary, X ambiguous words.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from nano_llm.config.schema import ScmConfig, ScmLexicon, ScmTopic
from nano_llm.data.arrays import FloatArray
from nano_llm.data.review import Review
from nano_llm.data.scm_lexicon import TOPICS, VERDICT, Lexicon, default_lexicon, tiny_lexicon

IntArray = NDArray[np.int64]

SLOTS = ("A", "Z", "I", "V", "C", "F", "O", "W")
SILENT = -1  # in records: a line or a slot that the text does not contain

# Shares of the opinion slot: words of the sentence's polarity, neutral words, ambiguous words.
_POLAR, _NEUTRAL, _AMBIGUOUS = 0.70, 0.15, 0.15

_RAREST = 0.05  # propensities are clipped to [0.05, 0.95], so no review weighs more than ten

_BLOCK = 1024  # reviews that share a seed sequence; changing it changes every corpus


class Sampling(Enum):
    """What decides the treatment: the topic, as in observed data, or a fair coin."""

    observational = "observational"
    do = "do"


# ------------------------------------------------------------------------------------------------ law


@dataclass(frozen=True, slots=True, eq=False)
class ReviewLaw:
    """All parameters of the law of a review; every array holds probabilities."""

    topics: tuple[str, ...]
    vocabulary: tuple[str, ...]  # all words of texts, "." and "," included
    templates: tuple[tuple[str, ...], ...]  # fixed words and slots of a line
    prompt_topic: ScmTopic  # what the prompt tells of the topic
    flip: float  # P(a line's polarity contradicts the treatment)
    topic_Z: FloatArray
    style_S: FloatArray
    treatment_Z: FloatArray  # P(T = 1 | Z)
    proxy_ZW: FloatArray
    aspect_ZA: FloatArray
    stop_JSK: FloatArray  # P(stop after this sentence | reached); 1 in the last row
    template_LSM: FloatArray
    emissions: Mapping[str, FloatArray]  # slot: word law of shape (Z|1, S|1, A|1, R|1, V)


def review_law(config: ScmConfig) -> ReviewLaw:
    """The law that a configuration describes."""
    lexicon = tiny_lexicon() if config.lexicon is ScmLexicon.tiny else default_lexicon()
    texts = [*lexicon.templates, *([VERDICT] if config.verdict else [])]
    templates = tuple(tuple(text.split()) for text in texts)
    vocabulary = _vocabulary(templates, lexicon)
    num_topics = len(TOPICS)
    tendency_Z = _sigmoid(config.confounding * np.linspace(-1, 1, num_topics))
    missed = (1 - config.proxy_accuracy) / (num_topics - 1)
    return ReviewLaw(
        topics=TOPICS,
        vocabulary=vocabulary,
        templates=templates,
        prompt_topic=config.topic,
        flip=0.5 - config.effect * (0.5 - config.noise),
        topic_Z=np.full(num_topics, 1 / num_topics),
        style_S=np.full(2, 1 / 2),
        treatment_Z=np.clip(tendency_Z, config.overlap, 1 - config.overlap),
        proxy_ZW=np.where(np.eye(num_topics, dtype=bool), config.proxy_accuracy, missed),
        aspect_ZA=lexicon.aspect_ZA,
        stop_JSK=_stop_law(config),
        template_LSM=_template_law(config, lexicon, templates),
        emissions={slot: _emission(slot, lexicon, vocabulary) for slot in _slots_in(templates)},
    )


def _sigmoid(x: FloatArray) -> FloatArray:
    return (1 + np.tanh(x / 2)) / 2  # cannot overflow


def _slots_in(templates: Sequence[tuple[str, ...]]) -> list[str]:
    return [slot for slot in SLOTS if any(slot in template for template in templates)]


def _vocabulary(templates: Sequence[tuple[str, ...]], lexicon: Lexicon) -> tuple[str, ...]:
    """Fixed words, then the lists of the slots in use.

    The order makes twins minimal: the lists of the two polarities come before what they share, so one uniform
    meets the same rank in either.
    """
    fixed = [item for template in templates for item in template if item not in SLOTS]
    listed = [word for slot in _slots_in(templates) for words in lexicon.lists[slot] for word in words]
    return tuple(dict.fromkeys(fixed + listed))


def _stop_law(config: ScmConfig) -> FloatArray:
    chance_S = np.array([config.stop_terse, config.stop_chatty])
    logit_S = np.log(chance_S) - np.log1p(-chance_S)
    stop_JSK = np.zeros((config.max_sentences, 2, 2))
    stop_JSK[config.min_sentences - 1 :] = _sigmoid(logit_S[:, None] - config.length_effect * np.array([-0.5, 0.5]))
    stop_JSK[-1] = 1
    return stop_JSK


def _template_law(config: ScmConfig, lexicon: Lexicon, templates: Sequence[tuple[str, ...]]) -> FloatArray:
    """Law of each line's template, shape (L, S, M).

    Before a verdict the first sentence names its aspect, which the verdict will take up again.
    """
    law_SM = np.array(list(lexicon.templates.values())).T
    if not config.verdict:
        return np.tile(law_SM, (config.max_sentences, 1, 1))
    law_SM = np.pad(law_SM, ((0, 0), (0, 1)))
    template_LSM = np.tile(law_SM, (config.max_sentences + 1, 1, 1))
    template_LSM[0] *= ["A" in template for template in templates]
    template_LSM[0] /= template_LSM[0].sum(axis=-1, keepdims=True)
    template_LSM[-1] = np.eye(len(templates))[-1]
    return template_LSM


def _emission(slot: str, lexicon: Lexicon, vocabulary: Sequence[str]) -> FloatArray:
    """Law of the word in a slot, shape (Z|1, S|1, A|1, R|1, V): an axis is 1 where nothing depends on it."""
    lists = lexicon.lists[slot]
    rows = _zipf_rows(lists, vocabulary)
    match slot:
        case "A":
            return rows[None, None, :, None]
        case "Z":
            own_ZV, common_V = rows[: len(TOPICS)], rows[len(TOPICS) :].sum(axis=0)
            law_ZV: FloatArray = (1 - lexicon.common_share) * own_ZV + lexicon.common_share * common_V
            return law_ZV[:, None, None, None]
        case "C":
            chatty = _zipf_rows([lists[0][::-1]], vocabulary)
            return np.concatenate([rows, chatty])[None, :, None, None]
        case "O":
            return _opinion_law(lexicon, vocabulary)[:, None, None]
        case _:  # one list, or one a polarity
            return rows[None, None, None]


def _opinion_law(lexicon: Lexicon, vocabulary: Sequence[str]) -> FloatArray:
    """Law of the opinion word, shape (Z, R, V).

    The ambiguous words that praise in a topic are those that blame least there: one word, opposite senses.
    """
    polar_neutral = _zipf_rows(lexicon.lists["O"][:3], vocabulary)
    praise_ZX = lexicon.ambiguous_ZX
    blame_ZX = (1 - praise_ZX) / (praise_ZX.shape[1] - 1)
    columns = [vocabulary.index(word) for word in lexicon.lists["O"][3]]
    law_ZRV = np.tile(_POLAR * polar_neutral[:2] + _NEUTRAL * polar_neutral[2], (len(TOPICS), 1, 1))
    law_ZRV[..., columns] += _AMBIGUOUS * np.stack([blame_ZX, praise_ZX], axis=1)
    return law_ZRV


def _zipf_rows(lists: Sequence[Sequence[str]], vocabulary: Sequence[str]) -> FloatArray:
    """Zipf law on each list, P(rank i) proportional to 1/i: one row a list, shape (lists, V)."""
    law = np.zeros((len(lists), len(vocabulary)))
    for row, words in zip(law, lists, strict=True):
        weight = 1 / np.arange(1, len(words) + 1)
        row[[vocabulary.index(word) for word in words]] = weight / weight.sum()
    return law


# ---------------------------------------------------------------------------------------------- noise


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """The exogenous draws of N reviews: independent uniforms on [0, 1), one for each thing left to chance."""

    topic_N: FloatArray
    proxy_N: FloatArray
    style_N: FloatArray
    treatment_N: FloatArray
    stop_NJ: FloatArray
    aspect_NL: FloatArray
    template_NL: FloatArray
    flip_NL: FloatArray
    word_NLP: FloatArray


def draw_noise(law: ReviewLaw, seed: int, split: str, num_reviews: int) -> Noise:
    """The noise of the first reviews of a split; a larger number extends a smaller one.

    Args:
        law: Decides how many lines a review may have.
        seed: Seed of the corpus.
        split: Any name; each has a stream of its own.
        num_reviews: N.
    """
    num_blocks = -(-num_reviews // _BLOCK)
    blocks = [_noise_block(law, seed, split, block) for block in range(num_blocks)]
    return Noise(
        **{
            field.name: np.concatenate([getattr(block, field.name) for block in blocks])[:num_reviews]
            for field in fields(Noise)
        }
    )


def _noise_block(law: ReviewLaw, seed: int, split: str, block: int) -> Noise:
    key = (zlib.crc32(split.encode()), block)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    num_sentences, num_lines = len(law.stop_JSK), len(law.template_LSM)
    return Noise(
        topic_N=rng.random(_BLOCK),
        proxy_N=rng.random(_BLOCK),
        style_N=rng.random(_BLOCK),
        treatment_N=rng.random(_BLOCK),
        stop_NJ=rng.random((_BLOCK, num_sentences)),
        aspect_NL=rng.random((_BLOCK, num_lines)),
        template_NL=rng.random((_BLOCK, num_lines)),
        flip_NL=rng.random((_BLOCK, num_lines)),
        word_NLP=rng.random((_BLOCK, num_lines, len(SLOTS))),
    )


# ------------------------------------------------------------------------------------------- mechanism


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """The events of N reviews as indices; `SILENT` stands for what a text does not contain."""

    topic_N: IntArray  # Z
    proxy_N: IntArray  # W
    style_N: IntArray  # S: 0 terse, 1 chatty
    treatment_N: IntArray  # T: 0 negative, 1 positive
    num_sentences_N: IntArray  # verdict not counted
    aspect_NL: IntArray  # a
    polarity_NL: IntArray  # r; drawn also for lines that have no word of opinion
    template_NL: IntArray  # m
    word_NLP: IntArray  # index into the vocabulary


def sample_records(law: ReviewLaw, noise: Noise, treatment: Sampling | IntArray = Sampling.observational) -> Records:
    """Run the mechanism on given noise.

    Args:
        law: The parameters.
        noise: The exogenous draws of N reviews.
        treatment: How the treatment comes about, or its N values. `1 - records.treatment_N` with the noise
            of `records` gives the structural twins: texts that differ in V, O and W words only (and in
            length, if the treatment acts on it).
    """
    num_sentences, num_lines = len(law.stop_JSK), len(law.template_LSM)
    line_L = np.arange(num_lines)
    topic_N = _draw(law.topic_Z[None], 0, noise.topic_N)
    style_N = _draw(law.style_S[None], 0, noise.style_N)
    treatment_N = _assign(law, noise, topic_N, treatment) if isinstance(treatment, Sampling) else treatment
    stop_NJ = noise.stop_NJ < law.stop_JSK[:, style_N, treatment_N].T
    num_sentences_N = stop_NJ.argmax(axis=1) + 1

    aspect_NL = _draw(law.aspect_ZA, topic_N[:, None], noise.aspect_NL)
    aspect_NL[:, num_sentences:] = aspect_NL[:, :1]  # the verdict returns to the first sentence's aspect
    polarity_NL = treatment_N[:, None] ^ (noise.flip_NL < law.flip)
    law_XM = law.template_LSM.reshape(-1, len(law.templates))
    template_NL = _draw(law_XM, line_L * len(law.style_S) + style_N[:, None], noise.template_NL)
    parents = (topic_N[:, None], style_N[:, None], aspect_NL, polarity_NL)
    word_NLP = _draw_words(law, noise, parents, template_NL)

    silent_NL = (line_L >= num_sentences_N[:, None]) & (line_L < num_sentences)
    for events in (aspect_NL, polarity_NL, template_NL, word_NLP):
        events[silent_NL] = SILENT
    return Records(
        topic_N=topic_N,
        proxy_N=_draw(law.proxy_ZW, topic_N, noise.proxy_N),
        style_N=style_N,
        treatment_N=treatment_N,
        num_sentences_N=num_sentences_N,
        aspect_NL=aspect_NL,
        polarity_NL=polarity_NL,
        template_NL=template_NL,
        word_NLP=word_NLP,
    )


def _assign(law: ReviewLaw, noise: Noise, topic_N: IntArray, sampling: Sampling) -> IntArray:
    chance_N = law.treatment_Z[topic_N] if sampling is Sampling.observational else 0.5
    return (noise.treatment_N < chance_N).astype(np.int64)


def _draw_words(law: ReviewLaw, noise: Noise, parents: tuple[IntArray, ...], template_NL: IntArray) -> IntArray:
    """Words of shape (N, L, P), `SILENT` in slots that the line's template lacks."""
    parents = np.broadcast_arrays(*parents)
    word_NLP = np.full(noise.word_NLP.shape, SILENT)
    for p, slot in enumerate(SLOTS):
        if slot not in law.emissions:
            continue
        law_ZSARV = law.emissions[slot]
        # "clip" sends every value of a parent to the only row of an axis of length one.
        row_NL = np.ravel_multi_index(parents, law_ZSARV.shape[:-1], mode="clip")
        word_NL = _draw(law_ZSARV.reshape(-1, len(law.vocabulary)), row_NL, noise.word_NLP[..., p])
        has_slot_M = np.array([slot in template for template in law.templates])
        word_NLP[..., p] = np.where(has_slot_M[template_NL], word_NL, SILENT)
    return word_NLP


def _draw(law_XY: FloatArray, row: IntArray | int, uniform: FloatArray) -> IntArray:
    """Draw by inverse distribution function: one outcome for each uniform, by its row of the law."""
    cumulative_XY = np.cumsum(law_XY, axis=1)
    cumulative_XY /= cumulative_XY[:, -1:]  # ends at exactly 1, so no uniform falls beyond the last outcome
    row = np.broadcast_to(row, uniform.shape)
    outcome = np.empty(uniform.shape, dtype=np.int64)
    for x, cumulative_Y in enumerate(cumulative_XY):
        here = row == x
        outcome[here] = np.searchsorted(cumulative_Y, uniform[here], side="right")
    return outcome


# ----------------------------------------------------------------------------------------------- text


def spoken_words(law: ReviewLaw, records: Records) -> list[list[str]]:
    """The words of each review in order, "." and "," among them, no end marker."""
    place = {slot: p for p, slot in enumerate(SLOTS)}
    reviews = []
    for template_L, word_LP in zip(records.template_NL.tolist(), records.word_NLP.tolist(), strict=True):
        reviews.append(
            [
                law.vocabulary[word_P[place[item]]] if item in place else item
                for m, word_P in zip(template_L, word_LP, strict=True)
                if m != SILENT
                for item in law.templates[m]
            ]
        )
    return reviews


def render(words: Sequence[str]) -> str:
    """The text of a review: words joined by one space, "." and "," attached to the word before them."""
    return " ".join(words).replace(" .", ".").replace(" ,", ",")


def parse(text: str) -> list[str]:
    """The words of a text; the inverse of `render`."""
    return text.replace(".", " .").replace(",", " ,").split()


def sample_reviews(
    config: ScmConfig, split: str, num_reviews: int | None = None, sampling: Sampling = Sampling.observational
) -> list[Review]:
    """Reviews of a split; review i depends on the law, the seed, the split, the sampling and i only.

    Args:
        config: The law and the seed.
        split: Any name; each has a stream of its own. Two samplings of one split share their noise.
        num_reviews: How many; None for the size that the configuration gives to train, validation and test.
        sampling: What decides the treatment.
    """
    if num_reviews is None:
        num_reviews = {"train": config.num_train, "validation": config.num_validation, "test": config.num_test}[split]
    law = review_law(config)
    return to_reviews(law, sample_records(law, draw_noise(law, config.corpus_seed, split, num_reviews), sampling))


def twins(
    config: ScmConfig, split: str, num_reviews: int, sampling: Sampling = Sampling.observational
) -> tuple[list[Review], list[Review]]:
    """The first reviews of a split and their structural twins: the same noise under the other treatment."""
    law = review_law(config)
    noise = draw_noise(law, config.corpus_seed, split, num_reviews)
    records = sample_records(law, noise, sampling)
    return to_reviews(law, records), to_reviews(law, sample_records(law, noise, 1 - records.treatment_N))


def sample_pairs(config: ScmConfig) -> list[Review]:
    """Structural twins, from a stream of their own: each review under T=0, then under T=1, by the same noise."""
    if not config.num_pairs:
        return []
    pairs = zip(*twins(config, "pairs", config.num_pairs), strict=True)
    return [review for pair in pairs for review in sorted(pair, key=lambda review: review.treatment)]


def to_reviews(law: ReviewLaw, records: Records) -> list[Review]:
    """The text, the treatment, the prompt's topic and the propensity of each record."""
    texts = map(render, spoken_words(law, records))
    treatments = records.treatment_N.tolist()
    # In single precision, as it is stored.
    propensities = law.treatment_Z[records.topic_N].clip(_RAREST, 1 - _RAREST).astype(np.float32).tolist()
    topics = _prompt_topics(law, records)
    rows = zip(texts, treatments, topics, propensities, strict=True)
    return [Review(text, treatment, topic, propensity=propensity) for text, treatment, topic, propensity in rows]


def _prompt_topics(law: ReviewLaw, records: Records) -> list[str | None]:
    """What the prompt of each review names of the topic."""
    match law.prompt_topic:
        case ScmTopic.hidden:
            return [None] * len(records.topic_N)
        case ScmTopic.observed:
            return [law.topics[z] for z in records.topic_N.tolist()]
        case ScmTopic.proxy:
            return [law.topics[w] for w in records.proxy_N.tolist()]
