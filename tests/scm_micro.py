"""A structural law small enough to sum over everything latent, and that sum: what the filter must agree with.

Axes: as in `nano_llm.data.scm_law`.
"""

from itertools import product

import numpy as np

from nano_llm.config.schema import ScmTopic
from nano_llm.data.scm import ReviewLaw, Sampling

LISTS = {
    "A": {(0, "plot"): 0.7, (0, "story"): 0.3, (1, "cast"): 1.0},  # by aspect
    "Z": {(0, "ghost"): 0.4, (0, "house"): 0.6, (1, "house"): 1.0},  # by topic
    "V": {(0, "drags"): 0.9, (0, "works"): 0.1, (1, "drags"): 0.2, (1, "works"): 0.8},  # by polarity
    "O": {  # by topic and polarity
        (0, 0, "dull"): 0.6,
        (0, 0, "odd"): 0.4,
        (0, 1, "fine"): 0.9,
        (0, 1, "odd"): 0.1,
        (1, 0, "dull"): 0.8,
        (1, 0, "odd"): 0.2,
        (1, 1, "fine"): 0.3,
        (1, 1, "odd"): 0.7,
    },
    "C": {(0, "still"): 0.8, (0, "then"): 0.2, (1, "still"): 0.1, (1, "then"): 0.9},  # by style
    "W": {(0, "bad"): 0.7, (0, "good"): 0.3, (1, "bad"): 0.1, (1, "good"): 0.9},  # by polarity
}
PARENTS = {"A": [2], "Z": [0], "V": [3], "O": [0, 3], "C": [1], "W": [3]}  # places in (z, s, a, r)


def micro_law(verdict: bool, prompt_topic: ScmTopic) -> ReviewLaw:
    """Two topics, styles, aspects, three templates, up to two sentences; the treatment acts on length too."""
    templates = [tuple(text.split()) for text in ("the A is O .", "A V .", "C the Z V .", "so the A is W .")]
    template_LSM = np.array(
        [[[0.3, 0.7, 0.0, 0.0], [0.8, 0.2, 0.0, 0.0]], [[0.2, 0.5, 0.3, 0.0], [0.6, 0.1, 0.3, 0.0]]]
    )
    if verdict:
        template_LSM = np.concatenate([template_LSM, np.broadcast_to(np.eye(4)[3], (1, 2, 4))])
    else:
        templates, template_LSM = templates[:3], template_LSM[..., :3]
        template_LSM[0] = template_LSM[1]
    words = ["the", "is", ".", "so", *dict.fromkeys(key[-1] for law in LISTS.values() for key in law)]
    emissions = {}
    for slot, probabilities in LISTS.items():
        law_ZSAPV = np.zeros((*(2 if axis in PARENTS[slot] else 1 for axis in range(4)), len(words)))
        for (*values, word), probability in probabilities.items():
            cell = [0, 0, 0, 0]
            for axis, value in zip(PARENTS[slot], values, strict=True):
                cell[axis] = value
            law_ZSAPV[(*cell, words.index(word))] = probability
        emissions[slot] = law_ZSAPV
    return ReviewLaw(
        topics=("horror", "drama"),
        vocabulary=tuple(words),
        templates=tuple(templates),
        prompt_topic=prompt_topic,
        flip=0.2,
        topic_Z=np.array([0.4, 0.6]),
        style_S=np.array([0.3, 0.7]),
        treatment_Z=np.array([0.15, 0.65]),
        proxy_ZW=np.array([[0.9, 0.1], [0.25, 0.75]]),
        aspect_ZA=np.array([[0.2, 0.8], [0.7, 0.3]]),
        stop_JSK=np.array([[[0.3, 0.5], [0.6, 0.2]], [[1.0, 1.0], [1.0, 1.0]]]),
        template_LSM=template_LSM,
        emissions=emissions,
    )


def add(law: dict, key, probability: float) -> None:
    law[key] = law.get(key, 0.0) + probability


def lines_by_brute_force(law: ReviewLaw, template_M, aspect_A, z: int, s: int, k: int) -> dict:
    """(words, aspect) of a line -> probability: the sum over polarities and templates."""
    found: dict = {}
    for a, r, m in product(range(2), range(2), range(len(law.templates))):
        chance = aspect_A[a] * (1 - law.flip if r == k else law.flip) * template_M[m]
        choices = [
            [
                (key[-1], probability)
                for key, probability in LISTS[item].items()
                if list(key[:-1]) == [(z, s, a, r)[axis] for axis in PARENTS[item]]
            ]
            if item in LISTS
            else [(item, 1.0)]
            for item in law.templates[m]
        ]
        for line in product(*choices):
            add(found, (tuple(word for word, _ in line), a), chance * np.prod([p for _, p in line]))
    return found


def texts_by_brute_force(law: ReviewLaw, z: int, s: int, k: int) -> dict[tuple[str, ...], float]:
    """Words of a review -> probability given topic, style and treatment, by the definition of the corpus."""
    found: dict = {}
    first, second = (lines_by_brute_force(law, law.template_LSM[j, s], law.aspect_ZA[z], z, s, k) for j in (0, 1))
    stop = law.stop_JSK[0, s, k]
    for (one, aspect), chance in first.items():
        bodies = [(one, chance * stop)]
        bodies += [(one + two, chance * (1 - stop) * also) for (two, _), also in second.items()]
        closings = {((), aspect): 1.0}
        if len(law.template_LSM) == 3:
            closings = lines_by_brute_force(law, law.template_LSM[2, s], np.eye(2)[aspect], z, s, k)
        for (body, p), ((closing, _), q) in product(bodies, closings.items()):
            if p * q > 0:
                add(found, body + closing, p * q)
    return found


def prompts_by_brute_force(law: ReviewLaw, sampling: Sampling) -> dict[str | None, np.ndarray]:
    """What the prompt names -> P(Z, T, prompt), shape (Z, K)."""
    chance_Z = law.treatment_Z if sampling is Sampling.observational else np.full(2, 0.5)
    joint_ZK = law.topic_Z[:, None] * np.stack([1 - chance_Z, chance_Z], axis=1)
    match law.prompt_topic:
        case ScmTopic.hidden:
            return {None: joint_ZK}
        case ScmTopic.observed:
            return {law.topics[z]: joint_ZK * np.eye(2)[z][:, None] for z in (0, 1)}
        case ScmTopic.proxy:
            return {law.topics[w]: joint_ZK * law.proxy_ZW[:, w, None] for w in (0, 1)}
