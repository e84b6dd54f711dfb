"""Each knob against another implementation, their order, their edges.

Axis: V vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp

from nano_llm.errors import RequestError
from nano_llm.generation.sampling import Sampling, shape

many = settings(deadline=None, max_examples=200)
weights = st.lists(st.integers(0, 12), min_size=1, max_size=9).filter(any)
"""Small whole numbers: sums are exact, equals are common, zeros are ruled out."""


def law_of(weight_V: Sequence[int]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(weight_V) / sum(weight_V))


def shaped(
    weight_V: Sequence[int], allowed: Sequence[int] | None = None, seen: Sequence[int] = (), **knobs: Any
) -> np.ndarray:
    """Probabilities after shaping; all tokens are allowed unless told."""
    allowed_V = np.ones(len(weight_V), dtype=bool) if allowed is None else np.array(allowed, dtype=bool)
    return np.exp(shape(law_of(weight_V), Sampling(**knobs), allowed_V, seen))


def by_likelihood(weight_V: Sequence[int]) -> list[int]:
    """Tokens from the likeliest down; of equals the lowest id first."""
    return sorted(range(len(weight_V)), key=lambda v: (-weight_V[v], v))


def kept(weight_V: Sequence[int], tokens: Sequence[int]) -> np.ndarray:
    """The law given that the token is one of these."""
    kept_V = [weight if v in tokens else 0 for v, weight in enumerate(weight_V)]
    return np.array(kept_V) / sum(kept_V)


# ------------------------------------------------------------------------------- one knob at a time


@many
@given(weights)
def test_defaults_leave_the_law_as_it_is(weight_V) -> None:
    np.testing.assert_allclose(shaped(weight_V), np.array(weight_V) / sum(weight_V), atol=1e-12)


@many
@given(weights, st.data())
def test_forbidden_tokens_are_conditioned_away(weight_V, data) -> None:
    possible = [v for v, weight in enumerate(weight_V) if weight]
    chosen = data.draw(st.sets(st.sampled_from(possible), min_size=1))
    allowed = [v in chosen or weight_V[v] == 0 for v in range(len(weight_V))]
    np.testing.assert_allclose(shaped(weight_V, allowed), kept(weight_V, sorted(chosen)), atol=1e-12)


@many
@given(weights, st.floats(0.01, 50))
def test_temperature_is_that_of_a_softmax(weight_V, temperature) -> None:
    expected_V = torch.softmax(torch.from_numpy(law_of(weight_V)) / temperature, dim=0).numpy()
    np.testing.assert_allclose(shaped(weight_V, temperature=temperature), expected_V, atol=1e-12)


@many
@given(weights, st.integers(1, 12))
def test_top_k_keeps_exactly_k_and_of_equals_the_lowest_ids(weight_V, top_k) -> None:
    expected_V = kept(weight_V, by_likelihood(weight_V)[:top_k])
    np.testing.assert_allclose(shaped(weight_V, top_k=top_k), expected_V, atol=1e-12)


@many
@given(weights, st.integers(1, 120).map(lambda tenths: Fraction(tenths, 120)))
def test_top_p_keeps_the_fewest_that_reach_p(weight_V, top_p) -> None:
    """Summed in fractions, where reaching p exactly is no matter of rounding."""
    tokens: list[int] = []
    while sum((Fraction(weight_V[v], sum(weight_V)) for v in tokens), Fraction(0)) < top_p:
        tokens = by_likelihood(weight_V)[: len(tokens) + 1]
    np.testing.assert_allclose(shaped(weight_V, top_p=float(top_p)), kept(weight_V, tokens), atol=1e-12)


@many
@given(weights, st.integers(1, 120).map(lambda tenths: Fraction(tenths, 120)))
def test_min_p_keeps_a_share_of_the_likeliest(weight_V, min_p) -> None:
    tokens = [v for v, weight in enumerate(weight_V) if weight >= min_p * max(weight_V)]
    np.testing.assert_allclose(shaped(weight_V, min_p=float(min_p)), kept(weight_V, tokens), atol=1e-12)


@many
@given(weights, st.floats(0.1, 10), st.lists(st.integers(0, 8), max_size=6))
def test_the_penalty_raises_what_was_seen_to_its_power_once(weight_V, penalty, seen) -> None:
    seen = [v for v in seen if v < len(weight_V)]
    power_V = [penalty if v in seen else 1.0 for v in range(len(weight_V))]
    weighed_V = (np.array(weight_V) / sum(weight_V)) ** power_V
    np.testing.assert_allclose(
        shaped(weight_V, seen=seen, repetition_penalty=penalty), weighed_V / weighed_V.sum(), atol=1e-12
    )


def test_the_penalty_is_that_of_ctrl_where_all_logits_are_negative() -> None:
    """On log-probabilities; CTRL's own rule on shifted logits of the same law gives another answer."""
    logit_V = torch.log_softmax(torch.tensor([1.0, 0.5, -1.0, 2.0], dtype=torch.float64), dim=0)
    seen = torch.tensor([0, 2])

    def ctrl(score_V: torch.Tensor) -> np.ndarray:
        score = score_V.gather(0, seen)
        return score_V.scatter(0, seen, torch.where(score < 0, score * 1.3, score / 1.3)).softmax(0).numpy()

    ours_V = np.exp(shape(logit_V.numpy(), Sampling(repetition_penalty=1.3), np.ones(4, dtype=bool), [2, 0, 0]))
    np.testing.assert_allclose(ours_V, ctrl(logit_V), atol=1e-12)
    assert np.abs(ours_V - ctrl(logit_V + 5)).max() > 0.03


