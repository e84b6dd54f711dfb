"""The law of a structural corpus as two heads that are asked word by word.

A forward filter of its own, for laws with neither prompt nor verdict; `nano_llm.data.scm_law` reads whole reviews.

Axes: K treatments, V vocabulary (the end of a review last), Z topics, S styles, A aspects, P polarities,
M templates, X states of a line (Z, S, A, P, M in this order), I places in a line.
"""

from dataclasses import dataclass

import numpy as np

from nano_llm.config.schema import ScmConfig
from nano_llm.data.scm import ReviewLaw, review_law


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A text so far."""

    line: int
    place: int
    weight_KX: np.ndarray  # of the states of the line, given the text
    end_K: np.ndarray  # of the end, where it may come


class LawHeads:
    """Heads under do(T)."""

    def __init__(self, config: ScmConfig) -> None:
        self.law: ReviewLaw = review_law(config)
        self.end = len(self.law.vocabulary)
        self.stop_word = self.law.vocabulary.index(".")
        polarity_KP = np.where(np.eye(2, dtype=bool), 1 - self.law.flip, self.law.flip)
        self.line_LKSAPM = np.einsum("za,kp,lsm->lkzsapm", self.law.aspect_ZA, polarity_KP, self.law.template_LSM)
        self.emission_IXV = [self._emission(place) for place in range(max(map(len, self.law.templates)))]

    def start(self) -> Reading:
        return self._open(0, np.broadcast_to(self.law.topic_Z[:, None] * self.law.style_S, (2, 6, 2)))

    def log_p(self, text: Reading) -> np.ndarray:
        """Log-softmax of both heads, shape (K, V)."""
        mass_KV = text.weight_KX @ self.emission_IXV[text.place]
        mass_KV[:, self.end] += text.end_K
        with np.errstate(divide="ignore"):
            return np.log(mass_KV / mass_KV.sum(axis=1, keepdims=True))

    def after(self, text: Reading, word: int) -> Reading:
        """The text with one more word, which is not the end."""
        weight_KX = text.weight_KX * self.emission_IXV[text.place][:, word]
        weight_KX = weight_KX / weight_KX.sum(axis=1, keepdims=True)
        if word != self.stop_word:
            return Reading(text.line, text.place + 1, weight_KX, np.zeros(2))
        belief_KZS = weight_KX.reshape(2, *self.line_LKSAPM.shape[2:]).sum(axis=(3, 4, 5))
        return self._open(text.line + 1, belief_KZS)

    def _open(self, line: int, belief_KZS: np.ndarray) -> Reading:
        stop_SK = self.law.stop_JSK[line - 1] if line else np.zeros((2, 2))
        weights = self.line_LKSAPM[min(line, len(self.line_LKSAPM) - 1)]
        weight_KX = np.einsum("kzs,sk,kzsapm->kzsapm", belief_KZS, 1 - stop_SK, weights).reshape(2, -1)
        return Reading(line, 0, weight_KX, np.einsum("kzs,sk->k", belief_KZS, stop_SK))

    def _emission(self, place: int) -> np.ndarray:
        law_ZSAPMV = np.zeros((*self.line_LKSAPM.shape[2:], self.end + 1))
        for m, template in enumerate(self.law.templates):
            if place < len(template):
                fixed_V = np.array([word == template[place] for word in self.law.vocabulary])
                law_ZSAPMV[..., m, : self.end] = self.law.emissions.get(template[place], fixed_V)
        return law_ZSAPMV.reshape(-1, self.end + 1)
