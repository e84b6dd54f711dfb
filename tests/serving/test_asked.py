from dataclasses import replace
from typing import Any

import pytest

from nano_llm.generation.author import Author
from nano_llm.generation.steering import SteeringMode
from nano_llm.serving.asked import (
    chat_asked,
    completion_asked,
    generate_asked,
    pair_asked,
    review_asked,
)
from nano_llm.serving.limits import Limits
from nano_llm.serving.problem import Problem
from nano_llm.serving.requests import (
    ChatRequest,
    CompletionRequest,
    CounterfactualBody,
    Extension,
    GenerateRequest,
    Message,
    Steer,
)
from serving.servers import open_byte_author

LIMITS = Limits()


@pytest.fixture(scope="module")
def author() -> Author:
    return open_byte_author("model=tarnet")


def test_texts_are_ordered_by_prompt_sample_and_outcome(author: Author) -> None:
    body = CompletionRequest(prompt=["a", "b"], n=2, both_reviews=True, seed=3, max_tokens=7)
    asked = completion_asked(body, author, LIMITS)
    begun = [author.tokenizer.decode(commission.order.begin) for commission in asked.commissions]
    assert begun == ["a"] * 4 + ["b"] * 4
    assert [commission.index for commission in asked.commissions] == [0, 0, 1, 1] * 2
    assert [commission.outcome for commission in asked.commissions] == [0, 1] * 4
    assert [asked.opening_of(place).begin for place in range(8)] == begun
    assert (asked.num_outcomes, asked.seed) == (2, 3)
    assert {commission.order.num_tokens - len(commission.order.begin) for commission in asked.commissions} == {7}


def test_a_review_begins_with_so_many_tokens_at_most(author: Author) -> None:
    limits = replace(LIMITS, max_begin_tokens=20)
    (commission,) = completion_asked(CompletionRequest(prompt="x" * 20), author, limits).commissions
    assert len(commission.order.begin) == 20
    with pytest.raises(Problem, match="begins with 21 tokens; at most 20 are read") as refused:
        completion_asked(CompletionRequest(prompt="x" * 21), author, limits)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "prompt")
    with pytest.raises(Problem, match="begins with 21 tokens; at most 20 are read") as refused:
        pair_asked(CounterfactualBody(begin="x" * 21), author, limits)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "begin")


def test_prompts_count_once_however_many_texts_they_have(author: Author) -> None:
    one, many = (
        completion_asked(CompletionRequest(prompt=["a", "bb"], n=n, seed=3), author, LIMITS).num_prompt_tokens
        for n in (1, 3)
    )
    assert one == many


def test_a_reader_who_knows_no_sentiment_is_the_default_of_two_heads(author: Author) -> None:
    (commission,) = completion_asked(CompletionRequest(), author, LIMITS).commissions
    assert commission.outcome is None
    assert commission.order.steering.mode is SteeringMode.mixture
    assert commission.order.num_tokens == LIMITS.default_tokens


def test_what_is_asked_reaches_the_order(author: Author) -> None:
    steer = Steer(mode="posterior", strength=2)
    body = ChatRequest(
        messages=[Message(role="user", content="be kind"), Message(role="assistant", content="the")],
        max_completion_tokens=5,
        stop=["x", "y"],
        temperature=0.5,
        top_k=3,
        logprobs=True,
        top_logprobs=4,
        nano_llm=Extension(outcome=1, steer=steer, trace=True, top=2),
    )
    (commission,) = chat_asked(body, author, LIMITS).commissions
    order = commission.order
    assert commission.prompt == "be kind [REVIEW]"
    assert author.tokenizer.decode(order.begin) == "the"
    assert (order.stop, order.num_top, order.outcome) == (("x", "y"), 4, 1)
    assert (order.sampling.temperature, order.sampling.top_k) == (0.5, 3)
    assert (order.steering.mode, order.steering.strength) == (SteeringMode.posterior, 2)


def test_only_known_steering_is_left_out(author: Author) -> None:
    order = pair_asked(CounterfactualBody(pair="independent", top=0), author, LIMITS).commissions[1].order
    assert order.steering.mode is SteeringMode.plain
    assert order.num_top == 0
    assert pair_asked(CounterfactualBody(), author, LIMITS).commissions[0].order.num_top == 5


