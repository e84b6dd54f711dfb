"""Keyed noise: a pure function of its key, Gumbel, and what sharing it does to two branches."""

from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from nano_llm.data.arrays import FloatArray
from nano_llm.errors import RequestError
from nano_llm.generation.events import EventKeys
from nano_llm.generation.noise import Noise, Stream
from toy_laws import clock_of, probabilities_of_two_tokens, toy_law, write

EVENTS = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0)]


def keyed_NV(num: int, size: int) -> FloatArray:
    noise = Noise.of(7, 3)
    return np.array([noise.gumbel_V((0, t), size) for t in range(num)])


def test_noise_is_a_function_of_seed_unit_and_event() -> None:
    units = [(), (0,), (1,), (0, 0), (0, 1), (1, 0)]
    keys = list(product([0, 1, 2**64 - 1], units, EVENTS))
    forwards = [Noise.of(seed, *unit).gumbel_V(event, 9).tolist() for seed, unit, event in keys]
    noises = {(seed, unit): Noise.of(seed, *unit) for seed, unit, _ in keys}
    backwards = [noises[seed, unit].gumbel_V(event, 9).tolist() for seed, unit, event in reversed(keys)]
    assert backwards[::-1] == forwards
    values = [value for row in forwards for value in row]
    assert len(set(values)) == len(values)


def test_a_smaller_vocabulary_sees_the_beginning_of_the_same_noise() -> None:
    noise = Noise.of(1, 2)
    assert noise.gumbel_V((4, 2), 1000)[:37].tolist() == noise.gumbel_V((4, 2), 37).tolist()


@pytest.mark.parametrize("stream", list(Stream))
@pytest.mark.parametrize("event", [(0, 0), (3, 5), (2**64 - 1, 2**64 - 1)])
def test_an_event_stands_in_the_counter_where_advancing_the_generator_would_bring_it(
    event: tuple[int, int], stream: Stream
) -> None:
    noise = Noise.of(5, 8)
    generator = np.random.Philox(key=noise.key[0] + (noise.key[1] << 64))
    generator.advance((event[0] << 64) + (event[1] << 128) + (stream << 192))
    expected_V = -np.log(np.random.Generator(generator).standard_exponential(50))
    assert noise.gumbel_V(event, 50, stream).tolist() == expected_V.tolist()


def test_long_draws_of_neighbouring_events_units_and_streams_share_no_value() -> None:
    drawn = [Noise.of(0, 1).gumbel_V(event, 20_000) for event in EVENTS]
    drawn += [Noise.of(0, 1).gumbel_V((0, 0), 20_000, stream) for stream in (Stream.similarity, Stream.posterior)]
    drawn += [Noise.of(0, 2).gumbel_V((0, 0), 20_000), Noise.of(1, 1).gumbel_V((0, 0), 20_000)]
    values = np.concatenate(drawn)
    assert np.unique(values).size == values.size


def test_noise_is_gumbel_within_an_event_across_events_and_across_units() -> None:
    noise = Noise.of(0, 0)
    within = noise.gumbel_V((0, 0), 50_000)
    across_events = np.array([noise.gumbel_V((s, t), 1)[0] for s in range(100) for t in range(100)])
    across_units = np.array([Noise.of(0, unit, 1).gumbel_V((0, 0), 1)[0] for unit in range(5_000)])
    for draws in (within, across_events, across_units):
        assert stats.kstest(draws, "gumbel_r").pvalue > 1e-3


def test_uniforms_are_uniform_across_events_and_units() -> None:
    noise = Noise.of(0, 0)
    assert stats.kstest([noise.uniform((s, t)) for s in range(70) for t in range(70)], "uniform").pvalue > 1e-3
    assert stats.kstest([Noise.of(0, unit).uniform((0, 0)) for unit in range(5_000)], "uniform").pvalue > 1e-3


def test_seeds_units_events_and_streams_are_uncorrelated() -> None:
    num = 20_000
    rows = [Noise.of(seed, *unit).gumbel_V((0, 0), num) for seed in (0, 1) for unit in [(0,), (1,), (0, 1)]]
    rows += [Noise.of(0, 0).gumbel_V(event, num, stream) for event in EVENTS[1:] for stream in Stream]
    correlation = np.corrcoef(rows)[np.triu_indices(len(rows), 1)]
    assert np.abs(correlation).max() < 4.5 / np.sqrt(num)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(RequestError, match=rf"seed={seed} .*from 0 to 2\^64 - 1"):
        Noise.of(seed, 0)


def test_two_branches_agree_as_often_as_the_closed_form_says() -> None:
    """P(both draw i) = 1 / sum_j max(p_j / p_i, q_j / q_i)."""
    num = 50_000
    p_V, q_V = np.exp(toy_law(0)(())), np.exp(toy_law(1)(()))
    gumbel_NV = keyed_NV(num, 5)
    x_N, y_N = (np.log(p_V) + gumbel_NV).argmax(1), (np.log(q_V) + gumbel_NV).argmax(1)
    both_V = np.array([1 / np.maximum(p_V / p_V[i], q_V / q_V[i]).sum() for i in range(5)])
    for i in range(5):
        error = np.sqrt(both_V[i] * (1 - both_V[i]) / num)
        assert abs(np.mean((x_N == i) & (y_N == i)) - both_V[i]) < 4 * error
    agreement = both_V.sum()
    assert abs(np.mean(x_N == y_N) - agreement) < 4 * np.sqrt(agreement * (1 - agreement) / num)
    assert agreement > (p_V * q_V).sum() + 0.1  # what independent branches would have


def test_a_coupled_branch_turns_only_to_tokens_that_gained_on_the_one_they_replace() -> None:
    log_ratio_V = toy_law(1)(()) - toy_law(0)(())
    gumbel_NV = keyed_NV(50_000, 5)
    turns = Counter(
        zip(
            (toy_law(0)(()) + gumbel_NV).argmax(1).tolist(),
            (toy_law(1)(()) + gumbel_NV).argmax(1).tolist(),
            strict=True,
        )
    )
    for i, j in combinations(range(5), 2):
        assert log_ratio_V[j] > log_ratio_V[i] or not turns[i, j]
        assert log_ratio_V[i] > log_ratio_V[j] or not turns[j, i]
    assert sum(num for (i, j), num in turns.items() if i != j) > 1_000


@pytest.mark.parametrize("keys", list(EventKeys))
def test_coupling_leaves_the_law_of_each_branch_alone(keys: EventKeys) -> None:
    num = 5_000
    sources = [Noise.of(11, unit) for unit in range(num)]
    for head in (0, 1):
        law = toy_law(head)
        counts = Counter(write(law, source, clock_of(keys), 2) for source in sources)
        expected = probabilities_of_two_tokens(law)
        fit = stats.chisquare([counts[text] for text in expected], [num * share for share in expected.values()])
        assert fit.pvalue > 1e-3


@pytest.mark.parametrize("keys", list(EventKeys))
def test_equal_laws_write_equal_texts(keys: EventKeys) -> None:
    texts = {write(toy_law(0, masked=0.4), Noise.of(2, unit), clock_of(keys), 30) for unit in range(20)}
    again = {write(toy_law(0, masked=0.4), Noise.of(2, unit), clock_of(keys), 30) for unit in range(20)}
    assert again == texts
    assert len(texts) == 20
