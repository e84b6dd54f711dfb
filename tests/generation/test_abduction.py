"""Abducted noise: it gives the text back, it follows the posterior, and it changes no law.

Axes: N draws, T tokens, V vocabulary.
"""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nano_llm.data.arrays import FloatArray, IntArray
from nano_llm.errors import RequestError
from nano_llm.generation.abduction import LEAD, AbductedNoise, abduct, posterior_gumbel_TV
from nano_llm.generation.events import EventKeys
from nano_llm.generation.noise import Noise, Stream
from toy_laws import ENDS_SENTENCE_V, clock_of, laws_before, probabilities_of_two_tokens, toy_law, write

NUM_TOKENS = 24


def abduct_text(law, text, keys, noise, **settings) -> AbductedNoise:
    events = clock_of(keys).events_of(text)
    return abduct(laws_before(law, text), np.array(text, int), events, noise, **settings)


def draw(log_phi_NV: FloatArray, gumbel_NV: FloatArray) -> IntArray:
    return (log_phi_NV + gumbel_NV).argmax(axis=-1)


# ------------------------------------------------------------------------------------------ replay


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(1, 4000),
    scale=st.sampled_from([0.0, 1e-12, 1.0, 30.0, 700.0, 1e6, 1e17, 1e300]),
    masked=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_the_token_wins_strictly_under_any_law(seed: int, size: int, scale: float, masked: float) -> None:
    rng = np.random.default_rng(seed)
    num = 8
    tokens_T = rng.integers(size, size=num)
    logits_TV = -scale * rng.random((num, size))
    logits_TV[rng.random((num, size)) < masked * rng.random()] = -np.inf
    logits_TV[np.arange(num), tokens_T] = -scale * rng.random(num) * rng.integers(0, 2, num)
    log_phi_TV = logits_TV - np.logaddexp.reduce(logits_TV, axis=1, keepdims=True)
    gumbel_TV = posterior_gumbel_TV(log_phi_TV, tokens_T, rng.gumbel(size=(num, size)))
    assert np.isfinite(gumbel_TV).all()
    score_TV = log_phi_TV + gumbel_TV
    own_T = score_TV[np.arange(num), tokens_T].copy()
    score_TV[np.arange(num), tokens_T] = -np.inf
    assert (score_TV.max(axis=1) < own_T).all()
    if scale <= 1e6:
        assert (score_TV.max(axis=1) <= own_T - LEAD).all()


@pytest.mark.parametrize("scale", [1.0, 30.0, 700.0, 1e17])
def test_rivals_that_press_against_the_token_are_held_off_through_all_rounding(scale: float) -> None:
    rng = np.random.default_rng(3)
    num = 20_000
    phi_V = -scale * rng.random(num)
    phi_V[0] = -0.7
    prior_V = rng.gumbel(size=num) - phi_V + 50.0
    prior_V[0] = -1.3
    score_V = phi_V + posterior_gumbel_TV(phi_V[None], np.array([0]), prior_V[None])[0]
    assert score_V[1:].max() <= score_V[0] - LEAD
    assert score_V[1:].max() > score_V[0] - 2 * LEAD


@pytest.mark.parametrize("keys", list(EventKeys))
@pytest.mark.parametrize("masked", [0.0, 0.6])
@pytest.mark.parametrize("temperature", [0.05, 1.0, 3.0])
def test_the_head_of_the_text_writes_it_again(keys: EventKeys, masked: float, temperature: float) -> None:
    plain = toy_law(0, masked=masked)

    def law(text):
        scaled_V = plain(text) / temperature
        return scaled_V - np.logaddexp.reduce(scaled_V)

    for unit in range(10):
        text = write(law, Noise.of(1, unit), clock_of(keys), NUM_TOKENS)
        for seed in range(3):
            source = abduct_text(law, text, keys, Noise.of(seed, unit, 5))
            assert write(law, source, clock_of(keys), NUM_TOKENS) == text
            for num_kept in (1, 7, NUM_TOKENS):
                assert write(law, source, clock_of(keys), NUM_TOKENS, given=text[:num_kept]) == text


def test_a_text_that_the_head_would_hardly_write_is_written_again() -> None:
    rng = np.random.default_rng(0)
    law, keys = toy_law(0, size=300), EventKeys.event
    clock = clock_of(keys, rng.random(300) < 0.1)
    text = tuple(int(law(()).argsort()[t]) for t in range(NUM_TOKENS))
    source = abduct(laws_before(law, text), np.array(text), clock.events_of(text), Noise.of(0))
    assert write(law, source, clock, NUM_TOKENS) == text


