"""Sampled reviews: their law, their independence of the batch, their ends, their windows."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from nano_llm.config.compose import compose_config
from nano_llm.data.samples import Samples
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.data.windows import Windows
from nano_llm.errors import DataError
from nano_llm.generation.sampler import Sampled, sample_reviews
from nano_llm.model.language_model import build_language_model

WORDS = Tokenizer.of_words(["dull", "fine"], 10)
DULL, FINE = 8, 9
PROMPT = "[SENTIMENT] positive [/SENTIMENT] [REVIEW]"  # "positive" is no word here, which does not matter


class Chain(nn.Module):
    """A Markov chain for each outcome: the next token depends on the last one alone."""

    def __init__(self, num_outcomes: int, vocab_size: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.logits_VKV = torch.randn(vocab_size, num_outcomes, vocab_size, generator=generator)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        return self.logits_VKV[tokens_BT]


class Script(nn.Module):
    """Says the tokens of a list in turn after the prompt, whatever was sampled; keeps what it was shown."""

    def __init__(self, tokens: list[int], vocab_size: int) -> None:
        super().__init__()
        self.tokens, self.vocab_size = tokens, vocab_size
        self.seen: list[list[int]] = []

    def forward(self, tokens_BT: Tensor) -> Tensor:
        self.seen.append(tokens_BT[0].tolist())
        logits_BTKV = torch.zeros(*tokens_BT.shape, 1, self.vocab_size)
        logits_BTKV[..., self.tokens[len(self.seen) - 1]] = 1e4
        return logits_BTKV


def sample(
    model: nn.Module, tokenizer: Tokenizer, prompts: list[str], outcome: int = 0, **settings: float
) -> list[Sampled]:
    settings = {"num_tokens": 8, "window_length": 32, "seed": 0, "batch_size": 7, **settings}
    return sample_reviews(model, tokenizer, prompts, outcome, device=torch.device("cpu"), **settings)  # type: ignore[arg-type]


def law_of_reviews(
    model: Chain, outcome: int, temperature: float, num_tokens: int
) -> dict[tuple[tuple[int, ...], bool], float]:
    """Every (review, ended) with its probability."""
    allowed = [DULL, FINE, *WORDS.end_ids]
    logits_VV = model.logits_VKV[:, outcome].double() / temperature
    step = {last: dict(zip(allowed, logits_VV[last, allowed].softmax(0).tolist(), strict=True)) for last in range(10)}
    law: dict[tuple[tuple[int, ...], bool], float] = {}
    for length in range(num_tokens + 1):
        for review in product((DULL, FINE), repeat=length):
            history = [WORDS.encode_prompt(PROMPT)[-1], *review]
            reached = float(np.prod([step[last][token] for last, token in zip(history, review, strict=False)]))
            ended = sum(step[history[-1]][end] for end in WORDS.end_ids)
            law[review, True] = reached * ended
            if length == num_tokens:
                law[review, False] = reached * (1 - ended)
    return law


@pytest.mark.parametrize(("num_outcomes", "outcome", "temperature"), [(1, 0, 1.0), (2, 0, 1.0), (2, 1, 0.6)])
def test_reviews_follow_the_law_of_their_outcome(num_outcomes: int, outcome: int, temperature: float) -> None:
    model = Chain(num_outcomes, 10)
    law = law_of_reviews(model, outcome, temperature, num_tokens=3)
    assert sum(law.values()) == pytest.approx(1)
    num_reviews = 6000
    reviews = sample(
        model, WORDS, [PROMPT] * num_reviews, outcome, num_tokens=3, temperature=temperature, batch_size=2000
    )
    found = Counter((review.tokens, review.ended) for review in reviews)
    assert set(found) <= set(law)
    common = [key for key, share in law.items() if share * num_reviews >= 5]
    observed = [found[key] for key in common]
    expected = [law[key] * num_reviews for key in common]
    observed, expected = [*observed, num_reviews - sum(observed)], [*expected, num_reviews - sum(expected)]
    assert stats.chisquare(observed, expected).pvalue > 0.001


def test_one_outcome_ignores_which_is_asked_for() -> None:
    model = Chain(1, 10)
    assert sample(model, WORDS, [PROMPT] * 20, outcome=1) == sample(model, WORDS, [PROMPT] * 20, outcome=0)


@pytest.mark.parametrize("model_name", ["vanilla", "tarnet"])
def test_a_row_alone_is_the_row_in_a_batch(model_name: str) -> None:
    """Prompts of different lengths, reviews that outgrow the window, an odd batch at the end."""
    tokenizer = Tokenizer.fit_bytes(["a dull film about dull films"] * 3, 270, split_words=True)
    config = compose_config([f"model={model_name}", "scale=tiny"])
    torch.manual_seed(0)
    model = build_language_model(config.model, config.scale, tokenizer.vocab_size, 24).eval()
    prompts = ["[REVIEW]", "a film [REVIEW]", "about films [REVIEW]", "dull [REVIEW]", "[REVIEW]"]
    settings = {"num_tokens": 40, "window_length": 24, "outcome": 1 if model_name == "tarnet" else 0}
    together = sample(model, tokenizer, prompts, batch_size=5, **settings)
    assert sample(model, tokenizer, prompts, batch_size=1, **settings) == together
    assert sample(model, tokenizer, prompts, batch_size=2, **settings) == together
    assert sample(model, tokenizer, prompts[:2], batch_size=2, **settings) == together[:2]
    assert max(len(review.tokens) for review in together) > 24
    assert together[0].tokens != together[4].tokens  # the same prompt, other noise


def test_the_seed_decides() -> None:
    model = Chain(1, 10)
    once = sample(model, WORDS, [PROMPT] * 50, seed=1)
    assert sample(model, WORDS, [PROMPT] * 50, seed=1) == once
    assert sample(model, WORDS, [PROMPT] * 50, seed=2) != once


@pytest.mark.parametrize("temperature", [0.0, 1e-6])
def test_no_temperature_takes_the_likeliest_token(temperature: float) -> None:
    model = Chain(2, 10, seed=4)
    allowed = [DULL, FINE, *WORDS.end_ids]
    last, expected = WORDS.encode_prompt(PROMPT)[-1], []
    while len(expected) < 8 and last not in WORDS.end_ids:
        last = allowed[int(model.logits_VKV[last, 1, allowed].argmax())]
        expected.append(last)
    for review in sample(model, WORDS, [PROMPT] * 3, outcome=1, temperature=temperature):
        assert list(review.tokens) == [token for token in expected if token not in WORDS.end_ids]


@pytest.mark.parametrize("end", WORDS.end_ids)
def test_either_end_marker_ends_a_review(end: int) -> None:
    model = Script([DULL, FINE, end], 10)
    assert sample(model, WORDS, [PROMPT]) == [Sampled((DULL, FINE), "dull fine", ended=True)]


def test_a_review_of_full_length_may_still_end() -> None:
    close = WORDS.end_ids[0]
    ended = sample(Script([DULL, FINE, close], 10), WORDS, [PROMPT], num_tokens=2)
    cut = sample(Script([DULL, FINE, FINE], 10), WORDS, [PROMPT], num_tokens=2)
    assert ended == [Sampled((DULL, FINE), "dull fine", ended=True)]
    assert cut == [Sampled((DULL, FINE), "dull fine", ended=False)]


def test_an_empty_review_is_a_review() -> None:
    assert sample(Script([WORDS.eos_id], 10), WORDS, [PROMPT]) == [Sampled((), "", ended=True)]
    assert sample(Chain(1, 10), WORDS, []) == []


def test_markup_is_never_sampled() -> None:
    """A law that wants markup only: what is left of it is even."""
    model = Chain(1, 10)
    model.logits_VKV.zero_()[..., [token for token in range(8) if token not in WORDS.end_ids]] = 1e4
    reviews = sample(model, WORDS, [PROMPT] * 200, num_tokens=30)
    assert {token for review in reviews for token in review.tokens} == {DULL, FINE}
    assert any(review.ended for review in reviews)


@pytest.mark.parametrize("window_length", [6, 7, 16, 23])
def test_past_the_window_a_review_goes_on_in_the_contexts_that_evaluation_scores_with(window_length: int) -> None:
    tokenizer = Tokenizer.fit_bytes([" a dull film"] * 3, 275, split_words=True)
    prompt = tokenizer.encode_prompt("x [REVIEW]")
    review = tokenizer.encode(" a dull film" * 9 + "z" * 20)
    model = Script([*review, tokenizer.end_ids[0]], tokenizer.vocab_size)
    sampled = sample(model, tokenizer, ["x [REVIEW]"], num_tokens=100, window_length=window_length)
    assert list(sampled[0].tokens) == review

    body = [*review, *tokenizer.end_ids]
    samples = Samples(
        tokens_N=np.array([*prompt, *body]),
        offset_R1=np.array([0, len(prompt) + len(body)]),
        prompt_length_R=np.array([len(prompt)]),
        treatment_R=np.array([0]),
        propensity_R=np.array([0.5], np.float32),
    )
    windows = Windows.covering(samples, window_length, tokenizer.pad_id, num_views=2)
    assert len(windows) > 2
    scored = [
        windows.tokens_WL[row, :target].tolist()
        for row in range(len(windows))
        for target in range(max(windows.first_target_W[row], len(prompt)), windows.length_W[row])
    ]
    assert model.seen == scored[:-1]  # <eos> after [/REVIEW] is scored, not sampled


def test_the_references_markers_are_cut_from_the_text() -> None:
    samples = ["<bos>[REVIEW] a dull film [/REVIEW]<eos>"] * 4
    tokenizer = Tokenizer.fit_reference(samples, 60, split_words=True)
    tokens = tokenizer.encode(" a dull film [/REVIEW]")
    model = Script([*tokens, tokenizer.eos_id], tokenizer.vocab_size)
    (review,) = sample(model, tokenizer, ["[REVIEW]"], num_tokens=40, window_length=60)
    assert (review.text, review.ended) == ("a dull film", True)


def test_a_prompt_that_fills_the_window_is_refused() -> None:
    prompt_length = len(WORDS.encode_prompt(PROMPT))
    assert len(sample(Chain(1, 10), WORDS, [PROMPT], window_length=prompt_length + 2)) == 1
    with pytest.raises(DataError, match=r"\[REVIEW\].*Give the window length"):
        sample(Chain(1, 10), WORDS, [PROMPT], window_length=prompt_length + 1)
