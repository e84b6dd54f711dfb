"""Judges of sentiment: two linear classifiers that share nothing with what they judge.

They judge texts that a model wrote and held-out reviews. On IMDB they are fitted to the reviews that the models train
on (and, where they are given, to revisions of some); on the structural corpus to a stream of their own. They have no
weight, feature or text of a model, and no review that they judge; a model that recites its training reviews would
please them, which the figures of copying tell.

- ``lr``: TF-IDF with sublinear counts, logistic regression with C = 10.
- ``nbsvm``: presence of terms times the naive Bayes log ratio, linear SVM with C = .01 (Wang and Manning 2012).

Terms are words and pairs of neighbouring words that occur in at least two training texts; ``!`` and ``?`` are words.
scikit-learn fits the weights; a judge counts and scores by itself.

Axes: R texts, V terms of the vocabulary.
"""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray

from nano_llm.data.arrays import FloatArray, load_array, save_array
from nano_llm.data.cache import Manifest, open_or_build
from nano_llm.data.cad import CadPair, excluded_rows
from nano_llm.data.review import Review
from nano_llm.errors import DataError
from nano_llm.evaluation.texts import WORD, words
from nano_llm.files import write_json

Say = Callable[[str], None]

REVISION_WEIGHT = 5.0
"""Weight of a revision among the training texts: an unaided judge misses four revisions in ten."""

_FORMAT = 1  # raise it whenever the same texts give another judge
_MIN_TEXTS = 2
_LR_C = 10.0
_SVM_C = 0.01


class JudgeKind(Enum):
    """The recipe of a judge."""

    lr = "lr"
    nbsvm = "nbsvm"


@dataclass(frozen=True)
class LinearJudge:
    """A linear score of the terms of a text."""

    kind: JudgeKind
    vocabulary: dict[str, int]  # term -> column
    weight_V: FloatArray
    idf_V: FloatArray | None  # inverse document frequency of ``lr``; None: only the presence of a term counts
    bias: float

    def logit(self, texts: Sequence[str]) -> FloatArray:
        """Score texts: above 0 is positive.

        Args:
            texts: R texts of any length, cleaned or raw.

        Returns:
            (R,): log odds of a positive text in nats under ``lr``; the margin of the SVM, no log odds, under
            ``nbsvm``. A text without a known term has the bias.
        """
        features_RV = _features(_counts(texts, self.vocabulary), self.idf_V)
        return np.asarray(features_RV @ self.weight_V + self.bias, np.float64)


@dataclass(frozen=True)
class TrainingSet:
    """What judges are fitted to."""

    texts: list[str]
    label_R: NDArray[np.int64]  # 0 negative, 1 positive
    weight_R: FloatArray
    note: str  # what the texts are, to be told beside every figure of these judges


def judge_training_set(train: Sequence[Review], pairs: Mapping[str, Sequence[CadPair]] | None, say: Say) -> TrainingSet:
    """Put together what judges of real reviews are fitted to, and say what it is.

    Without pairs: the reviews alone. With them: the reviews less the originals of every split but ``train``, and
    the revisions of ``train`` with the weight `REVISION_WEIGHT`, so that the other splits can tell what the judge
    is worth on revisions.

    Args:
        train: Training reviews.
        pairs: Counterfactual pairs by split, as `nano_llm.data.cad.read_cad` gives them; None or empty: none at hand.
        say: Receives a line.
    """
    pairs = pairs or {}
    held_out = [pair for split, found in pairs.items() if split != "train" for pair in found]
    dropped = set(excluded_rows([review.text for review in train], held_out)) if held_out else set()
    kept = [review for row, review in enumerate(train) if row not in dropped]
    revisions = [pair.revision for pair in pairs.get("train", ())]
    reviews = [*kept, *revisions]
    note = f"{len(kept):,} training reviews"
    if pairs:
        note += (
            f" (less {len(dropped):,} originals of held-out counterfactual pairs) and {len(revisions):,} revisions "
            f"with weight {REVISION_WEIGHT:g}"
        )
    else:
        note += " alone: without counterfactual pairs (data.cad) they are weak on texts with a turned sentiment"
    say(f"judges are fitted to {note}")
    return TrainingSet(
        texts=[review.text for review in reviews],
        label_R=np.array([review.treatment for review in reviews], np.int64),
        weight_R=np.repeat([1.0, REVISION_WEIGHT], [len(kept), len(revisions)]),
        note=note,
    )


