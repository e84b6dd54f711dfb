"""Log-probabilities of reviews, against forward passes that know nothing of windows."""

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exact_models import outcome_model, word_tokenizer
from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Conditioning
from nano_llm.data.review import Review
from nano_llm.data.samples import Samples
from nano_llm.data.scm import sample_reviews
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.errors import DataError
from nano_llm.evaluation.outcome_model import OutcomeModel, sum_by_review
from nano_llm.model.language_model import build_language_model
from scm_presets import TINY

BYTES = Tokenizer.fit_bytes(["a dull film", "a fine café"], 264, split_words=True)
REVIEWS = [Review("a dull film, café.", 0), Review("ok", 1), Review("a very long one, " * 6, 1)]


def tiny_model(vocab_size: int, name: str, length: int) -> nn.Module:
    config = compose_config([f"model={name}", "scale=tiny", "model.embedding_std=1"])
    torch.manual_seed(0)
    return build_language_model(config.model, config.scale, vocab_size, max_positions=length).eval()


def by_hand(model: OutcomeModel, review: Review, head: int) -> list[float]:
    """Score a review token by token, each with all of its past, in one forward pass without windows."""
    prompt = model.tokenizer.encode_prompt(model.template.prompt_of(review))
    body = [*model.tokenizer.encode(review.text), *model.tokenizer.end_ids]
    with torch.inference_mode():
        logits_1TKV = model.model(torch.tensor([prompt + body]))
    log_p_TV = logits_1TKV[0, :, head].log_softmax(-1)
    return [float(log_p_TV[len(prompt) - 1 + i, token]) for i, token in enumerate(body)]


@pytest.mark.parametrize(("name", "num_heads"), [("tarnet", 2), ("vanilla", 1)])
def test_reviews_that_fit_a_window_score_as_without_windows(name: str, num_heads: int) -> None:
    conditioning = Conditioning.command if num_heads == 2 else Conditioning.tags
    model = outcome_model(tiny_model(BYTES.vocab_size, name, 256), num_heads, BYTES, conditioning, window_length=256)
    scores = model.score(REVIEWS)
    for r, review in enumerate(REVIEWS):
        rows = slice(scores.offset_R1[r], scores.offset_R1[r + 1])
        for k in (0, 1):
            told = review if num_heads == 2 else replace(review, treatment=k)
            assert scores.log_p_NK[rows, k] == pytest.approx(by_hand(model, told, k if num_heads == 2 else 0), abs=1e-4)


class Recorder(nn.Module):
    """A uniform model that remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[int]] = []

    def forward(self, tokens_BT: Tensor) -> Tensor:
        self.rows += tokens_BT.tolist()
        return torch.zeros(*tokens_BT.shape, 2, BYTES.vocab_size)


def test_every_byte_of_a_long_review_counts_once_with_half_a_window_of_context() -> None:
    recorder = Recorder()
    model = outcome_model(recorder, 2, BYTES, window_length=64)
    scores = model.score(REVIEWS)
    body = [len(BYTES.encode(review.text)) + 2 for review in REVIEWS]
    assert scores.num_tokens_R.tolist() == body
    assert scores.log_p_RK[:, 0] == pytest.approx(-np.array(body) * np.log(BYTES.vocab_size))
    assert len(recorder.rows) > len(REVIEWS)
    spelled = [BYTES.decode(scores.tokens_N[a:b]) for a, b in zip(scores.offset_R1, scores.offset_R1[1:], strict=False)]
    assert spelled == [review.text for review in REVIEWS]


def test_whole_laws_hold_the_scores_of_the_tokens() -> None:
    tokenizer = word_tokenizer(TINY)
    model = outcome_model(tiny_model(tokenizer.vocab_size, "tarnet", 128), 2, tokenizer)
    reviews = sample_reviews(TINY, "test", 20)
    scores, laws_NKV = model.score(reviews), model.laws(reviews)
    assert np.exp(laws_NKV.astype(np.float64)).sum(axis=2) == pytest.approx(np.ones(laws_NKV.shape[:2]), abs=1e-5)
    picked_NK = np.take_along_axis(laws_NKV, scores.tokens_N[:, None, None], axis=2)[..., 0]
    assert picked_NK == pytest.approx(scores.log_p_NK, abs=1e-5)


def test_a_silent_prompt_and_one_head_have_one_outcome() -> None:
    model = outcome_model(tiny_model(BYTES.vocab_size, "vanilla", 256), 1, BYTES, Conditioning.command, 256)
    assert model.num_outcomes == 1
    assert model.score(REVIEWS).log_p_NK.shape[1] == 1


class Merging(OutcomeModel):
    """Its tokens of a positive review are fewer by one, as if the prompt had swallowed the first."""

    def _samples(self, reviews: Sequence[Review]) -> Samples:
        return super()._samples([replace(review, text=review.text[review.treatment :]) for review in reviews])


def test_tokens_that_depend_on_the_prompt_are_refused() -> None:
    model = outcome_model(tiny_model(BYTES.vocab_size, "vanilla", 256), 1, BYTES, Conditioning.natural, 256)
    merging = Merging(**{field.name: getattr(model, field.name) for field in fields(model)})
    with pytest.raises(DataError, match="protocol=fair"):
        merging.score([Review("zz", 0)])


def test_sums_by_review_by_hand() -> None:
    assert sum_by_review(np.array([1.0, 2.0, 4.0]), np.array([0, 2, 2, 3])).tolist() == [3.0, 0.0, 4.0]
