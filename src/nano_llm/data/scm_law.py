"""The exact law of the next word of a structural review, under either treatment.

A forward filter. Before each line it holds a belief about what all lines share, topic and style. The line adds
its aspect, polarity and template; each word multiplies the weights of these states by the probability that
they emit it, and the mass that is left, over the mass before, is the probability of the word. The verdict is
one more template, whose aspect is that of the first sentence. At the end of the line the states are summed
over what was the line's own. Reviews go through the filter side by side, line by line and word by word.

A text that the law cannot give has log-probability -inf from its first impossible event on, and next-event
laws of zeros after it.

Axes: N events of all reviews end to end, R reviews, R1 one more, B reviews of a chunk that have the event at
hand, L lines, K treatments, V vocabulary (the end of a review is event V), Z topics, S styles, A aspects,
P polarities, M templates, X states of a line (Z, S, A, P, M in this order), U classes of states that emit alike.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from nano_llm.config.schema import ScmTopic
from nano_llm.data.arrays import FloatArray
from nano_llm.data.scm import SILENT, IntArray, ReviewLaw, Sampling, parse
from nano_llm.errors import DataError

_CHUNK = 256  # reviews that go through the filter together: their weights fit into the cache


# --------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """R reviews as indices into the law's vocabulary, end to end.

    Example: with the vocabulary ("this", ".", "plot", "drags"), the one review "this plot drags." has the
    events 0 2 3 1 4 and the offsets 0 5.
    """

    event_N: IntArray  # len(law.vocabulary) stands for the end of a review
    offset_R1: IntArray
    topic_R: IntArray  # what the prompt names, Z or its proxy W; `SILENT` where it names nothing


def read_events(law: ReviewLaw, texts: Sequence[str], topics: Sequence[str | None]) -> Events:
    """Read reviews back into events.

    Args:
        law: Its lists of words are disjoint and each of its templates ends in its only ".".
        texts: R whole reviews as `scm.render` writes them.
        topics: What the prompt of each names of the topic; None where the law keeps it hidden.

    Raises:
        DataError: A text has a word that the law lacks, or no sequence of the law's templates gives it; or a
            prompt names another thing than the law does. Words are not weighed: a verdict on the wrong aspect
            is read, and has probability zero.
    """
    index = {word: v for v, word in enumerate(law.vocabulary)}
    slot_of = {
        law.vocabulary[v]: slot
        for slot, law_ZSAPV in law.emissions.items()
        for v in np.flatnonzero(law_ZSAPV.any(axis=(0, 1, 2, 3)))
    }
    template_of = {template: m for m, template in enumerate(law.templates)}
    event_N: list[int] = []
    offset_R1 = [0]
    for review, text in enumerate(texts):
        words = parse(text)
        for word in words:
            if word not in index:
                raise DataError(
                    f"Review {review} (from 0): the law of the corpus has no word {word!r}, in {text!r}. "
                    "A law reads the texts of its own configuration only: check data.lexicon and data.verdict."
                )
        items = [slot_of.get(word, word) for word in words]
        if not _allowed(law, [template_of.get(line, SILENT) for line in _split(items)]):
            raise DataError(
                f"Review {review} (from 0): no sequence of the law's templates gives {text!r}. A law reads whole "
                "reviews of its own configuration only: check data.lexicon, data.verdict, the numbers of sentences "
                "and that data.max_review_chars is null."
            )
        event_N += [*map(index.__getitem__, words), len(index)]
        offset_R1.append(len(event_N))
    return Events(np.array(event_N, dtype=np.int64), np.array(offset_R1), _read_topics(law, topics, len(texts)))


def _split(items: Sequence[str]) -> list[tuple[str, ...]]:
    """The lines of a text, each with its "."; what is left after the last one too, and one line at least."""
    ends = sorted({len(items), *(place + 1 for place, item in enumerate(items) if item == ".")})
    return [tuple(items[start:end]) for start, end in pairwise([0, *ends])]


def _allowed(law: ReviewLaw, template_L: Sequence[int]) -> bool:
    """Whether the law can give these templates, in this order, and then end the review."""
    if _has_verdict(law):
        *template_L, last = template_L
        if last == SILENT or not law.template_LSM[-1, :, last].any():
            return False
    num_sentences = len(template_L)
    return (
        1 <= num_sentences <= len(law.stop_JSK)
        and bool(law.stop_JSK[num_sentences - 1].any())
        and all(m != SILENT and law.template_LSM[j, :, m].any() for j, m in enumerate(template_L))
    )


def _read_topics(law: ReviewLaw, topics: Sequence[str | None], num_reviews: int) -> IntArray:
    if len(topics) != num_reviews:
        raise DataError(f"{num_reviews} reviews with topics of {len(topics)} prompts: give one of each (or None).")
    known: dict[str | None, int] = {topic: z for z, topic in enumerate(law.topics)}
    if law.prompt_topic is ScmTopic.hidden:
        known = {None: SILENT}
    for review, topic in enumerate(topics):
        if topic not in known:
            raise DataError(
                f"Review {review} (from 0): its prompt names the topic {topic!r}; with data.topic="
                f"{law.prompt_topic.name} the law expects one of {list(known)}. Give what the review's prompt names."
            )
    return np.array([known[topic] for topic in topics], dtype=np.int64)


def _has_verdict(law: ReviewLaw) -> bool:
    return len(law.template_LSM) > len(law.stop_JSK)


# ------------------------------------------------------------------------------------------------ law


def log_probabilities(law: ReviewLaw, events: Events, sampling: Sampling) -> FloatArray:
    """Log-probability of each event given those before it and the prompt, in nats, shape (N, 2).

    Column k is the law of reviews with treatment k: under `Sampling.do` of those that were given it, under
    `Sampling.observational` of those that are found with it. The sum over a review is log p*_k of its text.
    """
    log_probability_NK = np.empty((len(events.event_N), 2))
    for k in (0, 1):
        for step in _steps(law, events, sampling, k):
            with np.errstate(divide="ignore"):  # impossible: -inf
                log_probability_NK[step.event_B, k] = np.log(_ratio(step.next_mass_B, step.mass_B))
    return log_probability_NK


def next_event_laws(law: ReviewLaw, events: Events, sampling: Sampling) -> FloatArray:
    """The whole law before each event, shape (N, 2, V + 1); the last entry is the end of the review.

    It takes 16 (V + 1) bytes an event, about 0.22 MB a review of the default corpus: read the events of large
    corpora in parts.
    """
    num_words = len(law.vocabulary)
    law_NKE = np.empty((len(events.event_N), 2, num_words + 1))
    for k in (0, 1):
        for step in _steps(law, events, sampling, k):
            law_BV = step.weight_BX @ step.emission.class_XU @ step.emission.law_UV
            law_NKE[step.event_B, k, :num_words] = _ratio(law_BV, step.mass_B[:, None])
            law_NKE[step.event_B, k, num_words] = _ratio(step.end_B, step.mass_B)
    return law_NKE


def treatment_prior(law: ReviewLaw, events: Events, sampling: Sampling) -> FloatArray:
    """P(T = 1 | prompt) of each review, shape (R,)."""
    if sampling is Sampling.do:
        return np.full(len(events.topic_R), 1 / 2)
    prior_R: FloatArray = _topic_given_prompt(law, events.topic_R) @ law.treatment_Z
    return prior_R


def prompt_prior(law: ReviewLaw, topics: Sequence[str | None]) -> FloatArray:
    """P(T = 1 | prompt) as treatments are found, shape (R,); needs no texts.

    Args:
        law: Of the corpus.
        topics: What the prompt of each review names; None where the law keeps it hidden.

    Raises:
        DataError: A prompt names another thing than the law does.
    """
    prior_R: FloatArray = _topic_given_prompt(law, _read_topics(law, topics, len(topics))) @ law.treatment_Z
    return prior_R


def posterior(log_probability_NK: FloatArray, offset_R1: IntArray, prior_R: FloatArray) -> FloatArray:
    """P(T = 1 | x_<t, prompt) before each event, shape (N,): at the first of a review its prior.

    Args:
        log_probability_NK: Of each event under both treatments, nats; the true ones or those of two heads.
        offset_R1: Where reviews begin, and N.
        prior_R: P(T = 1 | prompt).
    """
    evidence_RT, within_RT = _evidence(log_probability_NK, offset_R1)
    before_RT = np.pad(evidence_RT, ((0, 0), (1, 0)))[:, :-1]
    posterior_N: FloatArray = _sigmoid(_logit(prior_R)[:, None] + before_RT)[within_RT]
    return posterior_N


def review_posterior(log_probability_NK: FloatArray, offset_R1: IntArray, prior_R: FloatArray) -> FloatArray:
    """P(T = 1 | x, prompt) after the whole review, shape (R,): Bayes' rule. Arguments as of `posterior`."""
    evidence_RT, _ = _evidence(log_probability_NK, offset_R1)
    return _sigmoid(_logit(prior_R) + evidence_RT[:, -1])


