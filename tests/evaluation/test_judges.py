"""Judges of sentiment: their scores by an independent path, their cache, what they are worth on real reviews."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from nano_llm.config.compose import compose_config
from nano_llm.config.schema import ImdbConfig, ScmConfig
from nano_llm.data import scm
from nano_llm.data.cad import CadPair, excluded_rows, read_cad
from nano_llm.data.clean import clean
from nano_llm.data.imdb import read_imdb
from nano_llm.data.review import Review
from nano_llm.errors import DataError
from nano_llm.evaluation.judges import JudgeKind, LinearJudge, fit_judge, judge_training_set, open_judges

SHARED = Path(__file__).resolve().parents[3] / "shared"
NEUTRAL = ("the", "film", "it's", "Actors'", "10", "plot", "and", "was", "<br />", "caf\u00e9", "!", "?", "...")
OPINION = (("dull", "bad", "slow"), ("fine", "good", "not bad"))


def random_texts(num: int, seed: int) -> tuple[list[str], list[int]]:
    rng = random.Random(seed)
    labels = [index % 2 for index in range(num)]
    words = [rng.choices(NEUTRAL, k=rng.randint(0, 30)) + rng.choices(OPINION[label], k=2) for label in labels]
    for line in words:
        rng.shuffle(line)
    return [" ".join(line) for line in words], labels


def accuracy(judge: LinearJudge, texts: list[str], truth: np.ndarray) -> float:
    return float(((judge.logit(texts) > 0) == truth).mean())


def by_scikit_learn(kind: JudgeKind, texts: list[str], labels: Any, weights: Any) -> Callable[[list[str]], Any]:
    """The recipe as scikit-learn's own vectorisers and pipelines put it; returns the decision function."""
    how: dict[str, Any] = {"token_pattern": r"\b\w[\w']*\b|[!?]", "ngram_range": (1, 2), "min_df": 2}
    how["preprocessor"] = lambda text: text.lower().replace("<br />", " ")
    if kind is JudgeKind.lr:
        model = LogisticRegression(C=10, max_iter=1000)
        pipeline = make_pipeline(TfidfVectorizer(sublinear_tf=True, **how), model)
        decide: Callable[[list[str]], Any] = pipeline.fit(
            texts, labels, logisticregression__sample_weight=weights
        ).decision_function
        return decide
    vectorizer = CountVectorizer(binary=True, **how)
    present = vectorizer.fit_transform(texts).toarray()
    positive = 1 + (present * weights[:, None])[labels == 1].sum(0)
    negative = 1 + (present * weights[:, None])[labels == 0].sum(0)
    ratio = np.log((positive / positive.sum()) / (negative / negative.sum()))
    svm = LinearSVC(C=0.01, random_state=0).fit(present * ratio, labels, sample_weight=weights)
    return lambda texts: svm.decision_function(vectorizer.transform(texts).toarray() * ratio)


@pytest.mark.parametrize("kind", JudgeKind)
def test_scores_are_those_of_scikit_learns_pipeline(kind: JudgeKind) -> None:
    texts, labels = random_texts(200, 0)
    weights = np.where(np.arange(200) < 150, 1.0, 5.0)
    unseen = [*random_texts(60, 1)[0], "", "zebra crossing"]
    expected = by_scikit_learn(kind, texts, np.array(labels), weights)(unseen)
    found = fit_judge(kind, texts, labels, weights).logit(unseen)
    assert found.shape == (62,)
    assert np.abs(found).max() > 1e-2
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", JudgeKind)
def test_weights_matter(kind: JudgeKind) -> None:
    texts, labels = random_texts(100, 0)
    even, uneven = (fit_judge(kind, texts, labels, weights).logit(texts) for weights in (np.ones(100), [1, 5] * 50))
    assert uneven.mean() > even.mean() + 1e-3  # positive texts weigh five times as much


def test_presence_of_words_pairs_and_marks_by_hand() -> None:
    judge = LinearJudge(JudgeKind.nbsvm, {"good": 0, "not good": 1, "!": 2}, np.array([1.0, -3.0, 0.5]), None, 0.25)
    texts = ["GOOD!! not<br />good", "good", "", "goods"]
    assert judge.logit(texts).tolist() == [-1.25, 1.25, 0.25, 0.25]
    assert judge.logit([]).shape == (0,)


def test_tf_idf_by_hand() -> None:
    judge = LinearJudge(JudgeKind.lr, {"a": 0, "b": 1}, np.array([1.0, 10.0]), np.array([1.0, 2.0]), 0.5)
    a, b = 1 + np.log(2), 2.0
    assert judge.logit(["a x a b"])[0] == pytest.approx(0.5 + (a + 10 * b) / np.hypot(a, b), rel=1e-12)


@pytest.mark.parametrize("kind", JudgeKind)
def test_what_cannot_train_a_judge_is_refused(kind: JudgeKind) -> None:
    with pytest.raises(DataError, match="of 2 texts, 2 are positive"):
        fit_judge(kind, ["a b", "a b"], [1, 1], [1, 1])
    with pytest.raises(DataError, match="No word occurs in two of the 2 training texts"):
        fit_judge(kind, ["a", "b"], [0, 1], [1, 1])


# ---------------------------------------------------------------------------------------------- cache


