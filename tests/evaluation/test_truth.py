"""Scores against the law: perfect for the law itself, known values where the outcomes have collapsed."""

from dataclasses import replace

import numpy as np
import pytest
from torch import Tensor, nn

from exact_models import LawModel, outcome_model, word_tokenizer
from nano_llm.config.schema import ScmConfig
from nano_llm.data import scm, scm_law
from nano_llm.data.review import Review
from nano_llm.data.scm_truth import jensen_shannon
from nano_llm.evaluation.bootstrap import Interval
from nano_llm.evaluation.outcome_model import TokenScores
from nano_llm.evaluation.truth import (
    event_tokens,
    mean_of_means,
    mean_of_ratios,
    measure_confounding,
    measure_sequences,
    measure_tokens,
)
from scm_presets import DEFAULT, TINY

SMALL = {"tiny": replace(TINY, confounding=0.0), "default": DEFAULT}


def figures(config: ScmConfig, model: nn.Module, num_reviews: int = 120) -> dict[str, Interval]:
    law = scm.review_law(config)
    reviews = scm.sample_reviews(config, "test_do", num_reviews, scm.Sampling.do)
    outcomes = outcome_model(model, 2, word_tokenizer(config))
    sequences = measure_sequences(law, reviews, outcomes.score(reviews))
    return sequences.figures | measure_tokens(law, reviews, outcomes).figures


@pytest.mark.parametrize("config", SMALL.values(), ids=SMALL)
def test_the_law_itself_is_perfect(config: ScmConfig) -> None:
    found = figures(config, LawModel(config, word_tokenizer(config)))
    for name in ("cf_kl", "factual_kl", "excess_nll", "excess_nll_share", "posterior_mae"):
        assert found[name].value == pytest.approx(0, abs=1e-4), name
    assert found["token_pehe"].value == pytest.approx(0, abs=1e-2)
    assert found["js_ratio"].value == pytest.approx(1, abs=1e-3)
    assert found["info_ratio"].value == pytest.approx(1, abs=1e-3)
    # A review without a word of opinion is a tie, which rounding breaks.
    assert found["posterior_accuracy_do"].value == pytest.approx(found["bayes_accuracy_do"].value, abs=0.03)
    assert found["cf_kl"].low <= found["cf_kl"].value <= found["cf_kl"].high


class Equal(nn.Module):
    """Both heads give the law of treatment 0."""

    def __init__(self, config: ScmConfig) -> None:
        super().__init__()
        self.one = LawModel(config, word_tokenizer(config), outcomes=(0,))

    def forward(self, tokens_BT: Tensor) -> Tensor:
        logits_BT1V: Tensor = self.one(tokens_BT)
        return logits_BT1V.expand(-1, -1, 2, -1)


def test_equal_heads_score_the_values_of_collapse() -> None:
    """With p_0 = p_1 = p*_0: no divergence, no information, a posterior that never moves, and KL(p*_1 || p*_0)."""
    config = SMALL["tiny"]
    found = figures(config, Equal(config))
    assert found["js"].value == pytest.approx(0, abs=1e-6)
    assert found["js_ratio"].value == pytest.approx(0, abs=1e-4)
    assert found["info_ratio"].value == pytest.approx(0, abs=1e-4)
    assert found["posterior_accuracy_do"].value == 0.5
    law = scm.review_law(config)
    reviews = scm.sample_reviews(config, "test_do", 120, scm.Sampling.do)
    events = scm_law.read_events(law, [r.text for r in reviews], [r.topic for r in reviews])
    law_NKE = scm_law.next_event_laws(law, events, scm.Sampling.do)
    tau_NE = np.diff(np.log(law_NKE, out=np.zeros_like(law_NKE), where=law_NKE > 0), axis=1)[:, 0]
    pehe = np.sqrt((law_NKE.mean(axis=1) * tau_NE**2).sum(axis=1).mean())
    assert found["token_pehe"].value == pytest.approx(pehe, rel=1e-3)
    kl_N = (law_NKE[:, 1] * tau_NE).sum(axis=1)
    treatment_N = np.repeat([r.treatment for r in reviews], np.diff(events.offset_R1))
    assert found["cf_kl"].value == pytest.approx(kl_N[treatment_N == 0].mean() / 2, rel=1e-3)
    assert found["factual_kl"].value == pytest.approx(kl_N[treatment_N == 1].mean() / 2, rel=1e-3)
    pi_N = scm_law.posterior(
        scm_law.log_probabilities(law, events, scm.Sampling.do), events.offset_R1, np.full(len(reviews), 0.5)
    )
    length_N = np.repeat(np.diff(events.offset_R1), np.diff(events.offset_R1))
    assert found["posterior_mae"].value == pytest.approx(np.abs(pi_N - 0.5).sum() / len(length_N), rel=1e-6)