def test_the_text_is_written_again_by_laws_that_rounding_has_moved() -> None:
    rng = np.random.default_rng(1)
    num = 100_000
    log_phi_NV = np.tile(toy_law(0)(()), (num, 1))
    x_N = draw(log_phi_NV, rng.gumbel(size=(num, 5)))
    gumbel_NV = posterior_gumbel_TV(log_phi_NV, x_N, rng.gumbel(size=(num, 5)))
    moved_NV = log_phi_NV + rng.uniform(-LEAD / 2.01, LEAD / 2.01, size=(num, 5))
    assert (draw(moved_NV, gumbel_NV) == x_N).all()


@pytest.mark.parametrize("keys", list(EventKeys))
def test_equal_heads_give_the_text_itself_as_its_counterfactual(keys: EventKeys) -> None:
    """Steered too: the mixture of equal heads is the same law but for its rounding, and strength adds nothing."""
    law = toy_law(0, masked=0.2)

    def steered(text):
        mixture_V = np.logaddexp(law(text), law(text)) - np.log(2)
        ratio_V = np.where(mixture_V > -np.inf, law(text), 0) - np.where(mixture_V > -np.inf, mixture_V, 0)
        return mixture_V + 4 * ratio_V

    for unit in range(20):
        text = write(law, Noise.of(1, unit), clock_of(keys), NUM_TOKENS)
        source = abduct_text(law, text, keys, Noise.of(2, unit))
        assert write(steered, source, clock_of(keys), NUM_TOKENS) == text


def test_noise_posteriors_of_one_text_differ() -> None:
    law, keys = toy_law(0), EventKeys.event
    text = write(law, Noise.of(0, 0), clock_of(keys), NUM_TOKENS)
    sources = [abduct_text(law, text, keys, Noise.of(3, 0, posterior)) for posterior in range(8)]
    assert len({float(source.gumbel_V((0, 0), 5)[0]) for source in sources}) == 8
    assert len({write(toy_law(1), source, clock_of(keys), NUM_TOKENS) for source in sources}) > 4


def test_greedy_text_is_possible_at_temperature_0_and_no_other() -> None:
    def greedy(text):
        log_phi_V = np.full(5, -np.inf)
        log_phi_V[toy_law(0)(text).argmax()] = 0
        return log_phi_V

    text = write(greedy, Noise.of(0), clock_of(EventKeys.event), NUM_TOKENS)
    source = abduct_text(greedy, text, EventKeys.event, Noise.of(1))
    assert write(greedy, source, clock_of(EventKeys.event), NUM_TOKENS) == text
    other = (*text[:6], (text[6] + 1) % 5, *text[7:])
    with pytest.raises(RequestError, match=r"Token 6 of the text .*above 0\.$"):
        abduct_text(greedy, other, EventKeys.event, Noise.of(1))


# --------------------------------------------------------------------------------------- posterior


@pytest.mark.parametrize("rank", range(4))
def test_the_posterior_is_what_rejection_sampling_leaves(rank: int) -> None:
    """Keep the prior draws whose argmax is the token. Entries and differences to the token's follow one law."""
    rng = np.random.default_rng(rank)
    log_phi_V = toy_law(0, masked=0.2)(())
    token = int(np.flatnonzero(log_phi_V > -np.inf)[rank])
    prior_NV = rng.gumbel(size=(60_000, 5))
    rejected_NV = prior_NV[draw(log_phi_V, prior_NV) == token]
    num = len(rejected_NV)
    abducted_NV = posterior_gumbel_TV(np.tile(log_phi_V, (num, 1)), np.full(num, token), rng.gumbel(size=(num, 5)))
    for v in range(5):
        assert stats.ks_2samp(rejected_NV[:, v], abducted_NV[:, v]).pvalue > 1e-3
        if v != token:
            gaps = [gumbel_NV[:, v] - gumbel_NV[:, token] for gumbel_NV in (rejected_NV, abducted_NV)]
            assert stats.ks_2samp(*gaps).pvalue > 1e-3


def test_over_the_heads_own_texts_the_abducted_noise_is_the_prior_again() -> None:
    rng = np.random.default_rng(0)
    num = 50_000
    log_phi_NV = np.tile(toy_law(0)(()), (num, 1))
    x_N = draw(log_phi_NV, rng.gumbel(size=(num, 5)))
    gumbel_NV = posterior_gumbel_TV(log_phi_NV, x_N, rng.gumbel(size=(num, 5)))
    for v in range(5):
        assert stats.kstest(gumbel_NV[:, v], "gumbel_r").pvalue > 1e-3
    correlation = np.corrcoef(gumbel_NV.T)[np.triu_indices(5, 1)]
    assert np.abs(correlation).max() < 4.5 / np.sqrt(num)


