"""How much of a text stands word for word in the training texts.

Axes: R texts, N symbols of all texts end to end (a text has its words and an end of its own; the queries come first),
Q symbols of the queries.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, count

import numpy as np

from nano_llm.data.arrays import FloatArray, IntArray
from nano_llm.evaluation.texts import words


def copy_rate(texts: Sequence[str], training: Sequence[str]) -> FloatArray:
    """Return the longest run of words that each text (R,) shares with one training text / its words; up copies more.

    Words are those of `texts.words`. Read it beside the same of held-out real texts. A text without words copies
    nothing: 0. Exact, hashes nothing.
    """
    query, rest = [words(text) for text in texts], [words(text) for text in training]
    length_R = np.array([len(row) for row in query], np.int64)
    rate_R: FloatArray = _longest_shared(query, rest) / np.maximum(length_R, 1)
    return rate_R


def _longest_shared(query: list[list[str]], rest: list[list[str]]) -> IntArray:
    """Return the words of the longest run that each query (R,) shares with any of the rest.

    In sorted order the suffix of the rest that has most in common with a suffix of a query is the nearest one before
    or after it.
    """
    if not query or not rest:
        return np.zeros(len(query), np.int64)
    symbol_N = _symbols([*query, *rest])
    start_R = np.cumsum([0, *(len(row) + 1 for row in query)])
    num_queries = start_R[-1]
    levels = _ranks(symbol_N, num_queries)
    rank_Q, rank_of_rest = levels[-1][:num_queries], levels[-1][num_queries:]
    place_N = np.arange(len(symbol_N))
    suffix_at_N = np.full(len(symbol_N), -1)  # one suffix of the rest for each rank that has any
    suffix_at_N[rank_of_rest] = place_N[num_queries:]
    taken_N = suffix_at_N >= 0
    before_Q = np.maximum.accumulate(np.where(taken_N, place_N, -1))[rank_Q]
    after_Q = np.minimum.accumulate(np.where(taken_N, place_N, len(place_N))[::-1])[::-1][rank_Q]
    longest_Q = np.zeros(num_queries, np.int64)
    for neighbour_Q in (before_Q, after_Q):
        exists = np.flatnonzero((neighbour_Q >= 0) & (neighbour_Q < len(place_N)))
        shared = _common_prefix(exists, suffix_at_N[neighbour_Q[exists]], levels)
        longest_Q[exists] = np.maximum(longest_Q[exists], shared)
    longest_R: IntArray = np.maximum.reduceat(longest_Q, start_R[:-1])
    return longest_R


def _symbols(rows: list[list[str]]) -> IntArray:
    """Return the words of all texts as numbers; each text ends in a number that occurs nowhere else."""
    number: defaultdict[object, int] = defaultdict(count().__next__)
    with_ends = chain.from_iterable((*row, end) for end, row in enumerate(rows))  # no word equals an integer
    return np.fromiter(map(number.__getitem__, with_ends), np.int64)


def _ranks(symbol_N: IntArray, num_queries: int) -> list[IntArray]:
    """Return the ranks of all suffixes by their first 1, 2, 4, ... symbols (Manber and Myers 1993).

    Suffixes that begin alike share a rank, the number of suffixes before them. Only groups with suffixes of both kinds
    are ranked by more symbols, so ranks compare a query's suffix with one of the rest, not two of a kind. No group of
    the last level holds both.
    """
    num_symbols = int(symbol_N.max()) + 1
    count_of_query = np.bincount(symbol_N[:num_queries], minlength=num_symbols)
    count_of_rest = np.bincount(symbol_N[num_queries:], minlength=num_symbols)
    num_before = np.cumsum(count_of_query + count_of_rest) - count_of_query - count_of_rest
    levels: list[IntArray] = [num_before[symbol_N].astype(np.int32)]
    open_ = np.flatnonzero(((count_of_query > 0) & (count_of_rest > 0))[symbol_N])
    while len(open_):
        rank_N, reach = levels[-1], 1 << (len(levels) - 1)
        # No end symbol lies within reach: it would have set the suffix apart.
        key = rank_N[open_].astype(np.int64) * len(rank_N) + rank_N[open_ + reach]
        order = np.argsort(key)
        open_, key = open_[order], key[order]
        start, size = _runs(key)
        old_rank = rank_N[open_]
        old_start, old_size = _runs(old_rank)
        finer_N = rank_N.copy()
        finer_N[open_] = old_rank + np.repeat(start, size) - np.repeat(old_start, old_size)
        levels.append(finer_N)
        num_of_query = np.add.reduceat((open_ < num_queries).astype(np.int64), start)
        open_ = open_[np.repeat((num_of_query > 0) & (num_of_query < size), size)]
    return levels


def _runs(value: IntArray) -> tuple[IntArray, IntArray]:
    """Return the places where runs of equal values begin, and their lengths."""
    start = np.flatnonzero(np.concatenate(([True], value[1:] != value[:-1])))
    return start, np.diff(start, append=len(value))


def _common_prefix(suffix: IntArray, other: IntArray, levels: list[IntArray]) -> IntArray:
    """Return how many symbols suffixes of queries and of the rest have in common, pair by pair; longest steps first."""
    length = np.zeros_like(suffix)
    for level in reversed(range(len(levels))):
        alike = levels[level][suffix + length] == levels[level][other + length]
        length += alike.astype(np.int64) << level
    return length
