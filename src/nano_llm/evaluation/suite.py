"""The evaluation suite: which metrics there are, what each needs, and the record of a model on all that apply."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nano_llm.config.schema import Config, ImdbConfig, ScmConfig, ScmTopic, Suite, TokenizerKind
from nano_llm.config.strict import suggest
from nano_llm.data import cad, scm, scm_law
from nano_llm.data.arrays import FloatArray, IntArray
from nano_llm.data.cad import CadPair, read_cad
from nano_llm.data.corpus import cut_text
from nano_llm.data.imdb import read_imdb
from nano_llm.data.review import Review
from nano_llm.data.samples import format_samples
from nano_llm.data.split import Split
from nano_llm.data.windows import Windows
from nano_llm.errors import ConfigError, DataError
from nano_llm.evaluation.control import measure_control
from nano_llm.evaluation.divergence import divergence_profile
from nano_llm.evaluation.effects import measure_effects
from nano_llm.evaluation.heads import measure_heads
from nano_llm.evaluation.judges import TrainingSet, judge_training_set, open_judges
from nano_llm.evaluation.likelihood import evenly_spaced
from nano_llm.evaluation.measured import Measured, NotMeasurableError
from nano_llm.evaluation.ngram_model import ByteNgram
from nano_llm.evaluation.outcome_model import NUM_VIEWS, OutcomeModel, TokenScores
from nano_llm.evaluation.pairs import measure_pairs
from nano_llm.evaluation.posterior import Evidence, fit_scale, measure_posterior
from nano_llm.evaluation.text_sample import TextSample, match_lengths, write
from nano_llm.evaluation.truth import measure_confounding, measure_sequences, measure_tokens
from nano_llm.evaluation.variety import measure_variety

Say = Callable[[str], None]

WRITTEN_TOKENS = 200
"""Most tokens of a review that a model of IMDB writes; of the structural corpus a window holds nearly every review."""
NUM_JUDGE_REVIEWS = 5000
"""Reviews that judges are fitted to where they have a stream of their own; at most so many for the judge of fluency."""
MIN_JUDGE_REVIEWS = 100
NUM_KEY_CHARS = 60
"""Letters of a key that name a review; as where originals of counterfactual pairs are kept out of training."""


@dataclass(frozen=True)
class Sizes:
    """How much of each corpus a suite takes."""

    reviews: int  # judged ones, and as many to fit scales to
    law_reviews: int  # of the structural corpus, under do(T); their whole laws are compared
    pairs: int
    samples: int  # reviews to write under each outcome


SIZES = {
    Suite.quick: Sizes(reviews=200, law_reviews=200, pairs=200, samples=0),
    Suite.full: Sizes(reviews=2000, law_reviews=1000, pairs=2000, samples=200),
}


@dataclass(frozen=True)
class Judged:
    """Some reviews of a split, and what clusters them."""

    reviews: list[Review]
    num_bytes_R: IntArray
    cluster_R: NDArray[np.str_] | None  # movies, where they are known

    @classmethod
    def of(cls, split: Split, rows: IntArray) -> "Judged":
        """Take rows of a split."""
        reviews = [split[int(row)] for row in rows]
        movie_R = split.movie_R[rows]
        return cls(reviews, split.num_bytes_R[rows], movie_R if (movie_R != "").all() else None)

    @property
    def treatment_R(self) -> IntArray:
        """Labels."""
        return np.array([review.treatment for review in self.reviews])


class Subject:
    """A model under evaluation, its corpus, and the scores that several metrics share."""

    def __init__(
        self, config: Config, model: OutcomeModel, splits: dict[str, Split], suite: Suite, cache: Path, say: Say
    ) -> None:
        """Bring together what the metrics need.

        Args:
            config: Of the run.
            model: Its best checkpoint.
            splits: ``train``, ``validation`` and, where the protocol has one, ``test``; `prepare` opens them. The
                test is judged, and scales are fitted to the validation. With no test, both take reviews of the
                validation split, but not the same ones.
            suite: How thorough to be.
            cache: Folder of what can be used again, such as judges.
            say: Tells the user what is skipped and why.
        """
        self.config, self.model, self.splits, self.cache, self.say = config, model, splits, cache, say
        self.sizes = SIZES[suite]
        validation = splits["validation"]
        if "test" in splits:
            self.held_out = splits["test"]
            judged_rows = evenly_spaced(len(self.held_out), self.sizes.reviews)
            self._calibration_rows = evenly_spaced(len(validation), self.sizes.reviews)
        else:
            self.held_out = validation
            judged_rows, self._calibration_rows = _halves(validation, self.sizes.reviews)
        self.judged = Judged.of(self.held_out, judged_rows)

    @cached_property
    def scores(self) -> TokenScores:
        """Of the judged reviews."""
        return self.model.score(self.judged.reviews)

    @cached_property
    def evidence(self) -> Evidence:
        """Of the judged reviews about their treatment."""
        return Evidence.of(self.scores, self.prior(self.judged.reviews), self.judged.treatment_R)

    @cached_property
    def calibration(self) -> Evidence:
        """Of reviews of the validation split that are not judged, for fitting scales.

        Raises:
            NotMeasurableError: There are none.
        """
        if not len(self._calibration_rows):
            raise NotMeasurableError("no validation review is left to fit scales to; raise data.max_validation_reviews")
        reviews = Judged.of(self.splits["validation"], self._calibration_rows)
        return Evidence.of(self.model.score(reviews.reviews), self.prior(reviews.reviews), reviews.treatment_R)

    @cached_property
    def law(self) -> scm.ReviewLaw:
        """The law of the corpus.

        Raises:
            NotMeasurableError: It is not known.
        """
        data = self.config.data
        if not isinstance(data, ScmConfig):
            raise NotMeasurableError("the law of the corpus is not known; train with data=scm")
        if data.max_review_chars is not None:
            raise NotMeasurableError("the law gives whole reviews; train with data.max_review_chars=null")
        return scm.review_law(data)

    @cached_property
    def under_do(self) -> list[Review]:
        """Reviews of the structural corpus under do(T), a stream of their own."""
        assert isinstance(self.config.data, ScmConfig)
        return scm.sample_reviews(self.config.data, "test_do", self.sizes.law_reviews, scm.Sampling.do)

    @cached_property
    def judge_stream(self) -> list[Review]:
        """Reviews of the structural corpus under do(T) that judges are fitted to, a stream of their own."""
        assert isinstance(self.config.data, ScmConfig)
        return scm.sample_reviews(self.config.data, "judge", NUM_JUDGE_REVIEWS, scm.Sampling.do)

    @property
    def compared(self) -> list[Review]:
        """Held-out reviews that written ones are compared with: under do(T), where whole ones can be sampled so."""
        data = self.config.data
        return self.under_do if isinstance(data, ScmConfig) and data.max_review_chars is None else self.judged.reviews

    @cached_property
    def samples(self) -> TextSample:
        """Reviews that the model writes under each outcome, to the prompts of held-out ones.

        Raises:
            NotMeasurableError: The model has one outcome, or there is too little to compare with.
        """
        self.demand_two_outcomes()
        if self.sizes.samples == 0:
            raise NotMeasurableError("the quick suite writes no reviews; use --suite full")
        num_by_label = np.bincount([review.treatment for review in self.compared], minlength=2)
        num = min(self.sizes.samples, int(num_by_label.min()))
        if num < 2:
            raise NotMeasurableError(
                f"the {num_by_label.sum()} held-out reviews have {num_by_label.min()} of one sentiment, too few to "
                "compare with; raise data.max_test_reviews"
            )
        self.say(f"writing {num} reviews under each outcome")
        data = self.config.data
        num_tokens = data.window_length if isinstance(data, ScmConfig) else WRITTEN_TOKENS
        return write(self.model, [review.topic for review in self.compared[:num]], num_tokens)

    @cached_property
    def compared_samples(self) -> tuple[TextSample, TextSample]:
        """Those reviews, and as many held-out ones: as much of both as the shorter of two has."""
        return match_lengths(self.samples, self.compared)

    def prior(self, reviews: Sequence[Review]) -> FloatArray:
        """Return P(T = 1 | prompt): the law's where it is known, else 1/2, as in the balanced reviews of IMDB."""
        if not isinstance(self.config.data, ScmConfig):
            return np.full(len(reviews), 0.5)
        return scm_law.prompt_prior(scm.review_law(self.config.data), [review.topic for review in reviews])

    def demand_two_outcomes(self) -> None:
        """Make sure that the model can be asked about both treatments.

        Raises:
            NotMeasurableError: It cannot.
        """
        if self.model.num_outcomes == 1:
            raise NotMeasurableError("the model has one outcome: its prompt does not tell the treatment")