def open_judges(
    texts: Sequence[str], labels: ArrayLike, weights: ArrayLike, cache: Path, say: Say
) -> list[LinearJudge]:
    """Return both judges of these training texts, fitting them where the cache has none.

    Args:
        texts: R training texts.
        labels: (R,), 0 or 1.
        weights: (R,), above 0.
        cache: Folder in which each judge has a folder, named by recipe, texts, labels and weights.
        say: Receives progress, a line at a time.

    Raises:
        DataError: The texts cannot train a judge.
        OutputError: The cache cannot be written.
    """
    return [_open_judge(kind, texts, np.asarray(labels), np.asarray(weights), cache, say) for kind in JudgeKind]


def fit_judge(kind: JudgeKind, texts: Sequence[str], labels: ArrayLike, weights: ArrayLike) -> LinearJudge:
    """Fit one judge.

    Args:
        kind: The recipe.
        texts: R training texts.
        labels: (R,), 0 or 1; both occur.
        weights: (R,), above 0: a text of weight w counts as w texts, in fitting but not among the ``min_df`` texts.

    Raises:
        DataError: Labels of one kind only, or no term that two texts share.
    """
    label_R, weight_R = np.asarray(labels, np.int64), np.asarray(weights, np.float64)
    if set(label_R.tolist()) != {0, 1}:
        raise DataError(
            f"A judge of sentiment needs negative and positive training texts; of {len(texts):,} texts, "
            f"{int((label_R == 1).sum()):,} are positive. Take more training reviews."
        )
    num_texts = Counter(term for text in texts for term in set(_terms(text)))
    known = sorted(term for term, num in num_texts.items() if num >= _MIN_TEXTS)
    if not known:
        raise DataError(f"No word occurs in two of the {len(texts):,} training texts of a judge. Take more reviews.")
    vocabulary = {term: column for column, term in enumerate(known)}
    counts_RV = _counts(texts, vocabulary)
    if kind is JudgeKind.lr:
        num_texts_V = np.array([num_texts[term] for term in known])
        idf_V: FloatArray = np.log((1 + len(texts)) / (1 + num_texts_V)) + 1
        weight_V, bias = _logistic_regression(_features(counts_RV, idf_V), label_R, weight_R)
        return LinearJudge(kind, vocabulary, weight_V, idf_V, bias)
    present_RV = _features(counts_RV, None)
    ratio_V = _log_ratio(present_RV, label_R, weight_R)
    present_RV.data *= ratio_V[present_RV.indices]
    weight_V, bias = _support_vectors(present_RV, label_R, weight_R)
    return LinearJudge(kind, vocabulary, weight_V * ratio_V, None, bias)


# ------------------------------------------------------------------------------------------- features


def _terms(text: str) -> list[str]:
    """Return the words of a text and its pairs of neighbouring words, repeated as they occur."""
    single = words(text)
    return [*single, *map(" ".join, itertools.pairwise(single))]


def _counts(texts: Iterable[str], vocabulary: dict[str, int]) -> scipy.sparse.csr_array:
    """Return how often each known term occurs in each text, (R, V)."""
    columns: list[int] = []
    first = [0]
    for text in texts:
        columns += [column for column in map(vocabulary.get, _terms(text)) if column is not None]
        first.append(len(columns))
    shape = (len(first) - 1, len(vocabulary))
    place = np.array(columns, np.int32), np.array(first, np.int32)  # liblinear takes no wider ones
    counts_RV = scipy.sparse.csr_array((np.ones(len(columns)), *place), shape)
    counts_RV.sum_duplicates()
    return counts_RV


