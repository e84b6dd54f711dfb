r"""Figures of texts at the level of words: length, variety, repetition, and how well two samples can be told apart.

None says "good" alone: each is read beside the same figure of real texts, of the same number, cut to the same lengths.
Words are lower case, ``\b\w[\w']*\b|[!?]``, here and for the judges.

Axes: R texts, B blocks of a fixed size, F features.
"""

import gzip
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import rankdata

from nano_llm.data.arrays import BoolArray, FloatArray, IntArray
from nano_llm.errors import DataError

WORD = re.compile(r"\b\w[\w']*\b|[!?]")

BLEU_ORDER = 4
_MISSED = 0.1
"""What a precision without a hit counts as hits (smoothing 1 of Chen and Cherry 2014)."""


# ---------------------------------------------------------------------------------------------- words


def words(text: str) -> list[str]:
    """Return the words of a text, and its exclamation and question marks."""
    return WORD.findall(_spelled(text))


def _spelled(text: str) -> str:
    return text.lower().replace("<br />", " ")


def num_words(texts: Sequence[str]) -> IntArray:
    """Return the length (R,) of each text in words."""
    return np.array([len(words(text)) for text in texts], np.int64)


# ------------------------------------------------------------------------------ variety and repetition


def distinct_n(texts: Sequence[str], n: int, num_tokens: int) -> FloatArray:
    """Return distinct n-grams / n-grams in each block (B,) of so many words; up is more varied.

    The share falls with the number of words, so it is comparable at the same ``num_tokens`` only. Texts are taken in
    their order, a block may begin and end within one, and what is left over after the last whole block is not read. No
    n-gram spans two texts. The figure is the mean over blocks.

    Args:
        texts: A sample of one source.
        n: Words of an n-gram.
        num_tokens: Words of a block.

    Raises:
        DataError: The texts do not fill one block.
    """
    blocks = _blocks([words(text) for text in texts], num_tokens)
    if not blocks:
        raise DataError(
            f"distinct_{n} at {num_tokens} words needs as many; the {len(texts)} texts have {num_words(texts).sum()} "
            "words together. Give more texts, or a smaller number for all that is compared."
        )
    return np.array([_share_distinct(gram for piece in block for gram in _ngrams(piece, n)) for block in blocks])


def seq_rep_4(texts: Sequence[str]) -> FloatArray:
    """Return 1 - distinct 4-grams / 4-grams within each text (R,); up repeats itself more.

    A text of fewer than four words repeats nothing: 0.
    """
    return np.array([1 - _share_distinct(_ngrams(words(text), 4)) for text in texts])


def compression_ratio(texts: Sequence[str], num_bytes: int) -> FloatArray:
    """Return raw / gzip bytes of each block (B,) of so many bytes; up is more redundant.

    The ratio rises with the size, so it is comparable at the same ``num_bytes`` only. Texts are joined by line ends in
    their order; what is left over after the last whole block is not read. The figure is the mean over blocks.

    Args:
        texts: A sample of one source.
        num_bytes: UTF-8 bytes of a block; 100,000 is beyond the reach of gzip's memory.

    Raises:
        DataError: The texts do not fill one block.
    """
    raw = "\n".join(texts).encode()
    starts = range(0, len(raw) - num_bytes + 1, num_bytes)
    if not starts:
        raise DataError(
            f"The compression ratio at {num_bytes} bytes needs as many; the {len(texts)} texts have {len(raw)} "
            "together. Give more texts, or a smaller number for all that is compared."
        )
    return np.array([num_bytes / len(gzip.compress(raw[start : start + num_bytes], mtime=0)) for start in starts])


def self_bleu(texts: Sequence[str], *, num_texts: int = 500, seed: int = 0) -> FloatArray:
    """Return BLEU-4 of each text of a sample against all others of the sample; up is less varied.

    BLEU rises with the number of references, so it is comparable at the same ``num_texts`` only. Clipped precisions of
    1 to 4 words, equal weights; a precision without a hit counts a tenth of one; brevity penalty against the reference
    nearest in length (of two the shorter one). A text without words scores 0.

    Args:
        texts: Of one source.
        num_texts: Size of the sample, whose square the memory grows with; all texts if there are no more.
        seed: Of the sample.

    Returns:
        A value for each text of the sample, in their order.

    Raises:
        DataError: Fewer than two texts.
    """
    if len(texts) < 2:
        raise DataError(f"Self-BLEU compares a text to others and needs at least 2 texts; given {len(texts)}.")
    chosen = np.random.default_rng(seed).permutation(len(texts))[:num_texts]
    rows = [words(texts[index]) for index in np.sort(chosen)]
    length_R = np.array([len(row) for row in rows])
    log_precision_R = np.zeros(len(rows))
    for n in range(1, BLEU_ORDER + 1):
        log_precision_R += np.log(_clipped_precisions(rows, n)) / BLEU_ORDER
    bleu_R: FloatArray = np.where(length_R > 0, np.exp(log_precision_R + _log_brevity(length_R)), 0.0)
    return bleu_R