def _halves(split: Split, num_reviews: int) -> tuple[IntArray, IntArray]:
    """Return up to so many rows at even distances, and as many others between them; both have as much of each label."""
    by_label = np.argsort(split.treatment_R, kind="stable")
    rows = by_label[evenly_spaced(len(split), 2 * num_reviews)]
    return np.sort(rows[::2]), np.sort(rows[1::2])


@dataclass(frozen=True)
class Group:
    """Metrics that come of the same work; with no metrics, a record of details."""

    name: str
    measure: Callable[[Subject], Measured]
    metrics: tuple[str, ...]
    suites: tuple[Suite, ...] = (Suite.quick, Suite.full)


def evaluate(subject: Subject, suite: Suite, wanted: Sequence[str] = ()) -> Iterator[tuple[str, Measured]]:
    """Measure a model, a group of metrics at a time; what does not apply is told and left out.

    Args:
        subject: The model and its corpus.
        suite: Groups of this suite; all groups if metrics are named.
        wanted: Names of metrics, whose groups are measured; empty for all of the suite.

    Yields:
        Name of a group and all that it found.

    Raises:
        ConfigError: No metric has a wanted name.
    """
    for group in chosen_groups(suite, wanted):
        names = [name for name in group.metrics if not wanted or name in wanted]
        try:
            measured = group.measure(subject)
        except (NotMeasurableError, DataError) as reason:  # what a corpus lacks must not cost the other groups
            subject.say(f"skipped {', '.join(names) or group.name}: {reason}")
            continue
        missing = [name for name in names if name not in measured.figures]
        if missing:
            subject.say(f"skipped {', '.join(missing)}: this model and these reviews do not give it")
        yield group.name, measured