def _evidence(log_probability_NK: FloatArray, offset_R1: IntArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Log-likelihood ratios up to and with each event, shape (R, T), and which of these are events.

    Each review has a row of its own, so that an infinite ratio stays within it.
    """
    num_events_R = np.diff(offset_R1)
    within_RT = np.arange(num_events_R.max(initial=1)) < num_events_R[:, None]
    ratio_RT = np.zeros(within_RT.shape)
    zero_N, one_N = log_probability_NK.T
    # What neither treatment explains speaks for neither: there -inf - -inf counts as 0.
    ratio_RT[within_RT] = np.subtract(one_N, zero_N, out=np.zeros(len(one_N)), where=one_N != zero_N)
    return ratio_RT.cumsum(axis=1), within_RT


def _logit(probability: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):  # a certain treatment: infinite
        logit: FloatArray = np.log(probability) - np.log1p(-probability)
    return logit


def _sigmoid(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):  # beyond -709: 0
        sigmoid: FloatArray = 1 / (1 + np.exp(-x))
    return sigmoid


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """The ratio, and 0 after the impossible, where nothing is left of either."""
    ratio: FloatArray = np.divide(
        numerator,
        denominator,
        out=np.zeros(np.broadcast_shapes(numerator.shape, denominator.shape)),
        where=denominator > 0,
    )
    return ratio


# --------------------------------------------------------------------------------------------- filter


@dataclass(frozen=True, slots=True, eq=False)
class _Emission:
    """What the states of a line emit at one place in it; nothing, where their template is shorter."""

    word_EX: FloatArray  # probability of each event, the end (0) included: a row an event, to be gathered
    class_XU: FloatArray  # one-hot
    law_UV: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """One event of each of B reviews. Masses are relative to the beginning of the line."""

    event_B: IntArray
    emission: _Emission
    weight_BX: FloatArray  # of the states of the line, given the words before
    end_B: FloatArray  # mass of the end of the review
    mass_B: FloatArray  # of both together
    next_mass_B: FloatArray  # of what agrees with the event


@lru_cache(maxsize=4)
def _emissions(law: ReviewLaw) -> list[_Emission]:
    """Emissions at each place of a line."""
    return [_emission(law, place) for place in range(max(map(len, law.templates)))]


def _emission(law: ReviewLaw, place: int) -> _Emission:
    num_words = len(law.vocabulary)
    law_ZSAPMV = np.zeros((*_state_shape(law), num_words))
    for m, template in enumerate(law.templates):
        if place < len(template):
            item = template[place]
            fixed_V = np.array([word == item for word in law.vocabulary])
            law_ZSAPMV[..., m, :] = law.emissions.get(item, fixed_V)
    law_XV = law_ZSAPMV.reshape(-1, num_words)
    classes: dict[bytes, int] = {}
    class_X = [classes.setdefault(law_V.tobytes(), len(classes)) for law_V in law_XV]
    return _Emission(
        word_EX=np.pad(law_XV.T, ((0, 1), (0, 0))),
        class_XU=np.eye(len(classes))[class_X],
        law_UV=np.stack([np.frombuffer(law_V) for law_V in classes]),
    )


def _state_shape(law: ReviewLaw) -> tuple[int, int, int, int, int]:
    num_topics, num_aspects = law.aspect_ZA.shape
    return num_topics, len(law.style_S), num_aspects, 2, len(law.templates)


def _topic_given_prompt(law: ReviewLaw, topic_R: IntArray) -> FloatArray:
    """P(Z | prompt), shape (R, Z)."""
    match law.prompt_topic:
        case ScmTopic.hidden:
            return np.tile(law.topic_Z, (len(topic_R), 1))
        case ScmTopic.observed:
            return np.eye(len(law.topics))[topic_R]
        case ScmTopic.proxy:
            joint_RZ = law.topic_Z * law.proxy_ZW[:, topic_R].T
            return _normalised(joint_RZ)


def _topic_given_treatment(law: ReviewLaw, topic_R: IntArray, sampling: Sampling, k: int) -> FloatArray:
    """P(Z | prompt, T = k) where the treatment is found, P(Z | prompt) where it is given; shape (R, Z)."""
    topic_RZ = _topic_given_prompt(law, topic_R)
    if sampling is Sampling.do or law.prompt_topic is ScmTopic.observed:
        return topic_RZ
    return _normalised(topic_RZ * (law.treatment_Z if k == 1 else 1 - law.treatment_Z))


def _normalised(weight_RZ: FloatArray) -> FloatArray:
    normalised_RZ: FloatArray = weight_RZ / weight_RZ.sum(axis=1, keepdims=True)
    return normalised_RZ


def _steps(law: ReviewLaw, events: Events, sampling: Sampling, k: int) -> Iterator[_Step]:
    """Every event once, under treatment k."""
    firsts = [law.templates[m] for m in np.flatnonzero(law.template_LSM[0].any(axis=0))]
    assert not _has_verdict(law) or all("A" in template for template in firsts), "a verdict needs a known aspect"
    topic_RZ = _topic_given_treatment(law, events.topic_R, sampling, k)
    first_RL, length_RL = _lines(law, events)
    for start in range(0, len(topic_RZ), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        yield from _chunk_steps(law, k, topic_RZ[chunk], events.event_N, first_RL[chunk], length_RL[chunk])


def _lines(law: ReviewLaw, events: Events) -> tuple[IntArray, IntArray]:
    """First event and number of events of each line, 0 where a review has fewer lines.

    The end counts as a line: like the first word of one, it follows a ".".
    """
    begins_N = np.roll(events.event_N == law.vocabulary.index("."), 1)
    begins_N[events.offset_R1[:-1]] = True
    first = np.flatnonzero(begins_N)
    num_lines_R = np.diff(np.searchsorted(first, events.offset_R1))
    within_RL = np.arange(num_lines_R.max(initial=0)) < num_lines_R[:, None]
    first_RL, length_RL = np.zeros((2, *within_RL.shape), dtype=np.int64)
    first_RL[within_RL] = first
    length_RL[within_RL] = np.diff(first, append=len(events.event_N))
    return first_RL, length_RL


def _chunk_steps(
    law: ReviewLaw, k: int, topic_RZ: FloatArray, event_N: IntArray, first_RL: IntArray, length_RL: IntArray
) -> Iterator[_Step]:
    belief = _Belief(law, k, topic_RZ)
    for line in range(length_RL.shape[1]):
        here_B = np.flatnonzero(length_RL[:, line])
        weight_BX, end_B = belief.open_line(line, here_B)
        mass_B = weight_BX.sum(axis=1) + end_B
        for place, emission in enumerate(_emissions(law)):
            event_B = first_RL[here_B, line] + place
            word_B = event_N[event_B]
            next_BX = weight_BX * emission.word_EX[word_B]
            next_mass_B = next_BX.sum(axis=1) + np.where(word_B == len(law.vocabulary), end_B, 0)
            yield _Step(event_B, emission, weight_BX, end_B, mass_B, next_mass_B)

            goes_on_B = length_RL[here_B, line] > place + 1
            belief.close_line(line, here_B[~goes_on_B], next_BX[~goes_on_B])
            if not goes_on_B.any():
                break
            here_B, weight_BX, mass_B = here_B[goes_on_B], next_BX[goes_on_B], next_mass_B[goes_on_B]
            end_B = np.zeros(len(here_B))


class _Belief:
    """What a chunk of reviews has told of its common causes, between lines."""

    def __init__(self, law: ReviewLaw, k: int, topic_RZ: FloatArray):
        self._law = law
        self._stop_JS = law.stop_JSK[..., k]
        self._polarity_P = np.where(np.arange(2) == k, 1 - law.flip, law.flip)
        self._topic_style_RZS = topic_RZ[:, :, None] * law.style_S
        self._first_aspect_RA = np.zeros((len(topic_RZ), law.aspect_ZA.shape[1]))
        self._closed_R = np.zeros(len(topic_RZ))  # P(the verdict has been given)

    def open_line(self, line: int, here_B: IntArray) -> tuple[FloatArray, FloatArray]:
        """Probability of the states of a line, shape (B, X), and of the end in its place, shape (B,)."""
        law = self._law
        num_sentences = len(law.stop_JSK)
        stop_S = self._stop_JS[min(line, num_sentences) - 1] if line else np.zeros_like(law.style_S)
        template_SM = law.template_LSM[min(line, num_sentences - 1)]
        sentence_ZSAPM = np.einsum("s,za,p,sm->zsapm", 1 - stop_S, law.aspect_ZA, self._polarity_P, template_SM)
        weight_BZSAPM = self._topic_style_RZS[here_B][..., None, None, None] * sentence_ZSAPM
        stop_BZS = self._topic_style_RZS[here_B] * stop_S
        end_B = self._closed_R[here_B]
        if _has_verdict(law):
            aspect_BA = self._first_aspect_RA[here_B]
            weight_BZSAPM[..., -1] += np.einsum("bzs,ba,p->bzsap", stop_BZS, aspect_BA, self._polarity_P)
        else:
            end_B = end_B + stop_BZS.sum(axis=(1, 2))
        return weight_BZSAPM.reshape(len(here_B), -1), end_B

    def close_line(self, line: int, here_B: IntArray, weight_BX: FloatArray) -> None:
        """Sum the states of a finished line over what was its own."""
        weight_BZSAPM = weight_BX.reshape(-1, *_state_shape(self._law))
        mass_B = weight_BX.sum(axis=1)
        belief_BZSM = _ratio(weight_BZSAPM.sum(axis=(3, 4)), mass_B[:, None, None, None])
        if _has_verdict(self._law):
            self._closed_R[here_B] = belief_BZSM[..., -1].sum(axis=(1, 2))
            belief_BZSM = belief_BZSM[..., :-1]
        self._topic_style_RZS[here_B] = belief_BZSM.sum(axis=3)
        if line == 0:  # before a verdict the first sentence names its aspect, so this is a certainty
            self._first_aspect_RA[here_B] = _ratio(weight_BZSAPM.sum(axis=(1, 2, 4, 5)), mass_B[:, None])
