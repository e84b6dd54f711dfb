"""The law of the next token: which heads and rules make it, and what it remembers of the text.

Axes: T tokens, K outcomes, V vocabulary.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano_llm.data.arrays import FloatArray
from nano_llm.generation.law import Law
from nano_llm.generation.sampling import Sampling, shape
from nano_llm.generation.steering import ContrastBase, Steering, SteeringMode, steer

VOCAB_SIZE = 7
ALLOWED_V = np.array([False, False, True, True, True, True, True])
ALL_V = np.ones(VOCAB_SIZE, bool)


def heads(seed: int, num_tokens: int, num_heads: int = 2) -> FloatArray:
    logits_TKV = 2 * np.random.default_rng(seed).normal(size=(num_tokens, num_heads, VOCAB_SIZE))
    laws: FloatArray = logits_TKV - np.logaddexp.reduce(logits_TKV, axis=-1, keepdims=True)
    return laws


def law_of(outcome: int = 1, allowed_V: np.ndarray = ALLOWED_V, **fields: object) -> Law:
    given = {"steering": Steering(), "sampling": Sampling(), **fields}
    return Law(outcome, allowed_V=allowed_V, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("outcome", [0, 1])
@pytest.mark.parametrize("num_heads", [1, 2])
def test_the_plain_law_is_the_wanted_head_of_what_may_be_drawn(outcome: int, num_heads: int) -> None:
    (log_p_KV,) = heads(0, 1, num_heads)
    p_V = np.where(ALLOWED_V, np.exp(log_p_KV[outcome if num_heads == 2 else 0]), 0)
    found_V = law_of(outcome).next(log_p_KV)
    np.testing.assert_allclose(np.exp(found_V), p_V / p_V.sum(), rtol=1e-12)
    assert (found_V[~ALLOWED_V] == -np.inf).all()


@given(seed=st.integers(0, 1000), tokens=st.lists(st.integers(2, VOCAB_SIZE - 1), min_size=1, max_size=30))
@settings(deadline=None, max_examples=60)
def test_along_a_text_the_mixture_weighs_the_heads_by_what_they_said_of_it(seed: int, tokens: list[int]) -> None:
    log_p_TKV = heads(seed, len(tokens))
    found_TV = law_of(allowed_V=ALL_V, steering=Steering(SteeringMode.mixture)).along(log_p_TKV, tokens)
    said_K = np.ones(2)  # probability of the text so far under each head
    for log_p_KV, token, found_V in zip(log_p_TKV, tokens, found_TV, strict=True):
        np.testing.assert_allclose(np.exp(found_V), said_K / said_K.sum() @ np.exp(log_p_KV), rtol=1e-9)
        said_K = said_K * np.exp(log_p_KV[:, token])


@pytest.mark.parametrize("outcome", [0, 1])
def test_the_mixture_wants_neither_outcome(outcome: int) -> None:
    log_p_TKV, tokens = heads(3, 5), [2, 3, 4, 5, 6]
    law_TV = law_of(outcome, steering=Steering(SteeringMode.mixture)).along(log_p_TKV, tokens)
    other_TV = law_of(1 - outcome, steering=Steering(SteeringMode.mixture)).along(log_p_TKV, tokens)
    np.testing.assert_array_equal(law_TV, other_TV)


def test_the_evidence_is_that_of_the_heads_whatever_rule_the_tokens_were_drawn_by() -> None:
    log_p_TKV, tokens = heads(1, 6), [2, 6, 3, 3, 5, 2]
    expected = sum(float(row[1, token] - row[0, token]) for row, token in zip(log_p_TKV, tokens, strict=True))
    for steering in (Steering(), Steering(SteeringMode.posterior, strength=9), Steering(SteeringMode.contrast)):
        for outcome in (0, 1):
            law = law_of(outcome, steering=steering, sampling=Sampling(temperature=0.3, repetition_penalty=2))
            law.along(log_p_TKV, tokens)
            assert law.llr == pytest.approx(expected, abs=1e-12)
            assert law.seen == {2, 3, 5, 6}


def test_one_head_gives_no_evidence() -> None:
    law = law_of()
    law.along(heads(1, 3, num_heads=1), [2, 3, 4])
    assert (law.llr, law.seen) == (0.0, {2, 3, 4})


@pytest.mark.parametrize(
    "steering",
    [
        Steering(),
        Steering(SteeringMode.contrast, strength=1.5, base=ContrastBase.mixture, posterior_scale=0.4),
        Steering(SteeringMode.posterior, plausibility=0.2),
        Steering(SteeringMode.cfg),
    ],
)
def test_along_a_text_is_next_and_follow_by_turns(steering: Steering) -> None:
    log_p_TKV, tokens = heads(4, 8), [2, 3, 4, 5, 6, 2, 2, 3]
    sampling = Sampling(temperature=0.7, top_p=0.9, repetition_penalty=1.3)
    along, stepping = (law_of(0, steering=steering, sampling=sampling) for _ in range(2))
    found_TV = along.along(log_p_TKV, tokens)
    for log_p_KV, token, found_V in zip(log_p_TKV, tokens, found_TV, strict=True):
        np.testing.assert_array_equal(stepping.next(log_p_KV), found_V)
        np.testing.assert_array_equal(stepping.next(log_p_KV), found_V)  # looking changes nothing
        stepping.follow(token, log_p_KV[:, token].tolist())
    assert (along.llr, along.seen) == (stepping.llr, stepping.seen)


def test_rules_come_before_knobs_and_read_the_text_so_far() -> None:
    log_p_TKV, tokens = heads(5, 4), [2, 3, 4, 5]
    steering, sampling = Steering(SteeringMode.posterior, strength=3), Sampling(temperature=0.5, repetition_penalty=1.5)
    law, llr = law_of(0, steering=steering, sampling=sampling), 0.0
    for t, (log_p_KV, token) in enumerate(zip(log_p_TKV, tokens, strict=True)):
        expected_V = shape(steer(log_p_KV, 0, llr, steering), sampling, ALLOWED_V, tokens[:t])
        np.testing.assert_array_equal(law.next(log_p_KV), expected_V)
        law.follow(token, log_p_KV[:, token].tolist())
        llr += float(log_p_KV[1, token] - log_p_KV[0, token])


def test_plausibility_is_judged_by_the_wanted_head_not_by_the_steered_law() -> None:
    log_p_KV = np.log([[0.01, 0.01, 0.04, 0.04, 0.10, 0.40, 0.40], [0.3, 0.3, 0.04, 0.16, 0.15, 0.04, 0.01]])
    steering = Steering(SteeringMode.contrast, strength=5, plausibility=0.5)
    # Of what may be drawn, head 1 finds 3 likeliest, and 4 nearly so; head 0 finds 5 and 6 alike.
    assert np.flatnonzero(law_of(1, steering=steering).next(log_p_KV) > -np.inf).tolist() == [3, 4]
    assert np.flatnonzero(law_of(0, steering=steering).next(log_p_KV) > -np.inf).tolist() == [5, 6]


def test_plausibility_is_read_under_one_head_too() -> None:
    log_p_KV = np.log([[0.3, 0.3, 0.04, 0.16, 0.15, 0.04, 0.01]])
    found_V = law_of(0, steering=Steering(plausibility=0.5)).next(log_p_KV)
    assert np.flatnonzero(found_V > -np.inf).tolist() == [3, 4]
