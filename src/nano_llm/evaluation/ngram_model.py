"""A judge of fluency that no arm trained: an interpolated byte n-gram model.

Witten-Bell interpolation (Bell, Cleary and Witten 1990, method C; Chen and Goodman 1999, section 2.5). After a
context c of k - 1 symbols, with c' the context without its oldest one,

    P_k(x | c) = (n(c x) + t(c) P_{k-1}(x | c')) / (n(c) + t(c)),

n counts, t(c) the distinct symbols seen after c; P_k = P_{k-1} after a context never seen, P_0 is uniform. A symbol is
one of 256 bytes or the end of a text; what precedes a text counts as start symbols.

An n-gram is one integer, nine bits a symbol: the predicted symbol on top, then its context from the newest symbol to
the oldest. So the leading symbols of sorted n-grams are sorted (n - 1)-grams, and one table holds all orders.

Axes: R texts, N positions of all texts (a text has its bytes and its end), G distinct n-grams, C distinct contexts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nano_llm.data.arrays import BoolArray, FloatArray, IntArray
from nano_llm.errors import DataError

KeyArray = NDArray[np.uint64]

NUM_SYMBOLS = 257
END, START = 256, 257
MAX_ORDER = 7
"""Nine bits a symbol, and an integer has 64."""

_BITS = 9
_CHUNK = 1 << 22  # positions scored at a time, which bounds the memory


class ByteNgram:
    """The model; `fit` makes one.

    Args:
        gram_G: Distinct n-grams of the highest order, sorted.
        count_G: How often each occurred.
        order: Symbols of an n-gram, the predicted one included, 1 to 7.
    """

    def __init__(self, gram_G: KeyArray, count_G: IntArray, order: int) -> None:
        self.order = order
        self._gram_G, self._count_G = gram_G, count_G
        self._levels = [_Level.of(gram_G, count_G, order, level) for level in range(1, order + 1)]

    @classmethod
    def fit(cls, texts: Sequence[str], order: int = 6) -> "ByteNgram":
        """Count the n-grams of texts.

        Raises:
            DataError: An order that does not fit, or no texts.
        """
        if not 1 <= order <= MAX_ORDER:
            raise DataError(f"A byte n-gram model of order {order} was asked for; it can have 1 to {MAX_ORDER}.")
        if not texts:
            raise DataError("A byte n-gram model needs texts to be fitted to; none were given.")
        gram_G, count_G = np.unique(_grams(texts, order)[0], return_counts=True)
        return cls(gram_G, count_G, order)

    def bits(self, texts: Sequence[str], ended_R: Sequence[bool] | None = None) -> tuple[FloatArray, IntArray]:
        """Return what each text costs; the sum of bits over the sum of bytes is bits a byte, down is likelier.

        Args:
            texts: To be scored.
            ended_R: Whether the end of each text is scored too. Texts that were cut have none; None: all have one.

        Returns:
            Bits (R,) and UTF-8 bytes (R,) of the texts.
        """
        ended = np.ones(len(texts), np.bool_) if ended_R is None else np.asarray(ended_R, np.bool_)
        gram_N, length_R = _grams(texts, self.order)
        bits_N = np.empty(len(gram_N))
        for first in range(0, len(gram_N), _CHUNK):
            bits_N[first : first + _CHUNK] = self._bits(gram_N[first : first + _CHUNK])
        last_R = np.cumsum(length_R) - 1
        bits_N[last_R[~ended]] = 0.0
        bits_R: FloatArray = np.add.reduceat(bits_N, last_R + 1 - length_R)
        return bits_R, length_R - 1

    def probabilities(self, context: bytes) -> FloatArray:
        """Return the probabilities (257,) of each byte and of the end after the bytes of a text so far."""
        history = [START] * self.order + list(context)
        older = sum(symbol << (_BITS * place) for place, symbol in enumerate(history[len(history) - self.order + 1 :]))
        symbols = np.arange(NUM_SYMBOLS, dtype=np.uint64)
        return self._probability(symbols << np.uint64(_BITS * (self.order - 1)) | np.uint64(older))

    def _bits(self, gram_N: KeyArray) -> FloatArray:
        """Return the bits of each position; positions with the same n-gram are worked out once."""
        distinct, place_N = np.unique(gram_N, return_inverse=True)
        bits_N: FloatArray = -np.log2(self._probability(distinct))[place_N]
        return bits_N

    def _probability(self, gram_N: KeyArray) -> FloatArray:
        probability_N = np.full(len(gram_N), 1 / NUM_SYMBOLS)
        for level in self._levels:
            shift = np.uint64(_BITS * (self.order - level.order))
            level.interpolate(gram_N >> shift, probability_N)
        return probability_N


@dataclass(frozen=True, slots=True)
class _Level:
    """The n-grams of one order and their contexts."""

    order: int
    gram_G: KeyArray  # sorted
    count_G: IntArray
    context_C: KeyArray  # sorted
    total_C: IntArray  # n(c)
    types_C: IntArray  # t(c)

    @classmethod
    def of(cls, gram_G: KeyArray, count_G: IntArray, highest: int, order: int) -> "_Level":
        """Sum the n-grams of the highest order to those of an order."""
        gram, count = _summed(gram_G >> np.uint64(_BITS * (highest - order)), count_G)
        context_C, place_G, types_C = np.unique(gram & _context_mask(order), return_inverse=True, return_counts=True)
        total_C = np.bincount(place_G, weights=count, minlength=len(context_C)).astype(np.int64)
        return cls(order, gram, count, context_C, total_C, types_C)

    def interpolate(self, gram_N: KeyArray, probability_N: FloatArray) -> None:
        """Turn the probabilities of one order less into those of this order, in place."""
        place_N, found_N = _places(gram_N, self.gram_G)
        count_N = np.where(found_N, self.count_G[place_N], 0)
        place_N, seen_N = _places(gram_N & _context_mask(self.order), self.context_C)
        total_N, types_N = self.total_C[place_N], self.types_C[place_N]
        np.divide(count_N + types_N * probability_N, total_N + types_N, out=probability_N, where=seen_N)


def _context_mask(order: int) -> np.uint64:
    return np.uint64((1 << (_BITS * (order - 1))) - 1)


def _places(wanted_N: KeyArray, sorted_K: KeyArray) -> tuple[IntArray, BoolArray]:
    """Return where each key lies in a sorted table, and whether it does; a place that it does not is arbitrary."""
    place_N = np.minimum(np.searchsorted(sorted_K, wanted_N), len(sorted_K) - 1)
    return place_N, sorted_K[place_N] == wanted_N


def _summed(sorted_K: KeyArray, count_K: IntArray) -> tuple[KeyArray, IntArray]:
    """Return the distinct keys of a sorted table and the sum of the counts of each."""
    first_G = np.flatnonzero(np.concatenate(([True], sorted_K[1:] != sorted_K[:-1])))
    return sorted_K[first_G], np.add.reduceat(count_K, first_G)


def _grams(texts: Sequence[str], order: int) -> tuple[KeyArray, IntArray]:
    """Return the n-gram at each position of all texts (N,), and the positions of each text (R,), end included."""
    encoded = [text.encode() for text in texts]
    length_R = np.array([len(text) + 1 for text in encoded], np.int64)
    symbol_N = np.frombuffer(b"\0".join([*encoded, b""]), np.uint8).astype(np.uint64)
    symbol_N[np.cumsum(length_R) - 1] = END
    index_N = np.arange(len(symbol_N)) - np.repeat(np.cumsum(length_R) - length_R, length_R)
    gram_N = symbol_N << np.uint64(_BITS * (order - 1))
    for back in range(1, order):
        older_N = np.full_like(symbol_N, START)
        older_N[back:] = symbol_N[:-back]
        older_N[index_N < back] = START
        gram_N |= older_N << np.uint64(_BITS * (order - 1 - back))
    return gram_N, length_R