def test_a_review_is_given_twice_its_tokens_within_the_limit(author: Author) -> None:
    body = CounterfactualBody(text="the film " * 20, label="neg")
    num_tokens = len(author.tokenizer.encode("the film " * 20))
    limits = replace(LIMITS, max_tokens=10)
    asked = review_asked(body, author, LIMITS)
    assert asked.num_tokens is not None
    assert num_tokens < asked.num_tokens <= 2 * num_tokens + 32
    assert review_asked(body, author, limits).num_tokens == 10
    kept = body.model_copy(update={"keep_prefix": 3, "max_tokens": 4})
    assert review_asked(kept, author, LIMITS).num_tokens == 7


def test_a_text_of_the_reference_ends_at_a_line_feed(author: Author) -> None:
    for given, is_stopped in ((None, True), (False, True), (True, False)):
        (commission,) = generate_asked(GenerateRequest(no_stop_newline=given), author, LIMITS).commissions
        assert commission.order.stop_newline is is_stopped


def test_how_much_is_told_is_bounded(author: Author) -> None:
    limits = replace(LIMITS, max_told=600)
    traced = Extension(trace=True, top=1)
    for body, num_told in (
        (CompletionRequest(prompt="a" * 10, max_tokens=10, logprobs=2, n=20), 600),
        (CompletionRequest(prompt="?" * 10, max_tokens=10, logprobs=2, n=10, echo=True), 600),
        (CompletionRequest(max_tokens=10, nano_llm=traced, n=20), 600),
        (ChatRequest(messages=[Message(role="user")], max_tokens=100, logprobs=True, top_logprobs=2, n=2), 600),
        (CounterfactualBody(begin="?" * 10, max_tokens=90, top=1), 600),
    ):
        asked: Any = {
            CompletionRequest: completion_asked,
            ChatRequest: chat_asked,
            CounterfactualBody: pair_asked,
        }[type(body)]
        asked(body, author, limits)
        with pytest.raises(Problem, match=f"at most {num_told - 1} are told") as refused:
            asked(body, author, replace(limits, max_told=num_told - 1))
        assert (refused.value.status, refused.value.param) == (400, "max_tokens")
    completion_asked(CompletionRequest(max_tokens=1000, n=64), author, limits)


def test_topics_are_those_of_the_corpus() -> None:
    author = open_byte_author("model=tarnet", "data.topic=observed")
    topic = author.topics[1]
    (commission,) = completion_asked(CompletionRequest(nano_llm=Extension(topic=topic)), author, LIMITS).commissions
    assert commission.topic == topic
    with pytest.raises(Problem, match="names its topic itself") as refused:
        completion_asked(CompletionRequest(prompt="a [REVIEW]", nano_llm=Extension(topic=topic)), author, LIMITS)
    assert refused.value.param == "nano_llm.topic"
    with pytest.raises(Problem, match="what the review is about") as refused:
        review_asked(CounterfactualBody(text="a film", label="neg"), author, LIMITS)
    assert refused.value.param == "topic"


def test_one_law_has_no_outcome_to_choose() -> None:
    author = open_byte_author("model=vanilla", "data.conditioning=command")
    (commission,) = completion_asked(CompletionRequest(), author, LIMITS).commissions
    assert commission.outcome is None
    for outcome in (0, 1, "both", "mixture"):
        body = CompletionRequest.model_validate({"nano_llm": {"outcome": outcome}})
        with pytest.raises(
            Problem, match=r'nano_llm\.outcome: this model has one head, (which|and "\w+" needs)'
        ) as refused:
            completion_asked(body, author, LIMITS)
        assert refused.value.code == "unsupported"
    with pytest.raises(Problem, match="one outcome"):
        review_asked(CounterfactualBody(text="the film", label="neg"), author, LIMITS)
    assert generate_asked(GenerateRequest(), author, LIMITS).num_outcomes == 1
    with pytest.raises(Problem, match="both_reviews: this model has one head"):
        generate_asked(GenerateRequest(both_reviews=True), author, LIMITS)


def test_the_space_behind_a_prompt_is_not_taken_for_text_of_the_review(author: Author) -> None:
    texts = ["a [REVIEW]", "a [REVIEW] "]
    one, other = (completion_asked(CompletionRequest(prompt=text), author, LIMITS) for text in texts)
    assert one.commissions[0].order.prompt == other.commissions[0].order.prompt
    assert one.commissions[0].order.begin == other.commissions[0].order.begin == ()
