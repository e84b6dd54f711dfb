"""What is evaluated: a model, the reviews that it is judged on, and the scores that several metrics share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nano_llm.config.schema import Config, ScmConfig, Suite
from nano_llm.data import scm, scm_law
from nano_llm.data.arrays import FloatArray, IntArray
from nano_llm.data.review import Review
from nano_llm.data.split import Split
from nano_llm.evaluation.likelihood import evenly_spaced
from nano_llm.evaluation.measured import NotMeasurableError
from nano_llm.evaluation.outcome_model import OutcomeModel, TokenScores
from nano_llm.evaluation.posterior import Evidence
from nano_llm.evaluation.text_sample import TextSample, match_lengths, write

Say = Callable[[str], None]

WRITTEN_TOKENS = 200
"""Most tokens of a review that a model of IMDB writes; of the structural corpus a window holds nearly every review."""
NUM_JUDGE_REVIEWS = 5000
"""Reviews that judges are fitted to where they have a stream of their own; at most so many for the judge of fluency."""


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
        """The law of the corpus, for metrics that need it."""
        assert isinstance(self.config.data, ScmConfig)
        return scm.review_law(self.config.data)

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
