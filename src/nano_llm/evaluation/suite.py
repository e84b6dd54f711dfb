"""The evaluation suite: which metrics there are, what each needs, and the record of a model on all that apply."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from nano_llm.config.schema import ScmConfig, Suite
from nano_llm.config.strict import suggest
from nano_llm.data import scm
from nano_llm.data.review import Review
from nano_llm.data.samples import format_samples
from nano_llm.data.scm_truth import corpus_constants
from nano_llm.data.windows import Windows
from nano_llm.errors import ConfigError, DataError
from nano_llm.evaluation.control import measure_control
from nano_llm.evaluation.corpora import fluency_texts, judges_training_set, minimal_pairs
from nano_llm.evaluation.divergence import divergence_profile
from nano_llm.evaluation.effects import measure_effects
from nano_llm.evaluation.heads import measure_heads
from nano_llm.evaluation.judges import open_judges
from nano_llm.evaluation.measured import Measured, NotMeasurableError
from nano_llm.evaluation.needs import ANY, CONFOUNDING, LAW, LAW_OF_TOKENS, PAIRS, Need
from nano_llm.evaluation.ngram_model import ByteNgram
from nano_llm.evaluation.outcome_model import NUM_VIEWS
from nano_llm.evaluation.pairs import measure_pairs
from nano_llm.evaluation.posterior import fit_scale, measure_posterior
from nano_llm.evaluation.subject import Subject
from nano_llm.evaluation.truth import measure_confounding, measure_sequences, measure_tokens
from nano_llm.evaluation.variety import measure_variety

MIN_JUDGE_REVIEWS = 100


@dataclass(frozen=True)
class Group:
    """Metrics that come of the same work, and what they need of the corpus; with no metrics, a record of details.

    `nano_llm.metrics.METRICS` has unit, direction and meaning of each.
    """

    name: str
    measure: Callable[[Subject], Measured]
    metrics: tuple[str, ...]
    need: Need = ANY
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
            if (lacking := group.need.lacking(subject.config.data)) is not None:
                raise NotMeasurableError(lacking)
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
    measured = measure_heads(subject.scores, judged.num_bytes_R, judged.treatment_R, prior_R, judged.cluster_R)
    return _of(measured, judged.reviews)


def _posterior(subject: Subject) -> Measured:
    subject.demand_two_outcomes()
    judged = subject.judged
    measured = measure_posterior(subject.scores, subject.evidence, subject.calibration, judged.cluster_R)
    return _of(measured, judged.reviews)


def _sequences(subject: Subject) -> Measured:
    subject.demand_two_outcomes()
    reviews = subject.under_do
    return _of(measure_sequences(subject.law, reviews, subject.model.score(reviews)), reviews)


def _tokens(subject: Subject) -> Measured:
    subject.demand_two_outcomes()
    return _of(measure_tokens(subject.law, subject.under_do, subject.model), subject.under_do)


def _corpus(subject: Subject) -> Measured:
    """Return what the law itself scores under each sampling, with standard errors: the bounds of any model."""
    law, data = subject.law, subject.config.data
    assert isinstance(data, ScmConfig)
    num = subject.sizes.law_reviews
    constants = {each.name: corpus_constants(law, data.corpus_seed, num, each) for each in scm.Sampling}
    return Measured({}, pd.DataFrame(), constants)


def _confounding(subject: Subject) -> Measured:
    subject.demand_two_outcomes()
    law, data = subject.law, subject.config.data
    assert isinstance(data, ScmConfig)
    observed = scm.sample_reviews(data, "test_do", subject.sizes.law_reviews, scm.Sampling.observational)
    samples = {scm.Sampling.do: subject.under_do, scm.Sampling.observational: observed}
    return _of(measure_confounding(law, samples, subject.model.score), subject.under_do, observed)


def _pairs(subject: Subject) -> Measured:
    subject.demand_two_outcomes()
    pairs, num_trained_on = minimal_pairs(subject)
    negative, positive = ([pair[k] for pair in pairs] for k in (0, 1))
    calibration = subject.calibration
    scale = fit_scale(calibration.s_R, calibration.prior_R, calibration.treatment_R)
    measured = _of(
        measure_pairs(subject.model.score(negative), subject.model.score(positive), scale), negative, positive
    )
    return replace(measured, details=measured.details | {"pairs_left_out_as_trained_on": num_trained_on})


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
    training = judges_training_set(subject)
    judges = open_judges(training.texts, training.label_R, training.weight_R, subject.cache / "judges", subject.say)
    held_out = fluency_texts(subject)
    ngram = ByteNgram.fit(held_out) if len(held_out) >= MIN_JUDGE_REVIEWS else None
    if ngram is None:
        subject.say(
            f"no judge of fluency: {len(held_out)} held-out reviews are left for it, expected {MIN_JUDGE_REVIEWS}"
        )
    measured = measure_control(generated, real, judges, ngram)
    told = {"judges_are_fitted_to": training.note, "fluency_judge_reviews": len(held_out)}
    return replace(measured, details=measured.details | told)


def _texts(subject: Subject) -> Measured:
    generated, real = subject.compared_samples
    train = subject.splits["train"]
    return measure_variety(generated, real, [train[row].text for row in range(len(train))])


def _effects(subject: Subject) -> Measured:
    return measure_effects(subject.law, subject.samples)


def _of(measured: Measured, *members: Sequence[Review]) -> Measured:
    """Name in each row the review, or each of the reviews, that it is about."""
    names = ["+".join(review.digest for review in of_row) for of_row in zip(*members, strict=True)]
    return replace(measured, rows=pd.concat([pd.Series(names, name="review"), measured.rows], axis=1))


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
    Group(
        "sequences",
        _sequences,
        ("excess_nll", "excess_nll_share", "posterior_accuracy_do", "bayes_accuracy_do"),
        LAW,
    ),
    Group(
        "truth",
        _tokens,
        (
            "cf_kl", "factual_kl", "token_pehe", "token_pehe_neutral", "token_pehe_decided", "js", "js_true",
            "js_ratio", "info_ratio", "posterior_mae",
        ),
        LAW_OF_TOKENS,
    ),
    Group("corpus", _corpus, (), LAW, (Suite.full,)),
    Group("confounding", _confounding, ("confounding_bias",), CONFOUNDING),
    Group("pairs", _pairs, ("pair_order", "pair_both_right", "localisation"), PAIRS),
    Group(
        "control",
        _control,
        (
            "control_accuracy_lr", "control_ceiling_lr", "control_ratio_lr", "control_accuracy_nbsvm",
            "control_ceiling_nbsvm", "control_ratio_nbsvm", "judge_bpb", "fluency_gap",
        ),
        suites=(Suite.full,),
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
        suites=(Suite.full,),
    ),
    Group(
        "effects",
        _effects,
        (
            "ate_error_length", "ate_error_positive", "null_leakage_topic", "null_leakage_aspect",
            "null_leakage_template",
        ),
        LAW,
        (Suite.full,),
    ),
)  # fmt: skip