def test_exchanged_heads_are_right_nowhere() -> None:
    config = SMALL["tiny"]
    exchanged = LawModel(config, word_tokenizer(config), outcomes=(1, 0))
    found = figures(config, exchanged)
    assert found["posterior_accuracy_do"].value == pytest.approx(1 - found["bayes_accuracy_do"].value, abs=0.03)
    assert found["js_ratio"].value == pytest.approx(1, abs=1e-3)
    assert found["cf_kl"].value > 0.01


def test_a_null_effect_has_no_ratio_to_reach() -> None:
    config = replace(SMALL["tiny"], effect=0.0)
    found = figures(config, LawModel(config, word_tokenizer(config)), num_reviews=40)
    assert "js_ratio" not in found
    assert found["js"].value == pytest.approx(0, abs=1e-6)


def test_mass_outside_the_support_counts_against_the_model() -> None:
    config = SMALL["tiny"]

    class Leaky(LawModel):
        def forward(self, tokens_BT: Tensor) -> Tensor:
            p_BTKV = super().forward(tokens_BT).softmax(-1)
            return (0.9 * p_BTKV + 0.1 / p_BTKV.shape[-1]).log()

    found = figures(config, Leaky(config, word_tokenizer(config)), num_reviews=40)
    assert 0.02 < found["cf_kl"].value < -np.log(0.9) + 1e-6


@pytest.mark.parametrize("sampling", [scm.Sampling.do, scm.Sampling.observational])
def test_confounding_bias_tells_which_law_was_learnt(sampling: scm.Sampling) -> None:
    """Outcomes at the do law: -KL(obs || do); at the observational law: +KL(do || obs). Brief: .085 at kappa 2."""
    config = replace(TINY, confounding=4.0)
    law = scm.review_law(config)
    samples = {s: scm.sample_reviews(config, "test_do", 400, s) for s in scm.Sampling}

    def score(reviews: list[Review]) -> TokenScores:
        events = scm_law.read_events(law, [r.text for r in reviews], [r.topic for r in reviews])
        return TokenScores(scm_law.log_probabilities(law, events, sampling), events.event_N, events.offset_R1)

    bias = measure_confounding(law, samples, score).figures["confounding_bias"]
    if sampling is scm.Sampling.do:
        assert bias.high < 0
        assert bias.value == pytest.approx(-0.2, abs=0.1)
    else:
        assert bias.low > 0


def test_the_mean_over_outcomes_weighs_both_alike() -> None:
    treatment_R = np.array([0, 0, 0, 1])
    assert mean_of_means(np.array([1.0, 1.0, 1.0, 9.0]), treatment_R) == 5.0
    assert mean_of_ratios(np.array([1.0, 1.0, 1.0, 9.0]), np.array([1.0, 2.0, 3.0, 3.0]), treatment_R) == 1.75
    assert np.isnan(mean_of_means(np.ones(2), np.array([1, 1])))


def test_js_of_the_law_and_the_tokens_of_events() -> None:
    config = SMALL["tiny"]
    tokenizer = word_tokenizer(config)
    tokens_E = event_tokens(scm.review_law(config), tokenizer)
    assert len(set(tokens_E.tolist())) == len(tokens_E)
    two_points = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    assert jensen_shannon(two_points, np.array([0.5]))[0] == pytest.approx(np.log(2))