def test_an_abducted_branch_turns_only_to_tokens_that_gained_on_the_one_they_replace() -> None:
    rng = np.random.default_rng(2)
    num = 50_000
    log_p_V, log_q_V = toy_law(0)(()), toy_law(1)(())
    x_N = draw(log_p_V, rng.gumbel(size=(num, 5)))
    gumbel_NV = posterior_gumbel_TV(np.tile(log_p_V, (num, 1)), x_N, rng.gumbel(size=(num, 5)))
    y_N = draw(log_q_V, gumbel_NV)
    turned_N = x_N != y_N
    gain_V = log_q_V - log_p_V
    assert turned_N.sum() > 1_000
    assert (gain_V[y_N] > gain_V[x_N])[turned_N].all()


# --------------------------------------------------------------------------------------- marginals


@pytest.mark.parametrize("keys", list(EventKeys))
@pytest.mark.parametrize("similarity", [0.0, 0.5, 1.0])
def test_counterfactuals_of_head_0s_texts_follow_head_1(keys: EventKeys, similarity: float) -> None:
    """50,000 texts of two tokens at once: the posterior under test, the bookkeeping of events by hand."""
    rng = np.random.default_rng(4)
    num = 50_000
    laws = [toy_law(0), toy_law(1)]
    first_KV = np.array([law(()) for law in laws])
    second_KVV = np.array([[law((token,)) for token in range(5)] for law in laws])

    x1_N = draw(first_KV[0], rng.gumbel(size=(num, 5)))
    x2_N = draw(second_KVV[0, x1_N], rng.gumbel(size=(num, 5)))
    abducted1_NV = posterior_gumbel_TV(np.tile(first_KV[0], (num, 1)), x1_N, rng.gumbel(size=(num, 5)))
    abducted2_NV = posterior_gumbel_TV(second_KVV[0, x1_N], x2_N, rng.gumbel(size=(num, 5)))

    keeps_N2 = rng.random((num, 2)) < similarity
    y1_N = draw(first_KV[1], np.where(keeps_N2[:, :1], abducted1_NV, rng.gumbel(size=(num, 5))))
    same_event_N = (ENDS_SENTENCE_V[x1_N] == ENDS_SENTENCE_V[y1_N]) | (keys is EventKeys.position)
    keeps2_N = keeps_N2[:, 1] & same_event_N
    y2_N = draw(second_KVV[1, y1_N], np.where(keeps2_N[:, None], abducted2_NV, rng.gumbel(size=(num, 5))))

    expected_VV = np.exp(first_KV[1][:, None] + second_KVV[1])
    counts_VV = np.zeros((5, 5))
    np.add.at(counts_VV, (y1_N, y2_N), 1)
    assert stats.chisquare(counts_VV.ravel(), num * expected_VV.ravel()).pvalue > 1e-3


@pytest.mark.parametrize("keys", list(EventKeys))
@pytest.mark.parametrize("similarity", [0.0, 0.5, 1.0])
def test_keyed_counterfactuals_of_head_0s_texts_follow_head_1(keys: EventKeys, similarity: float) -> None:
    num = 4_000
    counts: Counter[tuple[int, ...]] = Counter()
    for unit in range(num):
        text = write(toy_law(0), Noise.of(21, unit), clock_of(keys), 2)
        source = abduct_text(toy_law(0), text, keys, Noise.of(22, unit), similarity=similarity)
        counts[write(toy_law(1), source, clock_of(keys), 2)] += 1
    expected = probabilities_of_two_tokens(toy_law(1))
    fit = stats.chisquare([counts[text] for text in expected], [num * share for share in expected.values()])
    assert fit.pvalue > 1e-3


def test_after_a_kept_prefix_the_other_head_goes_on_by_its_own_law() -> None:
    num = 6_000
    counts_VV = np.zeros((5, 5))
    for unit in range(num):
        text = write(toy_law(0), Noise.of(31, unit), clock_of(EventKeys.event), 2)
        source = abduct_text(toy_law(0), text, EventKeys.event, Noise.of(32, unit))
        counts_VV[write(toy_law(1), source, clock_of(EventKeys.event), 2, given=text[:1])] += 1
    for first in range(5):
        expected_V = counts_VV[first].sum() * np.exp(toy_law(1)((first,)))
        assert stats.chisquare(counts_VV[first], expected_V).pvalue > 1e-3


