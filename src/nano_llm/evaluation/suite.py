"""The evaluation suite: which metrics there are, what each needs, and the record of a model on all that apply."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nano_llm.config.schema import Config, DataConfig, ImdbConfig, ScmConfig, ScmTopic, Suite, TokenizerKind
from nano_llm.config.strict import suggest
from nano_llm.data import cad, scm, scm_law
from nano_llm.data.arrays import FloatArray, IntArray
from nano_llm.data.cad import CadPair, read_cad
from nano_llm.data.imdb import read_imdb
from nano_llm.data.review import Review
from nano_llm.data.split import Split
from nano_llm.errors import ConfigError, DataError
from nano_llm.evaluation.control import measure_control
from nano_llm.evaluation.effects import measure_effects
from nano_llm.evaluation.heads import measure_heads
from nano_llm.evaluation.judges import TrainingSet, judge_training_set, open_judges
from nano_llm.evaluation.likelihood import evenly_spaced
from nano_llm.evaluation.measured import Measured, NotMeasurableError
from nano_llm.evaluation.ngram_model import ByteNgram
from nano_llm.evaluation.outcome_model import OutcomeModel, TokenScores
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


@dataclass(frozen=True)
class Sizes:
    """How much of each corpus a suite takes."""

    reviews: int  # judged ones, and as many of the validation split to fit scales to
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
    def of(cls, split: Split, num_reviews: int) -> "Judged":
        """Take reviews at even distances."""
        rows = evenly_spaced(len(split), num_reviews)
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
            splits: ``train``, ``validation`` and, where the protocol has one, ``test``; `prepare` opens them.
            suite: How thorough to be.
            cache: Folder of what can be used again, such as judges.
            say: Tells the user what is skipped and why.
        """
        self.config, self.model, self.splits, self.cache, self.say = config, model, splits, cache, say
        self.sizes = SIZES[suite]
        self.judged = Judged.of(self.held_out, self.sizes.reviews)

    @property
    def held_out(self) -> Split:
        """The split that is judged."""
        return self.splits["test" if "test" in self.splits else "validation"]

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
        """Of reviews of the validation split, for fitting scales."""
        reviews = Judged.of(self.splits["validation"], self.sizes.reviews)
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
        events = scm_law.read_events(self.law, [r.text for r in reviews], [r.topic for r in reviews])
        return scm_law.treatment_prior(self.law, events, scm.Sampling.observational)

    def demand_two_outcomes(self) -> None:
        """Make sure that the model can be asked about both treatments.

        Raises:
            NotMeasurableError: It cannot.
        """
        if self.model.num_outcomes == 1:
            raise NotMeasurableError("the model has one outcome: its prompt does not tell the treatment")


@dataclass(frozen=True)
class Group:
    """Metrics that come of the same work."""

    name: str
    measure: Callable[[Subject], Measured]
    metrics: tuple[str, ...]
    suites: tuple[Suite, ...] = (Suite.quick, Suite.full)


def evaluate(subject: Subject, suite: Suite, wanted: Sequence[str] = ()) -> Iterator[tuple[str, Measured]]:
    """Measure a model, a group of metrics at a time; what does not apply is told and left out.

    Args:
        subject: The model and its corpus.
        suite: Groups of this suite; all groups if metrics are named.
        wanted: Names of metrics; empty for all of the suite.

    Raises:
        ConfigError: No metric has a wanted name.
    """
    for group in chosen_groups(suite, wanted):
        try:
            measured = group.measure(subject)
        except NotMeasurableError as reason:
            subject.say(f"skipped {', '.join(group.metrics)}: {reason}")
            continue
        figures = {name: figure for name, figure in measured.figures.items() if not wanted or name in wanted}
        yield group.name, Measured(figures, measured.rows, measured.details)


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
    prior_R = subject.prior(judged.reviews)
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
    negative, positive = _pairs_of(subject.config.data, subject.sizes.pairs)
    calibration = subject.calibration
    scale = fit_scale(calibration.s_R, calibration.prior_R, calibration.treatment_R)
    return measure_pairs(subject.model.score(negative), subject.model.score(positive), scale)


def _pairs_of(data: DataConfig, num_pairs: int) -> tuple[list[Review], list[Review]]:
    """Return the negative and the positive members of minimal pairs that nothing was trained on."""
    if isinstance(data, ScmConfig):
        pairs = list(zip(*scm.twins(data, "test_do", num_pairs, scm.Sampling.do), strict=True))
    elif isinstance(data, ImdbConfig):
        if data.cad is None:
            raise NotMeasurableError(
                "counterfactually augmented reviews are needed: get sentiment/combined/paired of github "
                "acmi-lab/counterfactually-augmented-data and set data.cad or NANO_LLM_CAD"
            )
        found = cad.read_members(data.cad, "dev")
        pairs = [found[row] for row in evenly_spaced(len(found), num_pairs)]
    else:
        raise NotMeasurableError(f"there are no minimal pairs for data={data.name}")
    ordered = [sorted(pair, key=lambda review: review.treatment) for pair in pairs]
    return [pair[0] for pair in ordered], [pair[1] for pair in ordered]


def _control(subject: Subject) -> Measured:
    generated, real = subject.compared_samples
    training = _judge_training_set(subject)
    judges = open_judges(training.texts, training.label_R, training.weight_R, subject.cache / "judges", subject.say)
    fluency_texts = _fluency_texts(subject)
    ngram = ByteNgram.fit(fluency_texts) if len(fluency_texts) >= MIN_JUDGE_REVIEWS else None
    if ngram is None:
        subject.say(f"skipped judge_bpb, fluency_gap: {len(fluency_texts)} held-out reviews are left for their judge")
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
    """Return the counterfactual pairs; None where they are not given, or IMDB's train split to find originals in."""
    if data.cad is None:
        return None
    try:
        train = read_imdb(data)["train"]
    except DataError:
        return None
    return read_cad(data.cad, [Review(*review) for review in zip(train.texts, train.labels, strict=True)])


def _fluency_texts(subject: Subject) -> list[str]:
    """Return what the judge of fluency is fitted to: held-out reviews, none judged nor of a judged one's movie."""
    if isinstance(subject.config.data, ScmConfig):
        return [review.text for review in subject.judge_stream]
    split = subject.held_out
    movies = {review.movie for review in subject.judged.reviews if review.movie is not None}
    free_R = ~np.isin(split.movie_R, list(movies))
    free_R[evenly_spaced(len(split), subject.sizes.reviews)] = False
    rows = np.flatnonzero(free_R)
    return [split[int(row)].text for row in rows[evenly_spaced(len(rows), NUM_JUDGE_REVIEWS)]]


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
