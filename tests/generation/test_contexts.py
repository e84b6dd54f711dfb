"""Cached texts: each next-token law equals that of the whole window read anew."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.building import VOCAB_SIZE, build, composed, scatter_parameters, small_scale
from nano_llm.config.schema import Position
from nano_llm.data.arrays import FloatArray
from nano_llm.errors import RequestError
from nano_llm.generation.contexts import Context, Contexts
from nano_llm.model.language_model import LanguageModel

WINDOW = 24
ARCHITECTURES = {
    "vanilla": ("model=vanilla",),
    "vanilla, mlp": ("model=vanilla", "model/readout=mlp"),
    "interblock": ("model=interblock",),
    "interblock, paper": ("model=interblock", "model/trunk=interblock_paper"),
    "tarnet": ("model=tarnet",),
    "tarnet, symmetric": ("model=tarnet_symmetric",),
    "s_plus": ("model=s_plus",),
    "t_learner": ("model=t_learner",),
}


@pytest.fixture(params=ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
def overrides(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=list(Position))
def model(overrides: tuple[str, ...], request: pytest.FixtureRequest) -> LanguageModel:
    return built(*overrides, position=request.param)


def built(*overrides: str, position: Position = Position.rope) -> LanguageModel:
    config = replace(composed(*overrides).model, position=position)
    model = build(config, small_scale(3)).eval()
    scatter_parameters(model)
    return model


def read_anew(model: LanguageModel, context: Context) -> FloatArray:
    with torch.inference_mode():
        logits_KV = model(torch.tensor([context.tokens]))[0, -1]
    law: FloatArray = logits_KV.double().log_softmax(-1).numpy()
    return law


def check(model: LanguageModel, contexts: list[Context]) -> None:
    for context in contexts:
        np.testing.assert_allclose(context.log_p_KV, read_anew(model, context), rtol=0, atol=1e-4)


def tokens_of(chance: random.Random, num: int) -> list[int]:
    return [chance.randrange(VOCAB_SIZE) for _ in range(num)]


def test_rows_that_open_grow_fork_and_close_at_any_time_read_as_if_whole(model: LanguageModel) -> None:
    chance = random.Random(0)
    contexts = Contexts(model, num_rows=6, window_length=WINDOW)
    open_, _ = contexts.open([(tokens_of(chance, 5), []), (tokens_of(chance, 2), tokens_of(chance, 40))])
    check(model, open_)
    num_shifts = 0
    for _ in range(60):
        event = chance.random()
        if event < 0.15 and contexts.num_free:
            opened, _ = contexts.open(
                [(tokens_of(chance, chance.randrange(1, 9)), tokens_of(chance, chance.randrange(30)))]
            )
            open_ += opened
        elif event < 0.3 and contexts.num_free and open_:
            open_.append(contexts.fork(chance.choice(open_)))
        elif event < 0.4 and len(open_) > 1:
            contexts.close(open_.pop(chance.randrange(len(open_))))
        reading = [context for context in open_ if chance.random() < 0.8]
        starts = [context.start for context in reading]
        contexts.extend(reading, tokens_of(chance, len(reading)))
        num_shifts += [context.start for context in reading] != starts
        check(model, open_)
    assert num_shifts > 3


def test_greedy_text_is_the_same_with_and_without_a_cache(model: LanguageModel) -> None:
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    contexts = Contexts(model, num_rows=3, window_length=WINDOW)
    open_, _ = contexts.open([(prompt, []) for prompt in prompts])
    for _ in range(2 * WINDOW):
        contexts.extend(open_, [int(context.log_p_KV[-1].argmax()) for context in open_])
    for prompt, context in zip(prompts, open_, strict=True):
        review: list[int] = []
        start, room = 0, WINDOW - len(prompt)
        for _ in range(2 * WINDOW):
            with torch.inference_mode():
                logits_KV = model(torch.tensor([prompt + review[start:]]))[0, -1]
            review.append(int(logits_KV[-1].argmax()))
            if len(review) - start == room:
                start += room // 2
        assert context.review == review


def test_a_text_goes_on_with_its_prompt_and_the_newest_half() -> None:
    contexts = Contexts(built("model=vanilla"), num_rows=1, window_length=10)
    [context], _ = contexts.open([([1, 2], [])])
    for token in range(3, 11):
        contexts.extend([context], [token])
    assert context.tokens == [1, 2, 7, 8, 9, 10]
    for token in range(11, 14):
        contexts.extend([context], [token])
    assert context.tokens == [1, 2, 7, 8, 9, 10, 11, 12, 13]


def test_texts_are_opened_with_the_laws_of_their_tokens(model: LanguageModel) -> None:
    chance = random.Random(0)
    contexts = Contexts(model, num_rows=6, window_length=WINDOW)
    texts = [(tokens_of(chance, 3 + num % 2), tokens_of(chance, num)) for num in (0, 1, 5, WINDOW - 5, 3 * WINDOW)]
    opened, laws = contexts.open(texts)
    assert laws[0].shape == (0, model.num_outcomes, VOCAB_SIZE)
    for (prompt, review), context, laws_TKV in zip(texts[1:], opened[1:], laws[1:], strict=True):
        assert context.review == review
        np.testing.assert_allclose(laws_TKV, contexts.laws(prompt, review), rtol=0, atol=1e-4)


def test_a_text_that_is_opened_late_has_the_window_of_one_that_grew() -> None:
    model = built("model=vanilla")
    contexts = Contexts(model, num_rows=2, window_length=11)
    [grown], _ = contexts.open([([1, 2], [])])
    for token in tokens_of(random.Random(0), 30):
        [late], _ = contexts.open([([1, 2], grown.review)])
        assert late.tokens == grown.tokens
        contexts.close(late)
        contexts.extend([grown], [token])


@pytest.mark.parametrize("num_prompt", [1, 6, WINDOW - 2])
@pytest.mark.parametrize("num_tokens", [1, 17, WINDOW - 6, 70])
def test_laws_of_given_tokens_are_those_of_writing_them(num_prompt: int, num_tokens: int) -> None:
    chance = random.Random(num_tokens)
    contexts = Contexts(built("model=tarnet"), num_rows=1, window_length=WINDOW)
    prompt, review = tokens_of(chance, num_prompt), tokens_of(chance, num_tokens)
    [context], _ = contexts.open([(prompt, [])])
    written = []
    for token in review:
        written.append(context.log_p_KV)
        contexts.extend([context], [token])
    np.testing.assert_allclose(contexts.laws(prompt, review), written, rtol=0, atol=1e-4)


def test_a_twin_goes_its_own_way() -> None:
    model = built("model=tarnet")
    contexts = Contexts(model, num_rows=2, window_length=WINDOW)
    [context], _ = contexts.open([([1, 2], [3, 4])])
    twin = contexts.fork(context)
    assert np.array_equal(twin.log_p_KV, context.log_p_KV)
    contexts.extend([context, twin], [5, 6])
    assert (context.review, twin.review) == ([3, 4, 5], [3, 4, 6])
    check(model, [context, twin])


@pytest.mark.parametrize("num_tokens", [9, 10, 30])
def test_a_prompt_that_fills_the_window_is_refused(num_tokens: int) -> None:
    contexts = Contexts(built("model=vanilla"), num_rows=1, window_length=10)
    with pytest.raises(RequestError, match=f"has {num_tokens} tokens.*at most 8"):
        contexts.open([([1] * num_tokens, [])])


def test_the_longest_prompt_still_writes() -> None:
    model = built("model=vanilla")
    contexts = Contexts(model, num_rows=1, window_length=10)
    [context], _ = contexts.open([([1] * 8, [])])
    for token in range(5):
        contexts.extend([context], [token])
        check(model, [context])


def test_the_texts_that_are_kept_stay_what_they_are() -> None:
    model = built("model=tarnet")
    contexts = Contexts(model, num_rows=5, window_length=WINDOW)
    open_, _ = contexts.open([([1, 2], [3] * num) for num in range(5)])
    kept = [open_[1], open_[4]]
    contexts.close_all_but(kept)
    assert contexts.num_free == 3
    contexts.extend(kept, [7, 8])
    check(model, kept)
    contexts.close_all_but([])
    assert contexts.num_free == 5
