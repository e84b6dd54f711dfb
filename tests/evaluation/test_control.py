"""Control and fluency of texts that the law writes itself, of swapped outcomes and of broken texts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from law_texts import law_sample, reviews_under_do, sample_of

from nano_llm.data import scm
from nano_llm.evaluation.bootstrap import Interval
from nano_llm.evaluation.control import measure_control
from nano_llm.evaluation.judges import LinearJudge, open_judges
from nano_llm.evaluation.measured import Measured
from nano_llm.evaluation.ngram_model import ByteNgram
from nano_llm.evaluation.text_sample import TextSample, match_lengths
from scm_presets import DEFAULT

NUM = 200
KINDS = ("lr", "nbsvm")


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> list[LinearJudge]:
    reviews = scm.sample_reviews(DEFAULT, "judge", 2000, scm.Sampling.do)
    texts, labels = [review.text for review in reviews], [review.treatment for review in reviews]
    return open_judges(texts, labels, np.ones(len(texts)), tmp_path_factory.mktemp("judges"), lambda line: None)


@pytest.fixture(scope="module")
def ngram() -> ByteNgram:
    return ByteNgram.fit([review.text for review in scm.sample_reviews(DEFAULT, "judge", 2000)])


@pytest.fixture(scope="module")
def real_of() -> list[scm.Review]:
    return [review for k in (0, 1) for review in reviews_under_do(DEFAULT, NUM, k, "held out")]


def measure(generated: TextSample, reviews: list[scm.Review], judges: list[LinearJudge], ngram: ByteNgram) -> Measured:
    return measure_control(*match_lengths(generated, reviews), judges, ngram)


def covers(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high


@pytest.fixture(scope="module")
def perfect(real_of: list[scm.Review], judges: list[LinearJudge], ngram: ByteNgram) -> Measured:
    return measure(law_sample(DEFAULT, NUM), real_of, judges, ngram)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_the_law_reach_the_ceiling(perfect: Measured, kind: str) -> None:
    figures = perfect.figures
    accuracy, ceiling, ratio = (figures[f"control_{what}_{kind}"] for what in ("accuracy", "ceiling", "ratio"))
    assert ratio.value == pytest.approx(accuracy.value / ceiling.value)
    assert covers(ratio, 1.0)
    assert ceiling.value > 0.75
    assert (accuracy.n, ratio.n) == (2 * NUM, 4 * NUM)


def test_fluency_of_texts_of_the_law_is_that_of_real_ones(perfect: Measured, ngram: ByteNgram) -> None:
    assert covers(perfect.figures["fluency_gap"], 0.0)
    rows = perfect.rows
    written, real = rows[rows.source == "generated"], rows[rows.source == "real"]
    assert perfect.figures["judge_bpb"].value == pytest.approx(written.bits.sum() / written.bytes.sum())
    assert perfect.figures["fluency_gap"].value == pytest.approx(
        written.bits.sum() / written.bytes.sum() - real.bits.sum() / real.bytes.sum()
    )
    cut = [text[:num_chars] for text, num_chars in zip(real.text, real.num_chars, strict=True)]
    bits, num_bytes = ngram.bits(cut, (real.num_chars == real.text.str.len()).tolist())
    assert real.bits.tolist() == bits.tolist()
    assert real.bytes.tolist() == num_bytes.tolist()
    assert perfect.details["judge_bpb_quantiles_real"][2] == pytest.approx((real.bits / real.bytes).median())


@pytest.mark.parametrize("kind", KINDS)
def test_swapped_outcomes_turn_control_over(
    perfect: Measured, real_of: list[scm.Review], judges: list[LinearJudge], ngram: ByteNgram, kind: str
) -> None:
    sample = law_sample(DEFAULT, NUM)
    swapped = sample_of(sample.texts[NUM:] + sample.texts[:NUM])
    figures = measure(swapped, real_of, judges, ngram).figures
    right = perfect.figures[f"control_accuracy_{kind}"].value
    assert figures[f"control_accuracy_{kind}"].value == pytest.approx(1 - right, abs=0.03)  # pairs differ
    assert figures[f"control_ratio_{kind}"].high < 0.5


def test_short_texts_lower_the_ceiling_and_not_the_ratio(
    perfect: Measured, real_of: list[scm.Review], judges: list[LinearJudge], ngram: ByteNgram
) -> None:
    """Two sentences tell less, of the law as of real texts; the verdict at the end tells most."""
    short = sample_of([" ".join(text.split()[:12]) for text in law_sample(DEFAULT, NUM).texts])
    short = replace(short, ended_N=np.zeros(2 * NUM, np.bool_))
    figures = measure(short, real_of, judges, ngram).figures
    for kind in KINDS:
        assert figures[f"control_ceiling_{kind}"].value < perfect.figures[f"control_ceiling_{kind}"].value - 0.05
        assert covers(figures[f"control_ratio_{kind}"], 1.0)
    assert covers(figures["fluency_gap"], 0.0)


def test_loops_are_too_likely_and_jumbles_too_unlikely(
    real_of: list[scm.Review], judges: list[LinearJudge], ngram: ByteNgram
) -> None:
    rng = np.random.default_rng(0)
    sample = law_sample(DEFAULT, 50)
    jumbles = [" ".join(rng.permutation(text.split())) for text in sample.texts]
    loops = [". ".join([sentence] * 8) + "." for text in sample.texts for sentence in text.rstrip(".").split(". ")]
    bits, num_bytes = ngram.bits(loops)
    loop = [loops[(bits / num_bytes).argmin()]] * 100
    gaps = [measure(sample_of(texts), real_of, judges, ngram).figures["fluency_gap"] for texts in (loop, jumbles)]
    assert gaps[0].high < 0 < gaps[1].low


def test_figures_that_cannot_be_had_are_left_out(real_of: list[scm.Review], judges: list[LinearJudge]) -> None:
    without = measure_control(*match_lengths(law_sample(DEFAULT, 10), real_of), judges, None)
    silent = measure_control(*match_lengths(sample_of([""] * 20), real_of), judges, ByteNgram.fit(["a film"]))
    for measured in (without, silent):
        assert not {"judge_bpb", "fluency_gap"} & measured.figures.keys()
    assert silent.figures["control_accuracy_lr"].value == 0.5


def test_rows_keep_the_texts(perfect: Measured, tmp_path: Path) -> None:
    perfect.rows.to_parquet(tmp_path / "rows.parquet")
    written = perfect.rows[perfect.rows.source == "generated"]
    assert written.text.tolist() == law_sample(DEFAULT, NUM).texts
    assert written.outcome.tolist() == [0] * NUM + [1] * NUM
    assert written.ended.all()