def _features(counts_RV: scipy.sparse.csr_array, idf_V: FloatArray | None) -> scipy.sparse.csr_array:
    """Return TF-IDF rows of length 1 (sublinear counts), or with no ``idf_V`` the presence of each term."""
    features_RV = counts_RV.copy()
    if idf_V is None:
        features_RV.data = np.ones_like(features_RV.data)
        return features_RV
    features_RV.data = (1 + np.log(features_RV.data)) * idf_V[features_RV.indices]
    norm_R = np.sqrt(features_RV.multiply(features_RV).sum(axis=1))
    norm_R[norm_R == 0] = 1
    features_RV.data /= np.repeat(norm_R, np.diff(features_RV.indptr))
    return features_RV


# -------------------------------------------------------------------------------------------- fitting


def _logistic_regression(features_RV: Any, label_R: Any, weight_R: Any) -> tuple[FloatArray, float]:
    # Imported where it fits: a judge from the cache needs neither it nor its second.
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=_LR_C, max_iter=1000).fit(features_RV, label_R, sample_weight=weight_R)
    return fitted.coef_[0], float(fitted.intercept_[0])


def _support_vectors(features_RV: Any, label_R: Any, weight_R: Any) -> tuple[FloatArray, float]:
    from sklearn.svm import LinearSVC

    fitted = LinearSVC(C=_SVM_C, random_state=0).fit(features_RV, label_R, sample_weight=weight_R)
    return fitted.coef_[0], float(fitted.intercept_[0])


def _log_ratio(present_RV: Any, label_R: Any, weight_R: Any) -> FloatArray:
    """Return the naive Bayes log ratio of each term: positive against negative, 1 added to each count."""
    positive_V, negative_V = (1 + (weight_R * (label_R == label)) @ present_RV for label in (1, 0))
    return np.asarray(np.log(positive_V / positive_V.sum()) - np.log(negative_V / negative_V.sum()), np.float64)


# ---------------------------------------------------------------------------------------------- cache


def _open_judge(
    kind: JudgeKind, texts: Sequence[str], label_R: Any, weight_R: Any, cache: Path, say: Say
) -> LinearJudge:
    name = _name(kind, texts, label_R, weight_R)

    def build(folder: Path) -> Manifest:
        say(f"fitting judge {kind.value} to {len(texts):,} texts")
        _save(fit_judge(kind, texts, label_R, weight_R), folder)
        return {"judge": name, "num_texts": len(texts)}

    def refusal(manifest: Manifest) -> str | None:
        return None if manifest.get("judge") == name else "it holds another judge"

    open_or_build(cache / name, build, refusal, say)
    return _load(cache / name)


def _name(kind: JudgeKind, texts: Sequence[str], label_R: Any, weight_R: Any) -> str:
    digest = hashlib.sha256(json.dumps([_FORMAT, kind.value, WORD.pattern, _MIN_TEXTS, _LR_C, _SVM_C]).encode())
    for text in texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    digest.update(np.ascontiguousarray(label_R, np.int64).tobytes())
    digest.update(np.ascontiguousarray(weight_R, np.float64).tobytes())
    return f"judge-{kind.value}-{digest.hexdigest()[:16]}"


def _save(judge: LinearJudge, folder: Path) -> None:
    save_array(folder / "weight.npy", judge.weight_V)
    if judge.idf_V is not None:
        save_array(folder / "idf.npy", judge.idf_V)
    # The terms are stored in the order of their columns.
    write_json(folder / "judge.json", {"kind": judge.kind.value, "bias": judge.bias, "terms": list(judge.vocabulary)})


def _load(folder: Path) -> LinearJudge:
    stored = json.loads((folder / "judge.json").read_text(encoding="utf-8"))
    kind = JudgeKind(stored["kind"])
    return LinearJudge(
        kind=kind,
        vocabulary={term: column for column, term in enumerate(stored["terms"])},
        weight_V=load_array(folder / "weight.npy"),
        idf_V=load_array(folder / "idf.npy") if kind is JudgeKind.lr else None,
        bias=stored["bias"],
    )