def test_a_certain_token_stays_certain_under_a_penalty() -> None:
    assert shaped([0, 5, 0], seen=[1], repetition_penalty=10).tolist() == [0, 1, 0]


# ---------------------------------------------------------------------------------------- no temperature


@many
@given(weights, st.integers(0, 9), st.floats(0.01, 1))
def test_no_temperature_is_a_point_mass_on_the_likeliest_with_the_lowest_id(weight_V, top_k, top_p) -> None:
    log_phi_V = shape(law_of(weight_V), Sampling(0.0, top_k, top_p, min_p=0.3), np.ones(len(weight_V), dtype=bool), [])
    expected_V = np.full(len(weight_V), -np.inf)
    expected_V[by_likelihood(weight_V)[0]] = 0
    assert log_phi_V.tolist() == expected_V.tolist()


def test_the_likeliest_token_is_one_that_may_be_drawn() -> None:
    assert shaped([9, 3, 4, 4], [0, 1, 1, 1], temperature=0).tolist() == [0, 0, 1, 0]
    assert shaped([9, 3, 4, 4], [0, 1, 1, 1], seen=[2], repetition_penalty=2, temperature=0).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("temperature", [1e-8, 1e-300, 5e-324])
def test_the_coldest_temperature_shares_among_equals_alone(temperature: float) -> None:
    assert shaped([5, 2, 5, 0], temperature=temperature).tolist() == [0.5, 0, 0.5, 0]
    assert shaped([9, 2, 5, 0], [0, 1, 1, 1], temperature=temperature).tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("temperature", [1e20, 1e308])
def test_the_hottest_temperature_is_even_over_what_can_come(temperature: float) -> None:
    np.testing.assert_allclose(shaped([1, 900, 7, 0], temperature=temperature), [1 / 3, 1 / 3, 1 / 3, 0])


# ------------------------------------------------------------------------------------------------- order


def step_penalty(probability_V: np.ndarray) -> np.ndarray:
    return normal(np.array([probability_V[0] ** 3, *probability_V[1:]]))


def step_temperature(probability_V: np.ndarray) -> np.ndarray:
    return normal(probability_V ** (1 / 1.5))


def step_mask(probability_V: np.ndarray) -> np.ndarray:
    return normal(probability_V * (np.arange(6) != 1))


def step_top_k(probability_V: np.ndarray) -> np.ndarray:
    return normal(np.where(probability_V >= np.sort(probability_V)[-4], probability_V, 0))


def step_top_p(probability_V: np.ndarray) -> np.ndarray:
    falling_V = np.sort(probability_V)[::-1]
    num = int((falling_V.cumsum() < 0.7).sum()) + 1
    return normal(np.where(probability_V >= falling_V[num - 1], probability_V, 0))


def step_min_p(probability_V: np.ndarray) -> np.ndarray:
    return normal(np.where(probability_V >= 0.29 * probability_V.max(), probability_V, 0))


def normal(weight_V: np.ndarray) -> np.ndarray:
    return weight_V / weight_V.sum()


Step = Callable[[np.ndarray], np.ndarray]
IN_ORDER = [step_penalty, step_temperature, step_mask, step_top_k, step_top_p, step_min_p]
KNOBS: dict[Step, dict[str, Any]] = {
    step_penalty: {"repetition_penalty": 3.0, "seen": [0]},
    step_temperature: {"temperature": 1.5},
    step_mask: {"allowed": [1, 0, 1, 1, 1, 1]},
    step_top_k: {"top_k": 4},
    step_top_p: {"top_p": 0.7},
    step_min_p: {"min_p": 0.29},
}
WEIGHTS = [36, 26, 11, 9, 8, 5]  # on which the pairs of steps below do not commute


def in_turn(steps: Sequence[Step]) -> np.ndarray:
    probability_V = np.array(WEIGHTS) / sum(WEIGHTS)
    for step in steps:
        probability_V = step(probability_V)
    return probability_V


