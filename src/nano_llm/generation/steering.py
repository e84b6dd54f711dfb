"""Steering: from what two heads say of the next token to the law that it is drawn from.

With l_k = log p_k of the wanted head, l_o of the other one, r = l_k - l_o, and the heads' own belief
pi_k = P(T = k | tokens so far) = sigmoid(+-c llr), prior 1/2:

    mode                      rule, renormalised                        strength
    plain                     l_k                                       none
    contrast                  l_k + strength * r                        0.5
    contrast, base mixture    l_mix + strength * r                      1
    cfg                       (1 - strength) * l_o + strength * l_k     1.5
    posterior                 l_mix + strength * log P(T = k | v)       4
    mixture                   l_mix = log(pi_0 p_0 + pi_1 p_1)          none

P(T = k | v) is the belief after token v, of log odds +-c llr + r_v. As log pi_k + l_k = l_mix + log P(T = k | v), the
posterior rule is computed as l_k + (strength - 1) log P(T = k | v), and cfg as contrast with strength - 1: strength 1
of either, and strength 0 of contrast, are the plain head bit for bit. In the contrasts r is clamped to [-20, 20]; the
posterior bounds itself. A token that the wanted head rules out (-inf) stays ruled out, so posterior of strength 0 is
the mixture over what the wanted head allows.

Everything is in nats and float64. Axes: K outcomes (two), V vocabulary.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from nano_llm.data.arrays import BoolArray, FloatArray
from nano_llm.errors import RequestError
from nano_llm.generation.bounds import require_number

_STRONGEST = 1000.0  # beyond any use; keeps a score of strength * thousands of nats exact to 1e-9
_CLAMP = 20.0  # nats
_ROUNDING = 1e-12  # nats by which a token may miss a border that it lies on


class SteeringMode(StrEnum):
    """How the next token's law is made of the heads."""

    plain = "plain"
    contrast = "contrast"
    cfg = "cfg"
    posterior = "posterior"
    mixture = "mixture"


class ContrastBase(StrEnum):
    """What a contrast starts from: the wanted head, or the mixture of both."""

    head = "head"
    mixture = "mixture"


@dataclass(frozen=True, slots=True)
class Steering:
    """How text is steered to an outcome.

    Raises:
        RequestError: A number is out of its bounds, or the mode does not read an option that was given.
    """

    mode: SteeringMode = SteeringMode.plain
    strength: float | None = None
    """None takes the default of the mode, see `strength_in_use`."""
    base: ContrastBase = ContrastBase.head
    plausibility: float = 0.0
    """Tokens below this share of the wanted head's likeliest one are never drawn; 0 is off. See `plausible_V`."""
    posterior_scale: float = 1.0
    """c in pi_1 = sigmoid(c llr): fitted on validation, as learned heads are overconfident."""

    def __post_init__(self) -> None:
        if self.strength is not None:
            if self.mode in (SteeringMode.plain, SteeringMode.mixture):
                raise RequestError(
                    f"strength={self.strength!r}: steering mode {self.mode} has no strength; leave it out, or choose "
                    "mode posterior, contrast or cfg."
                )
            expected = f"a number from 0 to {_STRONGEST:g} (for less than 0, ask for the other outcome)"
            require_number("strength", self.strength, expected, lambda number: 0 <= number <= _STRONGEST)
        if self.base is ContrastBase.mixture and self.mode is not SteeringMode.contrast:
            raise RequestError(
                f"base=mixture: steering mode {self.mode} has no base; leave it out, or choose mode contrast."
            )
        require_number(
            "plausibility",
            self.plausibility,
            "a share of the likeliest token's probability, from 0 (off) to 1",
            lambda number: 0 <= number <= 1,
        )
        if self.plausibility and self.mode is SteeringMode.mixture:
            raise RequestError(
                f"plausibility={self.plausibility!r}: it is judged by the wanted head, and steering mode mixture "
                "wants neither; leave it out, or use min_p."
            )
        require_number(
            "posterior_scale",
            self.posterior_scale,
            f"a number from 0 to {_STRONGEST:g} (1 takes the heads at their word)",
            lambda number: 0 <= number <= _STRONGEST,
        )
        if self.posterior_scale != 1 and not self.reads_posterior:
            raise RequestError(
                f"posterior_scale={self.posterior_scale!r}: steering mode {self.mode} reads no posterior; leave it "
                "out, or choose mode posterior, mixture, or contrast with base=mixture."
            )

    @property
    def reads_posterior(self) -> bool:
        """Whether the law depends on the tokens so far other than through the heads."""
        return self.mode in (SteeringMode.posterior, SteeringMode.mixture) or self.base is ContrastBase.mixture

    @property
    def strength_in_use(self) -> float:
        """The strength, or the default of the mode; 0 for the modes that have none."""
        if self.strength is not None:
            return self.strength
        match self.mode:
            case SteeringMode.contrast:
                return 1.0 if self.base is ContrastBase.mixture else 0.5
            case SteeringMode.cfg:
                return 1.5
            case SteeringMode.posterior:
                return 4.0
            case SteeringMode.plain | SteeringMode.mixture:
                return 0.0


