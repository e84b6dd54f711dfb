"""Sampling: from the law of the next token to the one that is drawn from, by the knobs of a request.

The order is fixed, and another order would give another law:

1. repetition penalty: log q_v * penalty for each token already in the text,
2. temperature: log q_v / temperature, renormalised; temperature 0 takes the likeliest allowed token and ends here,
3. what may be drawn at all, plausibility included (`nano_llm.generation.steering.plausible_V`),
4. top-k: the k likeliest; of equals at the border those with the lowest ids,
5. top-p: the fewest likeliest tokens that together have probability p, of what 1 to 4 left and renormalised; again
   of equals those with the lowest ids,
6. min-p: those with at least this share of the likeliest one's probability.

The likeliest allowed token passes every step, so something is always left. A draw is argmax_v [log phi_v + g_v] with
g_v ~ Gumbel(0, 1), which is made elsewhere.

The penalty acts on log-probabilities. CTRL (arXiv 1909.05858) and its descendants divide positive *logits* by the
penalty and multiply negative ones, so that what happens depends on where the logits have their zero, which means
nothing. Here a token of probability q gets a weight of q ** penalty: a penalty above 1 always makes it rarer, the
more so the rarer it was, and one that is certain stays certain.

Axis: V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nano_llm.data.arrays import BoolArray, FloatArray
from nano_llm.generation.bounds import require_number, require_whole_number
from nano_llm.generation.steering import normalised_V, plausible_V

_HARSHEST = 1000.0  # a penalty beyond any use
_ROUNDING = 1e-12  # probability by which a sum may miss top_p and still reach it


@dataclass(frozen=True, slots=True)
class Sampling:
    """The knobs of a request; the defaults leave the law as it is.

    Raises:
        RequestError: One is out of its bounds.
    """

    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_k: int = 0
    """0 is off."""
    top_p: float = 1.0
    """1 cuts nothing."""
    min_p: float = 0.0
    """0 is off."""
    repetition_penalty: float = 1.0
    """1 is off; above 1 discourages what the text has already, below 1 favours it."""

    def __post_init__(self) -> None:
        require_number(
            "temperature",
            self.temperature,
            "a finite number of at least 0 (0 takes the likeliest token)",
            lambda number: number >= 0,
        )
        require_whole_number(
            "top_k", self.top_k, "a whole number of at least 0 (0 cuts nothing)", lambda number: number >= 0
        )
        require_number(
            "top_p", self.top_p, "a number above 0, at most 1 (1 cuts nothing)", lambda number: 0 < number <= 1
        )
        require_number("min_p", self.min_p, "a number from 0 to 1 (0 cuts nothing)", lambda number: 0 <= number <= 1)
        require_number(
            "repetition_penalty",
            self.repetition_penalty,
            f"a number above 0, at most {_HARSHEST:g} (1 is no penalty)",
            lambda number: 0 < number <= _HARSHEST,
        )


def shape(log_q_V: FloatArray, sampling: Sampling, allowed_V: BoolArray, seen_tokens: Sequence[int]) -> FloatArray:
    """Return the law that the next token is drawn from.

    Args:
        log_q_V: Log-probabilities (V,), normalised, nats; -inf for what cannot come.
        sampling: The knobs.
        allowed_V: Tokens that may be drawn at all; one at least has a probability.
        seen_tokens: Tokens already in the text, in any order, as often as they like; read for the penalty only.

    Returns:
        Log-probabilities (V,), -inf for what is never drawn. At temperature 0 the one token has 0.
    """
    score_V = log_q_V
    if sampling.repetition_penalty != 1:
        score_V = _penalised(score_V, sampling.repetition_penalty, seen_tokens)
    # A mask and the temperature commute. The mask goes first: no forbidden token may drown all others in rounding.
    score_V = np.where(allowed_V, score_V, -np.inf)
    if sampling.temperature == 0:
        return _likeliest(score_V)
    if sampling.temperature != 1:
        score_V = _tempered(score_V, sampling.temperature)
    log_phi_V = normalised_V(score_V)
    if sampling.top_k > 0:
        log_phi_V = _kept(log_phi_V, _largest(log_phi_V, sampling.top_k))
    if sampling.top_p < 1:
        log_phi_V = _kept(log_phi_V, _largest(log_phi_V, _num_that_reach(log_phi_V, sampling.top_p)))
    if sampling.min_p > 0:
        log_phi_V = _kept(log_phi_V, plausible_V(log_phi_V, sampling.min_p, allowed_V))
    return log_phi_V


def _penalised(log_q_V: FloatArray, penalty: float, seen_tokens: Sequence[int]) -> FloatArray:
    seen = np.asarray(seen_tokens, dtype=np.int64)
    penalised_V = log_q_V.copy()
    penalised_V[seen] = penalty * log_q_V[seen]
    return penalised_V


def _likeliest(score_V: FloatArray) -> FloatArray:
    """A point mass on the largest score; of equals the lowest id."""
    point_V = np.full(len(score_V), -np.inf)
    point_V[score_V.argmax()] = 0.0
    return point_V


def _tempered(score_V: FloatArray, temperature: float) -> FloatArray:
    with np.errstate(over="ignore"):  # so cold that a token is impossible: -inf
        tempered_V: FloatArray = (score_V - score_V.max()) / temperature
    return tempered_V


def _kept(log_phi_V: FloatArray, kept_V: BoolArray) -> FloatArray:
    return normalised_V(np.where(kept_V, log_phi_V, -np.inf))


def _largest(score_V: FloatArray, num: int) -> BoolArray:
    """Which are the `num` largest scores, exactly, or all possible ones; of equals at the border the lowest ids."""
    largest_V: BoolArray = score_V > -np.inf
    possible = score_V[largest_V]  # the many -inf after another cut would slow the partition down tenfold
    if num < len(possible):
        border = np.partition(possible, -num)[-num]
        largest_V = score_V > border
        ties = np.flatnonzero(score_V == border)
        largest_V[ties[: num - np.count_nonzero(largest_V)]] = True
    return largest_V


def _num_that_reach(log_phi_V: FloatArray, mass: float) -> int:
    """How many of the likeliest tokens it takes to have this much probability."""
    falling = np.sort(log_phi_V[log_phi_V > -np.inf])[::-1]
    return int(np.exp(falling).cumsum().searchsorted(mass - _ROUNDING)) + 1