def _ngrams(row: list[str], n: int) -> Iterable[tuple[str, ...]]:
    return zip(*(row[start:] for start in range(n)), strict=False)


def _share_distinct(grams: Iterable[tuple[str, ...]]) -> float:
    """Return distinct n-grams / n-grams; 1 where there are none."""
    counts = Counter(grams)
    return len(counts) / counts.total() if counts else 1.0


def _blocks(rows: list[list[str]], num_tokens: int) -> list[list[list[str]]]:
    """Return blocks of so many words, each a list of the texts' pieces that it is made of."""
    blocks: list[list[list[str]]] = [[]]
    room = num_tokens
    for row in rows:
        start = 0
        while len(row) - start >= room:
            blocks[-1].append(row[start : start + room])
            start, room = start + room, num_tokens
            blocks.append([])
        blocks[-1].append(row[start:])
        room -= len(row) - start
    return blocks[:-1]


def _clipped_precisions(rows: list[list[str]], n: int) -> FloatArray:
    """Return the share of each text's n-grams that some other text has as often, smoothed."""
    counts = [Counter(_ngrams(row, n)) for row in rows]
    most: dict[tuple[str, ...], tuple[int, int]] = {}  # n-gram: the two highest counts in a text
    for count in counts:
        for gram, times in count.items():
            highest, second = most.get(gram, (0, 0))
            most[gram] = (times, highest) if times > highest else (highest, max(second, times))
    precisions = np.empty(len(rows))
    for row, count in enumerate(counts):
        # The highest count may be the text's own; then another has the second one at most.
        hits = sum(min(times, most[gram][times == most[gram][0]]) for gram, times in count.items())
        precisions[row] = (hits or _MISSED) / max(count.total(), 1)
    return precisions


def _log_brevity(length_R: IntArray) -> FloatArray:
    distance_RR = np.abs(length_R[:, None] - length_R) * 2.0 + (length_R > length_R[:, None])
    np.fill_diagonal(distance_RR, np.inf)
    nearest_R = length_R[distance_RR.argmin(axis=1)]
    log_brevity_R: FloatArray = np.minimum(0.0, 1 - nearest_R / np.maximum(length_R, 1))
    return log_brevity_R


# ------------------------------------------------------------------------------------- two samples


def two_sample_scores(
    real: Sequence[str], generated: Sequence[str], *, num_folds: int = 5, seed: int = 0
) -> tuple[BoolArray, FloatArray]:
    """Score texts by a judge that learns to tell two samples apart, each by a judge that did not see it.

    The judge is a logistic regression (C = 10) on TF-IDF of uni- and bigrams with sublinear counts; the words and
    their rarity are those of both samples together, which tells nothing of who wrote what. Use it as
    ``statistic_interval(two_sample_scores(real, generated), two_sample_auc)``.

    Args:
        real: Texts of people.
        generated: Texts of a model, about as many and as long, or the judge learns no more than that.
        num_folds: Parts of which one is scored and the others are learnt from.
        seed: Of the parts.

    Returns:
        Whether each text was generated (R,), real ones first, and its log-odds of it (R,).

    Raises:
        DataError: A sample has fewer texts than there are folds, or no word occurs in two texts.
    """
    # Imported here, because judges take their words from this file and need neither it nor its second.
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    if min(len(real), len(generated)) < num_folds:
        raise DataError(
            f"{num_folds} folds need as many texts of each sample; given {len(real)} real and {len(generated)} "
            "generated ones."
        )
    is_generated_R = np.arange(len(real) + len(generated)) >= len(real)
    vectorizer = TfidfVectorizer(
        preprocessor=_spelled, token_pattern=WORD.pattern, ngram_range=(1, 2), min_df=2, sublinear_tf=True
    )
    try:
        features_RF = vectorizer.fit_transform([*real, *generated])
    except ValueError as error:
        raise DataError(f"The two samples share no word that occurs in two texts: {error}") from error
    score_R = np.empty(len(is_generated_R))
    folds = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    for seen, held_out in folds.split(score_R, is_generated_R):
        judge = LogisticRegression(C=10.0, solver="liblinear", random_state=0)
        judge.fit(features_RF[seen], is_generated_R[seen])
        score_R[held_out] = judge.decision_function(features_RF[held_out])
    return is_generated_R, score_R


def two_sample_auc(is_generated_R: BoolArray, score_R: FloatArray) -> float:
    """Return the chance that a generated text scores above a real one, ties 1/2: .5 best, 1 told apart.

    NaN where one sample is missing.
    """
    num_generated = np.count_nonzero(is_generated_R)
    num_pairs = num_generated * (len(is_generated_R) - num_generated)
    if num_pairs == 0:
        return float("nan")
    # The ranks of the generated ones, less those that they hold among themselves (Mann and Whitney 1947).
    wins = rankdata(score_R)[is_generated_R].sum() - num_generated * (num_generated + 1) / 2
    return float(wins / num_pairs)