# -------------------------------------------------------------------------------------- similarity


@pytest.mark.parametrize("keys", list(EventKeys))
def test_no_similarity_is_the_plain_intervention_bit_for_bit(keys: EventKeys) -> None:
    for unit in range(10):
        noise = Noise.of(3, unit)
        text = write(toy_law(0), Noise.of(4, unit), clock_of(keys), NUM_TOKENS)
        source = abduct_text(toy_law(0), text, keys, noise, similarity=0.0)
        for event in [*clock_of(keys).events_of(text), (50, 0)]:
            assert source.gumbel_V(event, 5).tobytes() == noise.gumbel_V(event, 5).tobytes()
        assert write(toy_law(1), source, clock_of(keys), 40) == write(toy_law(1), noise, clock_of(keys), 40)


def test_events_kept_at_one_similarity_are_kept_with_the_same_noise_at_all_larger_ones() -> None:
    noise, text = Noise.of(5, 0), write(toy_law(0), Noise.of(6, 0), clock_of(EventKeys.position), 400)
    kept_before: dict[tuple[int, int], bytes] = {}
    for similarity in np.linspace(0, 1, 11):
        source = abduct_text(toy_law(0), text, EventKeys.position, noise, similarity=float(similarity))
        kept = {event: gumbel_V.tobytes() for event, gumbel_V in source.abducted.items()}
        assert kept_before.items() <= kept.items()
        assert abs(len(kept) - 400 * similarity) <= 4.5 * np.sqrt(400 * similarity * (1 - similarity))
        kept_before = kept
    assert len(kept_before) == 400


def test_events_that_the_text_never_visited_take_the_units_fresh_noise() -> None:
    noise, text = Noise.of(5, 0), (1, 2, 0, 4)
    source = abduct_text(toy_law(0), text, EventKeys.event, noise)
    assert set(source.abducted) == {(0, 0), (0, 1), (0, 2), (1, 0)}
    for event in [(0, 3), (1, 1), (9, 9)]:
        assert source.gumbel_V(event, 5).tolist() == noise.gumbel_V(event, 5).tolist()
    empty = abduct(np.empty((0, 5)), np.empty(0, int), [], noise)
    assert empty.gumbel_V((0, 0), 5).tolist() == noise.gumbel_V((0, 0), 5).tolist()


def test_masked_entries_and_the_maximum_are_draws_of_a_stream_of_their_own() -> None:
    noise, log_phi_V = Noise.of(8, 1), np.array([-np.inf, np.log(0.25), -np.inf, np.log(0.75), -np.inf])
    source = abduct(log_phi_V[None], np.array([1]), [(2, 3)], noise)
    gumbel_V, prior_V = source.gumbel_V((2, 3), 5), noise.gumbel_V((2, 3), 5, Stream.posterior)
    assert gumbel_V[[0, 2, 4]].tolist() == prior_V[[0, 2, 4]].tolist()
    assert gumbel_V[1] == prior_V[1] - log_phi_V[1]
    assert not np.isin(gumbel_V, noise.gumbel_V((2, 3), 5)).any()


def test_a_texts_noise_cannot_be_written_to() -> None:
    source = abduct_text(toy_law(0), (1, 2), EventKeys.event, Noise.of(0))
    with pytest.raises(ValueError, match="read-only"):
        source.gumbel_V((0, 0), 5)[0] = 0


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize("similarity", [-0.1, 1.0001, float("nan")])
def test_a_similarity_that_is_no_share_is_refused(similarity: float) -> None:
    with pytest.raises(RequestError, match=rf"similarity={similarity} .*from 0 .* to 1"):
        abduct_text(toy_law(0), (1, 2), EventKeys.event, Noise.of(0), similarity=similarity)


def test_the_first_token_that_the_laws_exclude_is_named() -> None:
    log_phi_TV = laws_before(toy_law(0), (1, 2, 3, 1, 4))
    log_phi_TV[[2, 4], [3, 4]] = -np.inf
    log_phi_TV[2, 1] = 0
    events = clock_of(EventKeys.position).events_of((1, 2, 3, 1, 4))
    names = ["nil", "one", "two", "three", "four"]
    with pytest.raises(RequestError, match=r"Token 2 of the text \(counted from 0\), 'three', .*'one'.*top-k"):
        abduct(log_phi_TV, np.array([1, 2, 3, 1, 4]), events, Noise.of(0), name_token=names.__getitem__)
