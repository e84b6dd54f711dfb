"""What a corpus gives beside the judged reviews: minimal pairs, and the texts that judges are fitted to."""

from collections.abc import Callable

import numpy as np

from nano_llm.config.schema import ImdbConfig, ScmConfig
from nano_llm.data import cad, scm
from nano_llm.data.cad import CadPair, read_cad
from nano_llm.data.corpus import cut_text
from nano_llm.data.imdb import read_imdb
from nano_llm.data.review import Review
from nano_llm.data.split import Split
from nano_llm.evaluation.judges import TrainingSet, judge_training_set
from nano_llm.evaluation.likelihood import evenly_spaced
from nano_llm.evaluation.measured import NotMeasurableError
from nano_llm.evaluation.subject import NUM_JUDGE_REVIEWS, Subject


def minimal_pairs(subject: Subject) -> tuple[list[tuple[Review, Review]], int]:
    """Return the negative and the positive member of minimal pairs, and how many were trained on and left out."""
    data, num_pairs = subject.config.data, subject.sizes.pairs
    if isinstance(data, ScmConfig):
        twins = zip(*scm.twins(data, "test_do", num_pairs, scm.Sampling.do), strict=True)
        return [(one, other) if one.treatment == 0 else (other, one) for one, other in twins], 0
    assert isinstance(data, ImdbConfig)
    assert data.cad is not None
    found = cad.read_members(data.cad, "dev")
    if not found:
        raise NotMeasurableError(f"{data.cad}/dev_paired.tsv holds no pairs")
    pairs = found
    if "train" in subject.splits:
        trained_on = _beginnings(subject.splits["train"], data.max_review_chars)
        pairs = [pair for pair in found if not any(trained_on(member) for member in pair)]
    num_trained_on = len(found) - len(pairs)
    if num_trained_on:
        subject.say(f"{num_trained_on:,} of {len(found):,} counterfactual pairs are left out: they were trained on")
    if not pairs:
        raise NotMeasurableError("their originals were trained on; train with data.exclude_cad=true")
    return [pairs[row] for row in evenly_spaced(len(pairs), num_pairs)], num_trained_on


def _beginnings(train: Split, max_chars: int | None) -> Callable[[Review], bool]:
    """Return what tells whether a text, by the first letters of its key, was trained on."""
    known = {cad.beginning(train[row].text) for row in range(len(train))}

    def trained_on(review: Review) -> bool:
        # A long review was trained on in pieces.
        first = review.text if max_chars is None else cut_text(review.text, max_chars)[0]
        return cad.beginning(first) in known

    return trained_on


def judges_training_set(subject: Subject) -> TrainingSet:
    """Return what judges of sentiment are fitted to: nothing that they judge."""
    data = subject.config.data
    if not isinstance(data, ScmConfig):
        train = subject.splits["train"]
        pairs = _cad_pairs(data) if isinstance(data, ImdbConfig) else None
        return judge_training_set([train[row] for row in range(len(train))], pairs, subject.say)
    reviews = subject.judge_stream
    note = f"{len(reviews):,} reviews of a stream of their own, under do(T)"
    subject.say(f"judges are fitted to {note}")
    labels = np.array([review.treatment for review in reviews])
    return TrainingSet([review.text for review in reviews], labels, np.ones(len(reviews)), note)


def _cad_pairs(data: ImdbConfig) -> dict[str, list[CadPair]] | None:
    """Return the counterfactual pairs; None where they are not given.

    Raises:
        NotMeasurableError: IMDB's train split, to find originals in, would have to be fetched.
        DataError: It or the pairs cannot be read. Judges without pairs would be others, and so would their figures.
    """
    if data.cad is None:
        return None
    if data.path is None:
        raise NotMeasurableError(
            "judges need IMDB's official train split to tell the originals of counterfactual pairs, and an evaluation "
            "fetches nothing: set NANO_LLM_IMDB, or data.path of a training, to a local folder of IMDB"
        )
    train = read_imdb(data)["train"]
    return read_cad(data.cad, [Review(*review) for review in zip(train.texts, train.labels, strict=True)])


def fluency_texts(subject: Subject) -> list[str]:
    """Return what the judge of fluency is fitted to: held-out reviews, no compared one nor one of its movie."""
    if isinstance(subject.config.data, ScmConfig):
        return [review.text for review in subject.judge_stream]
    split = subject.held_out
    compared = set(subject.compared_samples[1].texts)
    movies = {review.movie for review in subject.compared if review.text in compared} - {None}
    held_out = [split[row] for row in range(len(split))]
    free = [review.text for review in held_out if review.text not in compared and review.movie not in movies]
    return [free[row] for row in evenly_spaced(len(free), NUM_JUDGE_REVIEWS)]