def chosen_groups(suite: Suite, wanted: Sequence[str]) -> list[Group]:
    """Return the groups to measure.

    Raises:
        ConfigError: No metric has a wanted name.
    """
    known = [name for group in GROUPS for name in group.metrics]
    for name in wanted:
        if name not in known:
            raise ConfigError(f"There is no metric {name!r}; {suggest(name, known)}.")
    if wanted:
        return [group for group in GROUPS if set(group.metrics) & set(wanted)]
    return [group for group in GROUPS if suite in group.suites]


# ------------------------------------------------------------------------------------------- metrics


def _heads(subject: Subject) -> Measured:
    judged = subject.judged
    prior_R = subject.prior(judged.reviews) if subject.model.num_outcomes == 2 else None
    return measure_heads(subject.scores, judged.num_bytes_R, judged.treatment_R, prior_R, judged.cluster_R)


def _posterior(subject: Subject) -> Measured:
    subject.demand_two_outcomes()
    return measure_posterior(subject.scores, subject.evidence, subject.calibration, subject.judged.cluster_R)


def _sequences(subject: Subject) -> Measured:
    subject.demand_two_outcomes()
    return measure_sequences(subject.law, subject.under_do, subject.model.score(subject.under_do))


def _tokens(subject: Subject) -> Measured:
    subject.demand_two_outcomes()
    law = subject.law
    if subject.config.data.tokenizer.kind is not TokenizerKind.words:
        raise NotMeasurableError("the law speaks of words; train with data.tokenizer.kind=words")
    return measure_tokens(law, subject.under_do, subject.model)


def _confounding(subject: Subject) -> Measured:
    subject.demand_two_outcomes()
    law, data = subject.law, subject.config.data
    if law.prompt_topic is ScmTopic.observed:
        raise NotMeasurableError("the prompt tells the topic, so nothing is confounded; train with data.topic=hidden")
    assert isinstance(data, ScmConfig)
    observed = scm.sample_reviews(data, "test_do", subject.sizes.law_reviews, scm.Sampling.observational)
    samples = {scm.Sampling.do: subject.under_do, scm.Sampling.observational: observed}
    return measure_confounding(law, samples, subject.model.score)


def _pairs(subject: Subject) -> Measured:
    subject.demand_two_outcomes()
    pairs, num_trained_on = _pairs_of(subject)
    negative, positive = ([pair[k] for pair in pairs] for k in (0, 1))
    calibration = subject.calibration
    scale = fit_scale(calibration.s_R, calibration.prior_R, calibration.treatment_R)
    measured = measure_pairs(subject.model.score(negative), subject.model.score(positive), scale)
    return replace(measured, details=measured.details | {"pairs_left_out_as_trained_on": num_trained_on})


def _pairs_of(subject: Subject) -> tuple[list[tuple[Review, Review]], int]:
    """Return the negative and the positive member of minimal pairs, and how many were trained on and left out."""
    data, num_pairs = subject.config.data, subject.sizes.pairs
    if isinstance(data, ScmConfig):
        twins = zip(*scm.twins(data, "test_do", num_pairs, scm.Sampling.do), strict=True)
        return [(one, other) if one.treatment == 0 else (other, one) for one, other in twins], 0
    if not isinstance(data, ImdbConfig):
        raise NotMeasurableError(f"there are no minimal pairs for data={data.name}")
    if data.cad is None:
        raise NotMeasurableError(
            "counterfactually augmented reviews are needed: get sentiment/combined/paired of github "
            "acmi-lab/counterfactually-augmented-data and give it as --cad FOLDER of `nano-llm evaluate`, as "
            "NANO_LLM_CAD, or to a training as data.cad"
        )
    found = cad.read_members(data.cad, "dev")
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
    known = {cad.key(train[row].text)[:NUM_KEY_CHARS] for row in range(len(train))}

    def trained_on(review: Review) -> bool:
        # A long review was trained on in pieces.
        first = review.text if max_chars is None else cut_text(review.text, max_chars)[0]
        return cad.key(first)[:NUM_KEY_CHARS] in known

    return trained_on


