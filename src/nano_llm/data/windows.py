"""Windows: the training rows, cut from formatted samples.

A window is the prompt (b tokens) and up to L - b tokens of the review; a review longer than that is spread over
several, and each repeats the prompt. With L = 8, b = 2 and a review of nine tokens (end marker included):

    covering, training            P P a b c d e f     scored: P a b c d e f
                                  P P g h .           scored: g h .
    covering, evaluation          P P a b c d e f     scored: P a b c d e f
                                  P P d e f g h .     scored: g h .

Under `covering` each token of a sample but ``<bos>`` is a target of exactly one window. `reference` cuts as the
reference system does and loses the tail of most reviews.

Axes: W windows, L tokens of a window, R reviews, N tokens of all samples.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nano_llm.data.arrays import BoolArray, Float32Array, IntArray, load_array, save_array
from nano_llm.data.samples import Samples
from nano_llm.errors import DataError

_ROWS = 8192  # windows filled at a time, which bounds the index matrices


@dataclass(frozen=True)
class Windows:
    """W windows of length L; the token arrays may be memory-mapped."""

    tokens_WL: IntArray  # uint16, or uint32 for large vocabularies; padded with the pad id
    length_W: IntArray  # int32, tokens in the row
    first_target_W: IntArray  # int32, index in the row of the first token that is a target, at least 1
    prompt_length_W: IntArray  # int32, tokens of the prompt in the row, bos included
    review_W: IntArray  # int32, index of the review in its split
    treatment_W: IntArray  # uint8
    propensity_W: Float32Array  # float32, P(T=1) of the review

    def __len__(self) -> int:
        return len(self.length_W)

    def first(self, num_windows: int) -> "Windows":
        """Return the first windows only."""
        return self._rows(slice(num_windows))

    def first_of_each_review(self) -> "Windows":
        """Return the window of every review that starts with it."""
        return self._rows(np.flatnonzero(np.diff(self.review_W, prepend=-1)))

    def _rows(self, rows: slice | IntArray) -> "Windows":
        return Windows(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def num_targets(self) -> int:
        """Tokens that are scored, prompts included."""
        return int(np.sum(self.length_W, dtype=np.int64) - np.sum(self.first_target_W, dtype=np.int64))

    @classmethod
    def covering(
        cls,
        samples: Samples,
        window_length: int,
        pad_id: int,
        *,
        num_views: int = 1,
        is_word_start_V: BoolArray | None = None,
    ) -> "Windows":
        """Cut windows that make every token of every sample a target exactly once.

        Args:
            samples: The formatted samples.
            window_length: L, in tokens.
            pad_id: What fills a row after its last token.
            num_views: Windows that see a token in the middle of a long review: each starts
                floor((L - b) / num_views) review tokens after the one before. 1 for training, 2 for evaluation.
            is_word_start_V: Where given, a start moves back to the nearest word start, by a quarter of
                that stride at most; what it sees again is context, not a target.

        Raises:
            DataError: A prompt leaves room for fewer than two review tokens.
        """
        _check_room(samples.prompt_length_R, window_length)
        return _rows(
            samples,
            _covering_spans(samples, window_length, num_views, is_word_start_V),
            window_length,
            pad_id,
        )

    @classmethod
    def reference(
        cls,
        samples: Samples,
        window_length: int,
        pad_id: int,
        *,
        prefix_length_R: IntArray,
        num_windows_R: IntArray,
    ) -> "Windows":
        """Cut windows as the reference does: consecutive, full ones only, every token but the first scored.

        What a window repeats counts as its prompt.

        Args:
            samples: The formatted samples.
            window_length: L, in tokens.
            pad_id: What fills a row after its last token.
            prefix_length_R: Tokens that each window of a review repeats (`samples.prefix_lengths`); the last
                may hold the first letters of the review.
            num_windows_R: Windows of each review (`num_reference_windows`).

        Raises:
            DataError: A prompt leaves room for fewer than two review tokens.
        """
        _check_room(prefix_length_R, window_length)
        review_W = np.repeat(np.arange(len(num_windows_R)), num_windows_R)
        index_W = np.arange(len(review_W)) - np.repeat(np.cumsum(num_windows_R) - num_windows_R, num_windows_R)
        prefix_W = prefix_length_R[review_W]
        start_W = index_W * (window_length - prefix_W)
        stop_W = np.minimum(start_W + window_length, samples.length_R[review_W]) - prefix_W
        spans = _Spans(review_W, prefix_W, start_W, stop_W, np.ones_like(review_W))
        return _rows(samples, spans, window_length, pad_id)

    def save(self, folder: Path, name: str) -> None:
        """Write one ``.npy`` file a field: ``<name>.tokens.npy``, ``<name>.length.npy`` and so on."""
        for field in fields(self):
            save_array(_file(folder, name, field.name), getattr(self, field.name))

    @classmethod
    def load(cls, folder: Path, name: str) -> "Windows":
        """Open what `save` wrote; tokens stay on disk."""
        arrays = {
            field.name: load_array(_file(folder, name, field.name), mapped=field.name == "tokens_WL")
            for field in fields(cls)
        }
        return cls(**arrays)


def num_reference_windows(length_R: IntArray, prefix_length_R: IntArray, window_length: int) -> IntArray:
    """Return how many windows the reference cuts from samples of these lengths."""
    extra_R = (length_R - window_length) // (window_length - prefix_length_R)
    return 1 + np.where(length_R < window_length, 0, extra_R)


class _Spans(NamedTuple):
    """What each window holds; positions count from the end of the prompt."""

    review_W: IntArray
    prompt_length_W: IntArray
    start_W: IntArray  # first review token in the row
    stop_W: IntArray  # one after the last
    first_target_W: IntArray  # index in the row


def _check_room(prompt_length_R: IntArray, window_length: int) -> None:
    longest = int(prompt_length_R.max(initial=0))
    if longest + 2 > window_length:
        raise DataError(
            f"data.window_length={window_length} leaves no room for reviews: the longest prompt has {longest} tokens "
            f"and a window needs two more, {longest + 2}. Raise data.window_length, shorten data.prompt, or raise "
            "data.tokenizer.vocab_size, which makes prompts shorter."
        )


def _covering_spans(samples: Samples, window_length: int, num_views: int, is_word_start_V: BoolArray | None) -> _Spans:
    body_R = samples.length_R - samples.prompt_length_R  # review tokens, end marker included
    room_R = window_length - samples.prompt_length_R.astype(np.int64)
    stride_R = np.maximum(room_R // num_views, 1)
    review = np.arange(len(body_R))
    start = np.zeros_like(review)
    stop = np.minimum(room_R, body_R)
    prompt = samples.prompt_length_R.astype(np.int64)
    rounds = [_Spans(review, prompt, start, stop, np.ones_like(review))]
    while True:  # round k holds window k of every review that has one
        open_ = stop < body_R[review]
        review, scored = review[open_], stop[open_]
        if not len(review):
            break
        start = start[open_] + stride_R[review]
        if is_word_start_V is not None:
            first = samples.offset_R1[review] + samples.prompt_length_R[review]
            start -= _distance_to_word_start(samples.tokens_N, first + start, stride_R[review] // 4, is_word_start_V)
        stop = np.minimum(start + room_R[review], body_R[review])
        prompt = samples.prompt_length_R[review].astype(np.int64)
        rounds.append(_Spans(review, prompt, start, stop, prompt + scored - start))
    joined = _Spans(*(np.concatenate(parts) for parts in zip(*rounds, strict=True)))
    order = np.argsort(joined.review_W, kind="stable")
    return _Spans(*(part[order] for part in joined))


def _distance_to_word_start(
    tokens_N: IntArray, position_W: IntArray, reach_W: IntArray, is_word_start_V: BoolArray
) -> IntArray:
    """Return how far back the nearest word start lies; 0 where none lies within reach."""
    back = np.arange(int(reach_W.max()) + 1)
    starts = is_word_start_V[tokens_N[np.maximum(position_W[:, None] - back, 0)]] & (back <= reach_W[:, None])
    distance_W: IntArray = starts.argmax(axis=1)
    return distance_W  # argmax of a row without a start is 0 too


def _rows(samples: Samples, spans: _Spans, window_length: int, pad_id: int) -> Windows:
    length_W = spans.prompt_length_W + spans.stop_W - spans.start_W
    tokens_WL = np.full((len(length_W), window_length), pad_id, samples.tokens_N.dtype)
    column_L = np.arange(window_length)
    for first in range(0, len(length_W), _ROWS):
        rows = slice(first, first + _ROWS)
        in_prompt = column_L < spans.prompt_length_W[rows, None]
        source = samples.offset_R1[spans.review_W[rows], None] + column_L
        source += np.where(in_prompt, 0, spans.start_W[rows, None])
        filled = column_L < length_W[rows, None]
        tokens_WL[rows][filled] = samples.tokens_N[source[filled]]
    return Windows(
        tokens_WL=tokens_WL,
        length_W=length_W.astype(np.int32),
        first_target_W=spans.first_target_W.astype(np.int32),
        prompt_length_W=spans.prompt_length_W.astype(np.int32),
        review_W=spans.review_W.astype(np.int32),
        treatment_W=samples.treatment_R[spans.review_W],
        propensity_W=samples.propensity_R[spans.review_W],
    )


def _file(folder: Path, name: str, field: str) -> Path:
    return folder / f"{name}.{field.rsplit('_', 1)[0]}.npy"