def steer(log_p_KV: FloatArray, outcome: int, llr: float, steering: Steering) -> FloatArray:
    """Return the steered law of the next token.

    Args:
        log_p_KV: Log-softmax of the two heads, shape (2, V); -inf where a head rules a token out, which it does not
            do to all of them.
        outcome: The wanted head, 0 or 1; not read in mode mixture.
        llr: Sum of l_1 - l_0 over the tokens of the text so far, finite: the evidence of the heads, not of the
            steered law.
        steering: The rule. Its plausibility is not applied here: it is one of the masks, see `plausible_V`.

    Returns:
        Log-probabilities (V,).
    """
    strength = steering.strength_in_use
    wanted_V, other_V = log_p_KV[outcome], log_p_KV[1 - outcome]
    match steering.mode:
        case SteeringMode.plain:
            rule_V = wanted_V
        case SteeringMode.mixture:
            rule_V = _log_mixture(log_p_KV, llr, steering.posterior_scale)
        case SteeringMode.cfg:
            rule_V = wanted_V + (strength - 1) * _clamped(_log_ratio(wanted_V, other_V))
        case SteeringMode.contrast:
            base_V = wanted_V
            if steering.base is ContrastBase.mixture:
                mixture_V = _log_mixture(log_p_KV, llr, steering.posterior_scale)
                base_V = np.where(wanted_V > -np.inf, mixture_V, -np.inf)
            rule_V = base_V + strength * _clamped(_log_ratio(wanted_V, other_V))
        case SteeringMode.posterior:
            log_odds = _log_odds(llr, outcome, steering.posterior_scale)
            log_posterior_V = -np.logaddexp(0.0, -(log_odds + _log_ratio(wanted_V, other_V)))
            rule_V = wanted_V + (strength - 1) * log_posterior_V
    return normalised_V(rule_V)


def log_posterior(llr: float, outcome: int, scale: float) -> float:
    """Return log P(T = outcome | tokens so far), nats, under prior 1/2.

    Args:
        llr: Sum of l_1 - l_0 over the tokens so far.
        outcome: 0 or 1.
        scale: Multiplies llr; 1 takes the heads at their word.
    """
    return -float(np.logaddexp(0.0, -_log_odds(llr, outcome, scale)))


def plausible_V(log_p_V: FloatArray, share: float, allowed_V: BoolArray) -> BoolArray:
    """Return which allowed tokens have at least a share of the probability of the likeliest allowed one.

    Measured among allowed tokens, so that a likely token that may not be drawn never takes all others with it.

    Args:
        log_p_V: Log-probabilities, need not be normalised; -inf allowed.
        share: In (0, 1], or 0, which keeps all that is allowed.
        allowed_V: Tokens that may be drawn; one at least has a probability.

    Returns:
        A mask (V,) within `allowed_V`; the likeliest allowed token is always in it.
    """
    if share == 0:
        return allowed_V
    log_p_V = np.where(allowed_V, log_p_V, -np.inf)
    plausible: BoolArray = log_p_V >= log_p_V.max() + (math.log(share) - _ROUNDING)
    return plausible


def normalised_V(score_V: FloatArray) -> FloatArray:
    """Return the log-probabilities of softmax(score); one score at least is finite and none is +inf."""
    shifted_V = score_V - score_V.max()
    normalised: FloatArray = shifted_V - math.log(np.exp(shifted_V).sum())
    return normalised


def _log_odds(llr: float, outcome: int, scale: float) -> float:
    return scale * llr if outcome == 1 else -scale * llr


def _log_mixture(log_p_KV: FloatArray, llr: float, scale: float) -> FloatArray:
    zero_V, one_V = log_p_KV
    mixture_V: FloatArray = np.logaddexp(log_posterior(llr, 0, scale) + zero_V, log_posterior(llr, 1, scale) + one_V)
    return mixture_V


def _log_ratio(wanted_V: FloatArray, other_V: FloatArray) -> FloatArray:
    """l_k - l_o; 0 where the wanted head rules a token out, so that its own -inf decides."""
    ratio_V: FloatArray = np.subtract(wanted_V, other_V, out=np.zeros(len(wanted_V)), where=wanted_V > -np.inf)
    return ratio_V


def _clamped(ratio_V: FloatArray) -> FloatArray:
    return ratio_V.clip(-_CLAMP, _CLAMP)