@pytest.mark.parametrize("on", list(product([False, True], repeat=6)), ids=str)
def test_every_combination_of_knobs_is_their_steps_in_the_documented_order(on: tuple[bool, ...]) -> None:
    steps = [step for step, is_on in zip(IN_ORDER, on, strict=True) if is_on]
    knobs: dict[str, Any] = {}
    for step in steps:
        knobs |= KNOBS[step]
    np.testing.assert_allclose(shaped(WEIGHTS, **knobs), in_turn(steps), atol=1e-12)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (step_penalty, step_mask),
        (step_penalty, step_top_k),
        (step_penalty, step_top_p),
        (step_temperature, step_top_p),
        (step_temperature, step_min_p),
        (step_mask, step_top_k),
        (step_mask, step_top_p),
        (step_top_k, step_top_p),
        (step_top_p, step_min_p),
    ],
    ids=lambda step: step.__name__,
)
def test_another_order_would_give_another_law(first: Step, second: Step) -> None:
    law_V = shaped(WEIGHTS, **KNOBS[first], **KNOBS[second])
    np.testing.assert_allclose(law_V, in_turn([first, second]), atol=1e-12)
    assert np.abs(law_V - in_turn([second, first])).max() > 0.05


# ------------------------------------------------------------------------------------------------- edges


@many
@given(
    st.lists(st.one_of(st.floats(-800, 800), st.just(-math.inf), st.just(1.0)), min_size=1, max_size=40),
    st.builds(
        Sampling,
        temperature=st.one_of(st.floats(0, 3), st.just(1.0), st.floats(0, 1e308)),
        top_k=st.integers(0, 50),
        top_p=st.floats(0, 1, exclude_min=True),
        min_p=st.floats(0, 1),
        repetition_penalty=st.one_of(st.just(1.0), st.floats(0, 1000, exclude_min=True)),
    ),
    st.data(),
)
def test_whatever_is_asked_something_is_left_and_it_is_a_law(logits, sampling, data) -> None:
    size = len(logits)
    if max(logits) == -math.inf:
        logits[0] = 0.0
    log_q_V = log_softmax(np.array(logits))
    allowed_V = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    allowed_V[log_q_V.argmax()] |= not (allowed_V & (log_q_V > -np.inf)).any()
    seen = data.draw(st.lists(st.integers(0, size - 1), max_size=5))
    before_V = log_q_V.copy()
    log_phi_V = shape(log_q_V, sampling, allowed_V, seen)
    assert (log_q_V == before_V).all()
    assert log_phi_V.dtype == np.float64
    assert logsumexp(log_phi_V) == pytest.approx(0, abs=1e-9)
    assert (log_phi_V <= 1e-12).all()
    possible_V = allowed_V & (log_q_V > -np.inf)
    assert not (np.isfinite(log_phi_V) & ~possible_V).any()
    if sampling.top_k:
        assert np.isfinite(log_phi_V).sum() <= sampling.top_k


def test_one_token_is_all_there_is() -> None:
    assert shaped([3], temperature=0.5, top_k=1, top_p=0.1, min_p=1.0, repetition_penalty=2.0, seen=[0]) == [1]


def test_top_p_of_one_cuts_nothing_however_small() -> None:
    logits_V = np.array([0.0, -700.0, -30.0])
    log_phi_V = shape(log_softmax(logits_V), Sampling(top_p=1.0), np.ones(3, dtype=bool), [])
    np.testing.assert_allclose(log_phi_V, logits_V, atol=1e-9)


def test_a_tiny_top_p_is_the_likeliest_token_alone() -> None:
    assert shaped([2, 5, 5, 1], top_p=1e-15).tolist() == [0, 1, 0, 0]


def test_the_penalty_alone_reads_what_was_seen() -> None:
    assert shaped([1, 1], seen=[0], temperature=0.5).tolist() == [0.5, 0.5]


# ---------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"temperature": -0.1}, r"^temperature=-0\.1: give a finite number of at least 0 .*likeliest"),
        ({"temperature": math.nan}, r"^temperature=nan: give"),
        ({"temperature": math.inf}, r"^temperature=inf: give"),
        ({"temperature": "hot"}, r"^temperature='hot': give"),
        ({"top_k": -1}, r"^top_k=-1: give a whole number of at least 0"),
        ({"top_k": 2.5}, r"^top_k=2\.5: give a whole number"),
        ({"top_k": True}, r"^top_k=True: give"),
        ({"top_p": 0.0}, r"^top_p=0\.0: give a number above 0, at most 1 \(1 cuts nothing\)\.$"),
        ({"top_p": 1.1}, r"^top_p=1\.1: give"),
        ({"top_p": math.nan}, r"^top_p=nan: give"),
        ({"min_p": -0.1}, r"^min_p=-0\.1: give a number from 0 to 1"),
        ({"min_p": 1.5}, r"^min_p=1\.5: give"),
        ({"repetition_penalty": 0.0}, r"^repetition_penalty=0\.0: give a number above 0"),
        ({"repetition_penalty": math.inf}, r"^repetition_penalty=inf: give"),
        ({"repetition_penalty": None}, r"^repetition_penalty=None: give"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message) as refusal:
        Sampling(**knobs)
    assert refusal.value.exit_status == 2