def _divergence(subject: Subject) -> Measured:
    model = subject.model
    if model.num_heads == 1:
        raise NotMeasurableError("the model has one head")
    samples = format_samples(subject.judged.reviews, model.template, model.tokenizer)
    windows = Windows.covering(samples, model.window_length, model.tokenizer.pad_id, num_views=NUM_VIEWS)
    profile = divergence_profile(
        model.model, windows, model.machine, batch_size=model.batch_size, on_batch=model.on_batch
    )
    return Measured({}, pd.DataFrame(), profile)


def _control(subject: Subject) -> Measured:
    generated, real = subject.compared_samples
    training = _judge_training_set(subject)
    judges = open_judges(training.texts, training.label_R, training.weight_R, subject.cache / "judges", subject.say)
    fluency_texts = _fluency_texts(subject)
    ngram = ByteNgram.fit(fluency_texts) if len(fluency_texts) >= MIN_JUDGE_REVIEWS else None
    if ngram is None:
        subject.say(
            f"no judge of fluency: {len(fluency_texts)} held-out reviews are left for it, expected {MIN_JUDGE_REVIEWS}"
        )
    measured = measure_control(generated, real, judges, ngram)
    told = {"judges_are_fitted_to": training.note, "fluency_judge_reviews": len(fluency_texts)}
    return replace(measured, details=measured.details | told)


def _judge_training_set(subject: Subject) -> TrainingSet:
    """Return what judges of sentiment are fitted to: nothing that they judge."""
    data = subject.config.data
    if isinstance(data, ImdbConfig):
        train = subject.splits["train"]
        return judge_training_set([train[row] for row in range(len(train))], _cad_pairs(data), subject.say)
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


def _fluency_texts(subject: Subject) -> list[str]:
    """Return what the judge of fluency is fitted to: held-out reviews, no compared one nor one of its movie."""
    if isinstance(subject.config.data, ScmConfig):
        return [review.text for review in subject.judge_stream]
    split = subject.held_out
    compared = set(subject.compared_samples[1].texts)
    movies = {review.movie for review in subject.compared if review.text in compared} - {None}
    held_out = [split[row] for row in range(len(split))]
    free = [review.text for review in held_out if review.text not in compared and review.movie not in movies]
    return [free[row] for row in evenly_spaced(len(free), NUM_JUDGE_REVIEWS)]


def _texts(subject: Subject) -> Measured:
    generated, real = subject.compared_samples
    train = subject.splits["train"]
    return measure_variety(generated, real, [train[row].text for row in range(len(train))])


def _effects(subject: Subject) -> Measured:
    law = subject.law
    return measure_effects(law, subject.samples)


GROUPS = (
    Group("heads", _heads, ("bpb", "bpb_y0", "bpb_y1", "bpb_other", "bpb_mixture")),
    Group(
        "posterior",
        _posterior,
        (
            "posterior_accuracy", "posterior_log_loss", "posterior_log_loss_scaled", "info_hat", "info_hat_scaled",
            "posterior_ece", "posterior_ece_scaled", "posterior_ece_length_scaled",
        ),
    ),
    Group("divergence", _divergence, ()),
    Group("sequences", _sequences, ("excess_nll", "excess_nll_share", "posterior_accuracy_do", "bayes_accuracy_do")),
    Group(
        "truth",
        _tokens,
        (
            "cf_kl", "factual_kl", "token_pehe", "token_pehe_neutral", "token_pehe_decided", "js", "js_true",
            "js_ratio", "info_ratio", "posterior_mae",
        ),
    ),
    Group("confounding", _confounding, ("confounding_bias",)),
    Group("pairs", _pairs, ("pair_order", "pair_both_right", "localisation")),
    Group(
        "control",
        _control,
        (
            "control_accuracy_lr", "control_ceiling_lr", "control_ratio_lr", "control_accuracy_nbsvm",
            "control_ceiling_nbsvm", "control_ratio_nbsvm", "judge_bpb", "fluency_gap",
        ),
        (Suite.full,),
    ),
    Group(
        "texts",
        _texts,
        (
            *(
                f"{name}{end}"
                for name in (
                    "num_words", "distinct_1", "distinct_2", "distinct_3", "self_bleu", "seq_rep_4",
                    "compression_ratio", "copy_rate",
                )
                for end in ("", "_real")
            ),
            "two_sample_auc",
        ),
        (Suite.full,),
    ),
    Group(
        "effects",
        _effects,
        (
            "ate_error_length", "ate_error_positive", "null_leakage_topic", "null_leakage_aspect",
            "null_leakage_template",
        ),
        (Suite.full,),
    ),
)  # fmt: skip