def test_judges_are_fitted_once_and_then_read(tmp_path: Path) -> None:
    texts, labels = random_texts(60, 0)
    unseen = random_texts(30, 1)[0]
    lines: list[str] = []
    fitted = open_judges(texts, labels, np.ones(60), tmp_path, lines.append)
    assert [judge.kind for judge in fitted] == list(JudgeKind)
    assert len(lines) == 2
    loaded = open_judges(texts, labels, np.ones(60), tmp_path, lines.append)
    assert len(lines) == 2
    for one, other in zip(fitted, loaded, strict=True):
        direct = fit_judge(one.kind, texts, labels, np.ones(60)).logit(unseen)
        assert np.array_equal(one.logit(unseen), direct)
        assert np.array_equal(other.logit(unseen), direct)
    assert not list(tmp_path.rglob("*.pkl"))


def test_other_texts_labels_or_weights_are_other_judges(tmp_path: Path) -> None:
    texts, labels = random_texts(20, 0)
    arguments: list[tuple[Any, Any, Any]] = [
        (texts, labels, np.ones(20)),
        ([*texts[:-1], "the end"], labels, np.ones(20)),
        ([texts[0] + texts[1], "", *texts[2:]], labels, np.ones(20)),
        (texts, labels[::-1], np.ones(20)),
        (texts, labels, np.full(20, 2.0)),
    ]
    for some in arguments:
        open_judges(*some, tmp_path, lambda _: None)
    assert len(list(tmp_path.iterdir())) == 2 * len(arguments)


def test_a_damaged_judge_is_fitted_anew(tmp_path: Path) -> None:
    texts, labels = random_texts(20, 0)
    first = open_judges(texts, labels, np.ones(20), tmp_path, lambda _: None)
    for file in tmp_path.rglob("weight.npy"):
        os.truncate(file, 100)
    lines: list[str] = []
    again = open_judges(texts, labels, np.ones(20), tmp_path, lines.append)
    assert sum("rebuilding" in line for line in lines) == 2
    assert np.array_equal(again[0].logit(texts), first[0].logit(texts))


# --------------------------------------------------------------------------------------- training set


def test_held_out_originals_leave_the_training_set_and_revisions_weigh_five() -> None:
    train = [
        Review(text, label) for text, label in (("A fine day.", 1), ("A bad day!", 0), ("A  FINE day", 1), ("x", 0))
    ]
    pairs = {
        "train": [CadPair("1", Review("a bad day", 0), Review("a good day", 1))],
        "dev": [CadPair("2", Review("a fine day", 1), Review("a foul day", 0))],
    }
    lines: list[str] = []
    found = judge_training_set(train, pairs, lines.append)
    assert found.texts == ["A bad day!", "x", "a good day"]
    assert found.label_R.tolist() == [0, 0, 1]
    assert found.weight_R.tolist() == [1, 1, 5]
    assert "2 training reviews (less 2 originals" in found.note
    assert found.note in lines[0]


def test_without_pairs_the_reviews_train_alone_and_it_is_said() -> None:
    lines: list[str] = []
    for pairs in (None, {}):
        found = judge_training_set([Review("a", 1), Review("b", 0)], pairs, lines.append)
        assert (found.texts, found.label_R.tolist(), found.weight_R.tolist()) == (["a", "b"], [1, 0], [1, 1])
    assert all("2 training reviews alone: without counterfactual pairs (data.cad)" in line for line in lines)


# --------------------------------------------------------------------------------------- known corpora


def test_judges_serve_the_structural_corpus_too(tmp_path: Path) -> None:
    config = compose_config(["data=scm", "data.num_train=1500", "data.num_test=500"]).data
    assert isinstance(config, ScmConfig)
    train, test = (scm.sample_reviews(config, split) for split in ("train", "test"))
    found = judge_training_set(train, None, lambda _: None)
    truth = np.array([review.treatment for review in test])
    for judge in open_judges(found.texts, found.label_R, found.weight_R, tmp_path, lambda _: None):
        assert accuracy(judge, [review.text for review in test], truth) > 0.75  # Bayes: .86 to .92


@pytest.mark.slow
def test_judges_reach_their_figures_on_imdb() -> None:
    """Fitted to the reviews less the originals of all pairs at hand, and as evaluation fits them, to revisions too.

    The figures are the specification's.
    """
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("needs the folder shared/ beside the checkout: IMDB, counterfactual pairs")
    config = compose_config(["data=imdb", f"data.path={folder}/imdb"]).data
    assert isinstance(config, ImdbConfig)
    train, test = (
        [Review(clean(text), label) for text, label in zip(raw.texts, raw.labels, strict=True)]
        for raw in read_imdb(config).values()
    )
    texts, truth = [review.text for review in test], np.array([review.treatment for review in test])
    by_split = read_cad(str(folder / "cad"), train)
    pairs = [pair for found in by_split.values() for pair in found]
    dropped = set(excluded_rows([review.text for review in train], pairs))
    kept = [review for row, review in enumerate(train) if row not in dropped]
    fitted_to = [review.text for review in kept], [review.treatment for review in kept], np.ones(len(kept))
    for kind, expected in ((JudgeKind.lr, 0.907), (JudgeKind.nbsvm, 0.913)):
        judge = fit_judge(kind, *fitted_to)
        assert accuracy(judge, texts, truth) == pytest.approx(expected, abs=0.01)
    shipped = judge_training_set(train, by_split, lambda _: None)
    judge = fit_judge(JudgeKind.lr, shipped.texts, shipped.label_R, shipped.weight_R)
    assert accuracy(judge, texts, truth) == pytest.approx(0.909, abs=0.01)
    revisions = [pair.revision for pair in by_split["dev"]]
    revised = np.array([review.treatment for review in revisions])
    assert accuracy(judge, [review.text for review in revisions], revised) == pytest.approx(0.788, abs=0.03)
