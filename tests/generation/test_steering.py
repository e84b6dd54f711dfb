"""Steering: the identities of its rules, refusals, and what it does to the exact heads of a corpus.

Axes: K outcomes, V vocabulary.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, logsumexp

from law_heads import LawHeads
from nano_llm.data.scm import Sampling, render
from nano_llm.data.scm_law import log_probabilities, read_events
from nano_llm.errors import RequestError
from nano_llm.generation.steering import (
    ContrastBase,
    Steering,
    SteeringMode,
    log_posterior,
    normalised_V,
    plausible_V,
    steer,
)
from scm_presets import TINY

HALF = math.log(0.5)
ON_MIXTURE = ContrastBase.mixture
PLAIN, MIXTURE = Steering(), Steering(SteeringMode.mixture)


def contrast(strength: float | None = None, base: ContrastBase = ContrastBase.head, **options: Any) -> Steering:
    return Steering(SteeringMode.contrast, strength, base, **options)


def cfg(strength: float | None = None) -> Steering:
    return Steering(SteeringMode.cfg, strength)


def posterior(strength: float | None = None, **options: Any) -> Steering:
    return Steering(SteeringMode.posterior, strength, **options)


def assert_same_law(law_V: np.ndarray, expected_V: np.ndarray, tolerance: float = 1e-9) -> None:
    """Equal log-probabilities, -inf in the same places."""
    assert (np.isneginf(law_V) == np.isneginf(expected_V)).all()
    np.testing.assert_allclose(law_V, expected_V, rtol=0, atol=tolerance)


@st.composite
def heads(draw: st.DrawFn, ruled_out: bool = True, num_tokens: int | None = None, spread: float = 9) -> np.ndarray:
    """Two heads (2, V); with `ruled_out`, tokens that one or both give no probability."""
    num_tokens = num_tokens or draw(st.integers(1, 7))
    logit = st.floats(-spread, spread)
    if ruled_out:
        logit = st.one_of(logit, st.just(-math.inf))
    rows = st.lists(logit, min_size=num_tokens, max_size=num_tokens).filter(lambda row: max(row) > -math.inf)
    return log_softmax(np.array([draw(rows), draw(rows)]), axis=1)


outcomes = st.sampled_from([0, 1])
evidences = st.one_of(st.floats(-30, 30), st.floats(-5000, 5000))
strengths = st.floats(0, 20)
scales = st.floats(0, 3)
steerings = st.one_of(
    st.just(PLAIN),
    st.builds(contrast, strengths),
    st.builds(cfg, strengths),
    st.builds(lambda strength, scale: contrast(strength, ON_MIXTURE, posterior_scale=scale), strengths, scales),
    st.builds(lambda strength, scale: posterior(strength, posterior_scale=scale), strengths, scales),
    st.builds(lambda scale: Steering(SteeringMode.mixture, posterior_scale=scale), scales),
)
many = settings(deadline=None, max_examples=200)


# ----------------------------------------------------------------------------------------- identities


@many
@given(heads(), outcomes, evidences, steerings)
def test_every_rule_gives_a_law_on_the_support_of_the_wanted_head(log_p_KV, outcome, llr, steering) -> None:
    law_V = steer(log_p_KV, outcome, llr, steering)
    assert law_V.dtype == np.float64
    assert logsumexp(law_V) == pytest.approx(0, abs=1e-9)
    supporting = log_p_KV.max(axis=0) if steering.mode is SteeringMode.mixture else log_p_KV[outcome]
    assert (np.isneginf(law_V) == np.isneginf(supporting)).all()


@many
@given(heads(spread=40), outcomes, evidences, st.floats(1, 20))
def test_guidance_is_a_contrast_of_one_less(log_p_KV, outcome, llr, strength) -> None:
    assert_same_law(steer(log_p_KV, outcome, llr, cfg(strength)), steer(log_p_KV, outcome, llr, contrast(strength - 1)))


@many
@given(heads(), outcomes, evidences, scales)
def test_neutral_strengths_are_the_plain_head_bit_for_bit(log_p_KV, outcome, llr, scale) -> None:
    plain_V = steer(log_p_KV, outcome, llr, PLAIN)
    assert_same_law(plain_V, log_p_KV[outcome])
    for steering in (contrast(0), cfg(1), posterior(1, posterior_scale=scale)):
        assert (steer(log_p_KV, outcome, llr, steering) == plain_V).all()


@many
@given(heads(ruled_out=False), outcomes, evidences, scales)
def test_posterior_of_no_strength_is_the_mixture(log_p_KV, outcome, llr, scale) -> None:
    mixture = replace(MIXTURE, posterior_scale=scale)
    assert_same_law(
        steer(log_p_KV, outcome, llr, posterior(0, posterior_scale=scale)), steer(log_p_KV, outcome, llr, mixture)
    )


@many
@given(heads(), outcomes, evidences, steerings)
def test_equal_heads_leave_nothing_to_steer(log_p_KV, outcome, llr, steering) -> None:
    same_KV = log_p_KV[[0, 0]]
    assert_same_law(steer(same_KV, outcome, llr, steering), steer(same_KV, outcome, llr, PLAIN))


@many
@given(heads(), outcomes, evidences, steerings)
def test_the_names_of_the_heads_do_not_matter(log_p_KV, outcome, llr, steering) -> None:
    assert_same_law(steer(log_p_KV[::-1], 1 - outcome, -llr, steering), steer(log_p_KV, outcome, llr, steering))


@many
@given(heads(), evidences)
def test_the_mixture_wants_neither_head(log_p_KV, llr) -> None:
    assert (steer(log_p_KV, 0, llr, MIXTURE) == steer(log_p_KV, 1, llr, MIXTURE)).all()


@many
@given(heads(ruled_out=False), outcomes, st.floats(0, 5))
def test_bases_of_a_contrast_agree_once_the_text_has_decided(log_p_KV, outcome, strength) -> None:
    decided = 5000.0 if outcome == 1 else -5000.0
    assert_same_law(
        steer(log_p_KV, outcome, decided, contrast(strength, ON_MIXTURE)),
        steer(log_p_KV, outcome, decided, contrast(strength)),
    )


@many
@given(heads(ruled_out=False, num_tokens=5), outcomes, st.floats(-5, 5), st.floats(0, 5))
def test_bases_of_a_contrast_differ_while_the_text_is_open_and_the_heads_differ(
    log_p_KV, outcome, llr, strength
) -> None:
    assume(np.abs(log_p_KV[0] - log_p_KV[1]).max() > 0.01)
    on_mixture_V = steer(log_p_KV, outcome, llr, contrast(strength, ON_MIXTURE))
    on_head_V = steer(log_p_KV, outcome, llr, contrast(strength))
    assert np.abs(on_mixture_V - on_head_V).max() > 1e-9


# ------------------------------------------------------------------------- rules as the table has them


@many
@given(heads(ruled_out=False), outcomes, st.floats(-30, 30), strengths, st.floats(0, 3))
def test_rules_are_those_of_the_table(log_p_KV, outcome, llr, strength, scale) -> None:
    """In plain probabilities; every log-ratio here is below the clamp."""
    wanted_V, other_V = np.exp(log_p_KV[outcome]), np.exp(log_p_KV[1 - outcome])
    pi = expit(scale * llr) if outcome == 1 else expit(-scale * llr)
    not_pi = expit(-scale * llr) if outcome == 1 else expit(scale * llr)
    mixture_V = pi * wanted_V + not_pi * other_V
    scaled = {"posterior_scale": scale}
    log_belief_V = np.log(pi) + np.log(wanted_V) - np.log(mixture_V)
    log_ratio_V = np.log(wanted_V) - np.log(other_V)
    for steering, rule_V in (
        (contrast(strength), np.log(wanted_V) + strength * log_ratio_V),
        (cfg(strength), (1 - strength) * np.log(other_V) + strength * np.log(wanted_V)),
        (contrast(strength, ON_MIXTURE, **scaled), np.log(mixture_V) + strength * log_ratio_V),
        (posterior(strength, **scaled), np.log(mixture_V) + strength * log_belief_V),
        (Steering(SteeringMode.mixture, **scaled), np.log(mixture_V)),
    ):
        assert_same_law(steer(log_p_KV, outcome, llr, steering), log_softmax(rule_V), 1e-8)


def test_a_contrast_by_hand() -> None:
    log_p_KV = np.log([[0.5, 0.5], [0.8, 0.2]])
    for steering in (contrast(1), cfg(2)):
        law_V = steer(log_p_KV, 1, 0.0, steering)
        np.testing.assert_allclose(np.exp(law_V), np.array([0.8**2 / 0.5, 0.2**2 / 0.5]) / (1.28 + 0.08))


def test_a_posterior_by_hand() -> None:
    """P(1 | v) = (.8/1.3, .2/.7) at even odds; at odds of 3 to 1, (2.4/2.9, .6/1.1)."""
    log_p_KV = np.log([[0.5, 0.5], [0.8, 0.2]])
    even = np.array([0.65 * (0.8 / 1.3) ** 2, 0.35 * (0.2 / 0.7) ** 2])
    np.testing.assert_allclose(np.exp(steer(log_p_KV, 1, 0.0, posterior(2))), even / even.sum())
    odds = np.array([0.725 * (2.4 / 2.9) ** 2, 0.275 * (0.6 / 1.1) ** 2])
    for llr, scale in ((math.log(3), 1.0), (2 * math.log(3), 0.5)):
        law_V = steer(log_p_KV, 1, llr, posterior(2, posterior_scale=scale))
        np.testing.assert_allclose(np.exp(law_V), odds / odds.sum())


def test_a_contrast_is_clamped_to_twenty_nats() -> None:
    log_p_KV = np.array([[HALF, HALF, -math.inf, -math.inf], [-math.inf, HALF, HALF, -math.inf]])
    for steering in (contrast(2), cfg(3)):
        law_V = steer(log_p_KV, 1, 0.0, steering)
        assert law_V[2] - law_V[1] == pytest.approx(40)
        assert np.isneginf(law_V[[0, 3]]).all()


def test_a_token_that_only_the_wanted_head_gives_settles_the_posterior() -> None:
    """P(1 | v) is 1 for it and 1/2 for the common token."""
    log_p_KV = np.array([[HALF, HALF, -math.inf], [-math.inf, HALF, HALF]])
    law_V = steer(log_p_KV, 1, 0.0, posterior(4))
    np.testing.assert_allclose(np.exp(law_V), [0, 0.5 * 0.5**3 / 0.5625, 0.5 / 0.5625])


def test_the_posterior_limits_itself_and_a_contrast_does_not() -> None:
    log_p_KV = np.log([[0.2, 0.8], [0.6, 0.4]])
    assert_same_law(steer(log_p_KV, 1, 40.0, posterior(32)), log_p_KV[1])
    assert np.exp(steer(log_p_KV, 1, 40.0, contrast(8)))[0] > 0.999


@given(st.floats(-5000, 5000), outcomes, scales)
def test_log_posterior_is_a_log_sigmoid_that_never_overflows(llr: float, outcome: int, scale: float) -> None:
    odds = scale * llr * (2 * outcome - 1)
    expected = -math.log1p(math.exp(-odds)) if odds > 0 else odds - math.log1p(math.exp(odds))
    assert log_posterior(llr, outcome, scale) == pytest.approx(expected, abs=1e-12, rel=1e-12)


def test_scores_are_normalised_without_overflow() -> None:
    np.testing.assert_allclose(normalised_V(np.array([5000.0, 5000.0, -math.inf])), [HALF, HALF, -math.inf])


# --------------------------------------------------------------------------------------- plausibility


@many
@given(heads(num_tokens=6), st.floats(0, 1), st.lists(st.booleans(), min_size=6, max_size=6), steerings, evidences)
def test_plausibility_never_empties_the_support(log_p_KV, share, allowed, steering, llr) -> None:
    allowed_V = np.array(allowed)
    assume((allowed_V & (log_p_KV[1] > -np.inf)).any())
    plausible = plausible_V(log_p_KV[1], share, allowed_V)
    assert not (plausible & ~allowed_V).any()
    assert plausible[np.where(allowed_V, log_p_KV[1], -np.inf).argmax()]
    assert (steer(log_p_KV, 1, llr, steering)[plausible] > -np.inf).any()


@pytest.mark.parametrize(
    ("share", "allowed", "expected"),
    [
        (0.0, [1, 1, 1, 1], [1, 1, 1, 1]),
        (0.1, [1, 1, 1, 1], [1, 1, 1, 0]),  # 0.06 is a tenth of 0.6
        (0.1001, [1, 1, 1, 1], [1, 1, 0, 0]),
        (1.0, [1, 1, 1, 1], [1, 0, 0, 0]),
        (0.1, [0, 1, 1, 1], [0, 1, 1, 1]),  # 0.04 of 0.3
        (1.0, [0, 0, 0, 1], [0, 0, 0, 1]),
    ],
)
def test_plausibility_is_a_share_of_the_likeliest_allowed_token(share, allowed, expected) -> None:
    log_p_V = np.log([0.6, 0.3, 0.06, 0.04])
    assert plausible_V(log_p_V, share, np.array(allowed, dtype=bool)).tolist() == [bool(keep) for keep in expected]


# ------------------------------------------------------------------------------------------- requests


def test_strengths_default_by_mode() -> None:
    assert contrast().strength_in_use == 0.5
    assert contrast(base=ON_MIXTURE).strength_in_use == 1
    assert cfg().strength_in_use == 1.5
    assert posterior().strength_in_use == 4
    assert replace(posterior(), mode=SteeringMode.cfg).strength_in_use == 1.5
    assert posterior(2).strength_in_use == 2
    assert PLAIN.strength_in_use == MIXTURE.strength_in_use == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"mode": SteeringMode.cfg, "strength": -0.5},
            r"^strength=-0\.5: give a number from 0 to 1000 .*other",
        ),
        ({"mode": SteeringMode.contrast, "strength": math.nan}, r"^strength=nan: give"),
        ({"mode": SteeringMode.posterior, "strength": math.inf}, r"^strength=inf: give"),
        ({"mode": SteeringMode.posterior, "strength": 1001}, r"^strength=1001: give"),
        ({"mode": SteeringMode.posterior, "strength": "much"}, r"^strength='much': give"),
        ({"strength": 1.0}, r"^strength=1\.0: steering mode plain has no strength"),
        ({"mode": SteeringMode.mixture, "strength": 0.0}, r"^strength=0\.0: steering mode mixture has no strength"),
        ({"base": ON_MIXTURE}, r"^base=mixture: steering mode plain has no base"),
        ({"mode": SteeringMode.posterior, "base": ON_MIXTURE}, r"^base=mixture: steering mode posterior has no base"),
        ({"plausibility": 1.5}, r"^plausibility=1\.5: give a share .* from 0 \(off\) to 1"),
        ({"plausibility": -0.1}, r"^plausibility=-0\.1: give"),
        ({"plausibility": math.nan}, r"^plausibility=nan: give"),
        ({"mode": SteeringMode.mixture, "plausibility": 0.1}, r"^plausibility=0\.1: .*use min_p"),
        ({"mode": SteeringMode.posterior, "posterior_scale": -1}, r"^posterior_scale=-1: give"),
        ({"mode": SteeringMode.posterior, "posterior_scale": math.inf}, r"^posterior_scale=inf: give"),
        ({"posterior_scale": 0.5}, r"^posterior_scale=0\.5: steering mode plain reads no posterior"),
        ({"mode": SteeringMode.contrast, "posterior_scale": 0.5}, r"^posterior_scale=0\.5: .*contrast reads no"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Steering(**options)


# ------------------------------------------------------------------------- exact heads of a corpus


HEADS = LawHeads(replace(TINY, confounding=0.0))


def texts_under(steering: Steering, num_texts: int, seed: int) -> tuple[list[list[int]], np.ndarray, np.ndarray]:
    """Texts steered to outcome 1; the log-ratio of the heads on each, and log q - log p*_1, nats a text."""
    noise = np.random.default_rng(seed)
    allowed_V = np.ones(HEADS.end + 1, dtype=bool)
    texts, evidence, divergence = [], [], []
    for _ in range(num_texts):
        text, words, llr, excess = HEADS.start(), [], 0.0, 0.0
        while HEADS.end not in words:
            log_p_KV = HEADS.log_p(text)
            kept_V = plausible_V(log_p_KV[1], steering.plausibility, allowed_V)
            log_q_V = normalised_V(np.where(kept_V, steer(log_p_KV, 1, llr, steering), -np.inf))
            word = int((log_q_V + noise.gumbel(size=len(log_q_V))).argmax())
            llr += log_p_KV[1, word] - log_p_KV[0, word]
            excess += log_q_V[word] - log_p_KV[1, word]
            words.append(word)
            if word != HEADS.end:
                text = HEADS.after(text, word)
        texts.append(words)
        evidence.append(llr)
        divergence.append(excess)
    return texts, np.array(evidence), np.array(divergence)


def test_the_heads_of_these_tests_are_the_law() -> None:
    texts, evidence, divergence = texts_under(PLAIN, 30, seed=0)
    read = [render([HEADS.law.vocabulary[word] for word in words[:-1]]) for words in texts]
    events = read_events(HEADS.law, read, [None] * len(read))
    log_p_RK = np.add.reduceat(log_probabilities(HEADS.law, events, Sampling.do), events.offset_R1[:-1])
    np.testing.assert_allclose(evidence, log_p_RK[:, 1] - log_p_RK[:, 0], atol=1e-9)
    np.testing.assert_allclose(divergence, 0, atol=1e-9)


@pytest.mark.parametrize(
    ("steering", "control", "divergence"),
    [
        (PLAIN, 0.896, 0.0),
        (contrast(), 0.976, 0.43),
        (posterior(), 0.992, 0.40),
        (contrast(1, plausibility=0.1), 0.992, 1.41),
    ],
    ids=["plain", "contrast", "posterior", "contrast within the plausible"],
)
def test_steering_gains_control_at_the_measured_price(steering, control: float, divergence: float) -> None:
    """Control: the exact posterior of the whole text favours outcome 1. Divergence: KL(q || p*_1), nats a text.

    Both as measured by the specification on another sample of 250 texts.
    """
    _, llr_R, divergence_R = texts_under(steering, 250, seed=1)
    assert (llr_R > 0).mean() == pytest.approx(control, abs=0.04)
    standard_error = divergence_R.std() / math.sqrt(len(divergence_R))
    assert divergence_R.mean() == pytest.approx(divergence, abs=4 * math.sqrt(2) * standard_error + 1e-9)
