"""The protocol as OpenAI's own client speaks it."""

import asyncio
import math
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import numpy as np
import openai
import pytest
import torch
from openai import AsyncOpenAI, OpenAI

from nano_llm.data.arrays import FloatArray
from nano_llm.generation.author import Author
from nano_llm.serving import completions, engine
from nano_llm.serving.answering import PART_TOKENS
from nano_llm.serving.choice import News
from nano_llm.serving.echo import echo_of
from nano_llm.serving.opening import Opening
from nano_llm.serving.service import Service
from nano_llm.serving.spelling import Spelling
from serving.authors import gated, open_author
from serving.servers import LIMITS, listening, open_byte_author, served

MODEL = "tiny"
USER: Any = [{"role": "user", "content": ""}]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with served(open_byte_author("model=tarnet")) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[OpenAI]:
    with listening(service) as url, OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def one_head() -> Iterator[OpenAI]:
    """A model that is told the outcome by its prompt."""
    author = open_author("model=vanilla")
    with (
        served(author) as service,
        listening(service) as url,
        OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
    ):
        yield client


def extension(part: Any) -> Any:
    return part.model_extra["nano_llm"]


def tokens_of(choice: Any) -> list[dict[str, Any]]:
    """What is told of the tokens of a choice, without the text that was held back until its end."""
    return [token for token in extension(choice)["trace"] if "token_id" in token]


def log_p_TK(author: Author, prompt: list[int], review: list[int]) -> FloatArray:
    """What the heads say of each token of a review, read by the model at once."""
    model = author.writer.contexts.model
    with torch.inference_mode():
        logits_BTKV = model.read_out(model.hidden_states(torch.tensor([[*prompt, *review]])))  # type: ignore[arg-type]
        log_p_TKV = logits_BTKV[0].double().log_softmax(-1).numpy()
    first = len(prompt) - 1
    told: FloatArray = np.array([log_p_TKV[first + t, :, token] for t, token in enumerate(review)])
    return told


def prompt_of(author: Author) -> list[int]:
    return author.tokenizer.encode_prompt(author.template.prompt(1))


# ------------------------------------------------------------------------------------------- streams


CASES: list[dict[str, Any]] = [
    {},
    {"logprobs": 2},
    {"n": 2, "logprobs": 0},
    {"prompt": "the film", "echo": True, "logprobs": 1},
    {"prompt": "a prompt [REVIEW] the", "echo": True, "logprobs": 1},
    {"prompt": ["the film", ""], "extra_body": {"both_reviews": True, "nano_llm": {"trace": True, "top": 1}}},
    {"prompt": "the fucking ", "echo": True, "logprobs": 1, "extra_body": {"nano_llm": {"trace": True}}},
    {"stop": ["e", "th"], "logprobs": 1},
    {"temperature": 0, "max_tokens": 20},
]


@pytest.mark.parametrize("case", CASES)
def test_a_stream_of_completions_tells_what_the_whole_tells(client: OpenAI, case: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": "", "seed": 3, "max_tokens": 30} | case
    whole = client.completions.create(**asked)
    chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))

    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"text_completion"}
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert extension(chunks[-2]) == extension(whole)
    for choice in whole.choices:
        parts = [part for chunk in chunks for part in chunk.choices if part.index == choice.index]
        assert "".join([part.text for part in parts]) == choice.text
        assert [part.finish_reason for part in parts] == [None] * (len(parts) - 1) + [choice.finish_reason]
        assert all("finish_reason" in part.model_fields_set for part in parts)
        assert parts[-1].text == ""
        if choice.logprobs is None:
            assert all(part.logprobs is None for part in parts)
        else:
            for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
                told = [item for part in parts if part.logprobs for item in getattr(part.logprobs, name) or []]
                assert told == getattr(choice.logprobs, name)
        own = extension(choice)
        trace = [token for part in parts for token in (part.model_extra or {}).get("nano_llm", {}).get("trace", [])]
        assert trace == own.get("trace", [])
        assert extension(parts[-1]) == {name: value for name, value in own.items() if name != "trace"}


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"n": 2, "logprobs": True},
        {"logprobs": True, "top_logprobs": 3, "extra_body": {"both_reviews": True}},
        {"messages": [*USER, {"role": "assistant", "content": "the film"}], "logprobs": True},
    ],
)
def test_a_stream_of_a_chat_tells_what_the_whole_tells(client: OpenAI, case: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": USER, "seed": 3, "max_completion_tokens": 30} | case
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))

    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    for choice in whole.choices:
        parts = [part for chunk in chunks for part in chunk.choices if part.index == choice.index]
        assert (parts[0].delta.role, parts[0].delta.content) == ("assistant", "")
        assert parts[-1].delta.model_dump(exclude_unset=True) == {}
        assert "".join([part.delta.content or "" for part in parts]) == choice.message.content
        assert [part.finish_reason for part in parts] == [None] * (len(parts) - 1) + [choice.finish_reason]
        told = [token for part in parts if part.logprobs for token in part.logprobs.content or []]
        assert told == ((choice.logprobs and choice.logprobs.content) or [])


def test_a_stream_without_include_usage_tells_none(client: OpenAI) -> None:
    for options in ({}, {"stream_options": {"include_usage": False}}):
        chunks = list(client.completions.create(model=MODEL, prompt="", max_tokens=2, stream=True, **options))  # type: ignore[call-overload]
        assert all(len(chunk.choices) == 1 and "usage" not in chunk.model_fields_set for chunk in chunks)


def test_streams_of_many_clients_are_each_its_own(service: Service, client: OpenAI) -> None:
    async def texts() -> list[str]:
        async with AsyncOpenAI(base_url=client.base_url, api_key="any", max_retries=0) as asynchronous:

            async def text(seed: int) -> str:
                stream = await asynchronous.chat.completions.create(
                    model=MODEL, messages=USER, seed=seed, max_tokens=12, stream=True
                )
                return "".join([part.delta.content or "" async for chunk in stream for part in chunk.choices])

            return await asyncio.gather(*(text(seed % 5) for seed in range(20)))

    told = asyncio.run(texts())
    alone = [
        client.chat.completions.create(model=MODEL, messages=USER, seed=seed, max_tokens=12).choices[0].message.content
        for seed in range(5)
    ]
    assert told == alone * 4
    assert len(set(alone)) == 5


# ----------------------------------------------------------------------------- seeds, choices, usage


def test_a_seed_that_was_drawn_gives_the_same_text_again(client: OpenAI) -> None:
    drawn = client.completions.create(model=MODEL, prompt="", max_tokens=12, n=2)
    seed = extension(drawn)["seed"]
    assert seed < 2**53
    again = client.completions.create(model=MODEL, prompt="", max_tokens=12, n=2, seed=seed)
    assert [choice.text for choice in again.choices] == [choice.text for choice in drawn.choices]
    assert [extension(choice)["seed"] for choice in again.choices] == [seed, seed]
    other = client.completions.create(model=MODEL, prompt="", max_tokens=12, n=2)
    assert extension(other)["seed"] != seed


def test_a_choice_is_the_same_whatever_else_is_asked_for(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 12, "seed": 5}
    many = client.completions.create(prompt=["the", "a film"], n=3, **asked)
    assert [choice.index for choice in many.choices] == list(range(6))
    assert len({choice.text for choice in many.choices}) == 6
    alone = client.completions.create(prompt="a film", n=1, **asked)
    assert many.choices[3].text == alone.choices[0].text


def test_both_reviews_are_two_choices_a_sample(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": USER, "max_tokens": 12, "seed": 5}
    both = client.chat.completions.create(n=2, extra_body={"both_reviews": True}, **asked)
    assert [extension(choice)["outcome"] for choice in both.choices] == [0, 1, 0, 1]
    as_extension = client.chat.completions.create(n=2, extra_body={"nano_llm": {"outcome": "both"}}, **asked)
    assert [choice.message for choice in as_extension.choices] == [choice.message for choice in both.choices]
    for outcome in (0, 1):
        one = client.chat.completions.create(n=2, extra_body={"nano_llm": {"outcome": outcome}}, **asked)
        assert [choice.message for choice in one.choices] == [choice.message for choice in both.choices[outcome::2]]
    assert len(extension(both)["first_divergence"]) == 2


def test_the_first_divergence_is_the_first_token_that_differs(client: OpenAI) -> None:
    body = {"both_reviews": True, "nano_llm": {"trace": True}}
    told = client.completions.create(model=MODEL, prompt="", max_tokens=40, seed=1, extra_body=body)
    zero, one = ([token["token_id"] for token in tokens_of(choice)] for choice in told.choices)
    (place,) = extension(told)["first_divergence"]
    assert zero[:place] == one[:place]
    assert zero[place : place + 1] != one[place : place + 1]


def test_usage_counts_the_tokens_of_the_model(service: Service, client: OpenAI) -> None:
    tokenizer = service.author.tokenizer
    told = client.completions.create(
        model=MODEL,
        prompt=["the film", "a prompt [REVIEW] of"],
        n=2,
        max_tokens=9,
        extra_body={"nano_llm": {"trace": True}},
    )
    assert told.usage is not None
    own = prompt_of(service.author)
    read = [
        len(own) + len(tokenizer.encode("the film")),
        len(tokenizer.encode_prompt("a prompt [REVIEW]")) + len(tokenizer.encode("of")),
    ]
    written = sum(len(tokens_of(choice)) for choice in told.choices)
    assert told.usage.prompt_tokens == sum(read)
    assert told.usage.completion_tokens == written
    assert told.usage.total_tokens == sum(read) + written
    assert all(choice.finish_reason == "stop" or len(tokens_of(choice)) == 9 for choice in told.choices)


def test_token_ids_are_prompts_as_their_text_is(service: Service, client: OpenAI) -> None:
    tokenizer = service.author.tokenizer
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 12, "seed": 5, "echo": True, "logprobs": 1}
    begin = tokenizer.encode("the film")
    prompt = tokenizer.encode_prompt("a prompt [REVIEW]")[1:]
    for text, ids in (("the film", begin), ("a prompt [REVIEW] the film", [*prompt, *begin])):
        (of_text,) = client.completions.create(prompt=text, **asked).choices
        (of_ids,) = client.completions.create(prompt=ids, **asked).choices
        (of_list,) = client.completions.create(prompt=[ids], **asked).choices
        assert of_ids == of_list == of_text
        assert of_text.text.startswith(text)


# --------------------------------------------------------------------------------- log-probabilities


def test_log_probabilities_are_told_as_many_as_asked_for(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": "", "max_tokens": 12, "seed": 2}
    assert client.completions.create(**asked).choices[0].logprobs is None
    for num in (0, 5):
        logprobs = client.completions.create(logprobs=num, **asked).choices[0].logprobs
        assert logprobs is not None
        assert logprobs.tokens
        assert logprobs.token_logprobs
        assert logprobs.top_logprobs
        for token, own, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True):
            assert top[token] == own
            assert num <= len(top) <= num + 1 or (num == 0 and len(top) == 1)
            assert sorted(top.values(), reverse=True)[0] >= own
    with pytest.raises(openai.BadRequestError, match="at most 20") as refused:
        client.completions.create(logprobs=21, **asked)
    assert refused.value.param == "logprobs"

    chat: dict[str, Any] = {"model": MODEL, "messages": USER, "max_tokens": 4, "seed": 2}
    plain = client.chat.completions.create(logprobs=True, **chat).choices[0]
    assert plain.logprobs is not None
    assert plain.logprobs.content
    assert all(token.top_logprobs == [] for token in plain.logprobs.content)
    assert b"".join([bytes(token.bytes or []) for token in plain.logprobs.content]).decode(errors="replace")
    with pytest.raises(openai.BadRequestError, match="at most 20"):
        client.chat.completions.create(logprobs=True, top_logprobs=21, **chat)
    with pytest.raises(openai.BadRequestError, match="logprobs: true"):
        client.chat.completions.create(top_logprobs=1, **chat)


def test_log_probabilities_are_those_before_steering_and_knobs(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": "the", "max_tokens": 0, "echo": True, "logprobs": 3}
    for outcome in (0, 1):
        plain = {"nano_llm": {"outcome": outcome}}
        steered = {"nano_llm": {"outcome": outcome, "steer": {"mode": "posterior", "strength": 9}}}
        one = client.completions.create(extra_body=plain, **asked)
        other = client.completions.create(temperature=0.3, top_p=0.5, extra_body=steered, **asked)
        assert one.choices[0].logprobs == other.choices[0].logprobs


def test_a_text_is_scored_as_the_model_scores_it(service: Service, client: OpenAI) -> None:
    author = service.author
    text = "the film is best. ünïque"
    tokens = author.tokenizer.encode(text)
    heads_TK = log_p_TK(author, prompt_of(author), tokens)
    asked: dict[str, Any] = {"model": MODEL, "prompt": text, "max_tokens": 0, "echo": True, "logprobs": 1}
    for outcome in (0, 1):
        (choice,) = client.completions.create(extra_body={"nano_llm": {"outcome": outcome}}, **asked).choices
        assert choice.text == text
        assert choice.logprobs is not None
        assert choice.logprobs.token_logprobs == pytest.approx(heads_TK[:, outcome].tolist(), abs=1e-4)
        assert choice.finish_reason == "length"
    (mixture,) = client.completions.create(**asked).choices
    assert mixture.logprobs is not None
    whole = sum(nats for nats in mixture.logprobs.token_logprobs or [] if nats is not None)
    assert whole == pytest.approx(np.logaddexp(*heads_TK.sum(0)) - math.log(2), abs=1e-3)


def test_a_harness_finds_the_tokens_it_sent_and_one_more(service: Service, client: OpenAI) -> None:
    """lm-evaluation-harness reads ``logprobs[len(context):-1]`` of an echo with one new token."""
    tokenizer = service.author.tokenizer
    begin = tokenizer.encode("the film is the best film.")
    prompt = tokenizer.encode_prompt("a prompt [REVIEW]")
    for sent in (begin, [tokenizer.bos_id, *begin], [*prompt[1:], *begin], [*prompt, *begin]):
        for seed in range(8):
            (choice,) = client.completions.create(
                model=MODEL, prompt=sent, echo=True, max_tokens=1, logprobs=1, temperature=min(seed, 1), seed=seed
            ).choices
            assert choice.logprobs is not None
            assert choice.logprobs.token_logprobs is not None
            assert len(choice.logprobs.tokens or []) == len(choice.logprobs.token_logprobs) == len(sent) + 1
            scores = choice.logprobs.token_logprobs[-1 - len(begin) : -1]
            assert all(isinstance(score, float) for score in scores)


def test_a_bos_that_was_sent_is_told_in_a_stream_too(service: Service, client: OpenAI) -> None:
    tokenizer = service.author.tokenizer
    sent = [tokenizer.bos_id, *tokenizer.encode("the")]
    asked: dict[str, Any] = {"model": MODEL, "prompt": sent, "echo": True, "logprobs": 0, "seed": 1, "max_tokens": 2}
    chunks = client.completions.create(**asked, stream=True)
    told = [token for chunk in chunks for part in chunk.choices if part.logprobs for token in part.logprobs.tokens]
    (whole,) = client.completions.create(**asked).choices
    assert told == whole.logprobs.tokens
    assert told[0] == "<bos>"


def test_texts_of_one_prompt_share_its_echo(client: OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Opening] = []

    def count(opening: Opening, spelling: Spelling) -> News:
        told.append(opening)
        return echo_of(opening, spelling)

    monkeypatch.setattr(completions, "echo_of", count)
    prompt = ["be kind [REVIEW]", "be dull [REVIEW]"]
    choices = client.completions.create(model=MODEL, prompt=prompt, n=3, echo=True, max_tokens=1).choices
    assert [choice.text[:16] for choice in choices] == [one for one in prompt for _ in range(3)]
    assert len(told) == 2


def test_a_long_beginning_is_told_in_parts(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": "a film? " * 60, "echo": True, "logprobs": 1, "max_tokens": 0}
    chunks = [part for chunk in client.completions.create(**asked, stream=True) for part in chunk.choices]
    assert len(chunks) > 2
    assert max(len(part.logprobs.tokens) for part in chunks if part.logprobs) == PART_TOKENS
    (whole,) = client.completions.create(**asked).choices
    assert "".join([part.text for part in chunks]) == whole.text == asked["prompt"]


def test_offsets_say_where_tokens_stand(client: OpenAI) -> None:
    (choice,) = client.completions.create(
        model=MODEL, prompt="a prompt [REVIEW] the film", echo=True, max_tokens=20, logprobs=0, seed=4
    ).choices
    assert choice.logprobs is not None
    tokens, offsets = choice.logprobs.tokens or [], choice.logprobs.text_offset or []
    assert offsets == sorted(offsets)
    assert choice.logprobs.token_logprobs
    assert choice.logprobs.token_logprobs[0] is None
    for token, offset in zip(tokens, offsets, strict=True):
        if not token.startswith("bytes:") and "\ufffd" not in choice.text[offset:]:
            assert choice.text[offset : offset + len(token)] == token


def test_words_that_are_redacted_tell_no_numbers(client: OpenAI) -> None:
    (choice,) = client.completions.create(
        model=MODEL,
        prompt="the fucking film",
        echo=True,
        max_tokens=0,
        logprobs=2,
        extra_body={"nano_llm": {"trace": True}},
    ).choices
    assert choice.text == "the [redacted] film"
    assert choice.logprobs is not None
    nothing = [own is None for own in choice.logprobs.token_logprobs or []]
    assert nothing == [top is None for top in choice.logprobs.top_logprobs or []]
    assert any(nothing)
    assert not all(nothing)
    assert "fuck" not in "".join(choice.logprobs.tokens or [])
    redacted = [token for token in extension(choice)["trace"] if token.get("redacted")]
    assert len(redacted) == sum(nothing)
    assert all(token.keys() == {"text", "redacted"} for token in redacted)
    assert extension(choice)["num_redacted"] == 1


# ------------------------------------------------------------------------------------- ends of texts


def test_stop_strings_end_a_text_and_are_no_part_of_it(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": "the film", "seed": 3, "max_tokens": 40}
    whole = client.completions.create(**asked).choices[0].text
    stop = whole[6:8]
    (choice,) = client.completions.create(stop=stop, **asked).choices
    assert choice.text == whole[: whole.index(stop)]
    assert choice.finish_reason == "stop"
    (unstopped,) = client.completions.create(stop=["film"], **asked).choices
    assert unstopped.text.startswith(whole[:5])
    for stops in (["a", "b", "c", "d", "e"], [""], ["x" * 1000]):
        with pytest.raises(openai.BadRequestError):
            client.completions.create(stop=stops, **asked)


def test_a_text_has_the_servers_number_of_tokens_unless_told(client: OpenAI) -> None:
    told = client.completions.create(model=MODEL, prompt="", seed=0, temperature=0, max_tokens=None)
    assert told.usage is not None
    assert told.usage.completion_tokens <= LIMITS.default_tokens


# ---------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("fields", "code", "param", "message"),
    [
        ({"max_tokens": 65}, "context_length_exceeded", "max_tokens", "at most 64"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens", "echo"),
        ({"n": 17}, "invalid_value", "n", "at most 16"),
        ({"prompt": "x" * 601}, "context_length_exceeded", "prompt", "at most 600"),
        ({"prompt": "x" * 500 + "[REVIEW]"}, "context_length_exceeded", "prompt", "94"),
        ({"prompt": [9999]}, "invalid_value", "prompt", "no token 9999"),
        ({"prompt": [2]}, "invalid_value", "prompt", "markup"),
        ({"stop": ""}, "invalid_value", "stop", "empty"),
        ({"stop": ["a", "x" * 300]}, "invalid_value", "stop", "at most 256"),
        ({"extra_body": {"top_k": 10**400}}, "invalid_value", "top_k", "whole number"),
        (
            {"extra_body": {"nano_llm": {"steer": {"mode": "plain", "strength": 2}}}},
            "invalid_value",
            "nano_llm.steer",
            "no strength",
        ),
        (
            {"extra_body": {"nano_llm": {"steer": {"mode": "plain", "plausibility": 0.1}}}},
            "invalid_value",
            "nano_llm.steer",
            "mixture",
        ),
        ({"prompt": []}, "invalid_value", "prompt", "empty list"),
        ({"prompt": [True]}, "invalid_value", "prompt", "token ids"),
        ({"temperature": "hot"}, "invalid_value", "temperature", "a number"),
        ({"temperature": -1}, "invalid_value", "temperature", "at least 0"),
        ({"seed": -1}, "invalid_value", "seed", "at least 0"),
        ({"logit_bias": {"1": 5}}, "unsupported", "logit_bias", "not supported"),
        ({"frequency_penalty": 0.5}, "unsupported", "frequency_penalty", "not supported"),
        ({"presence_penalty": False}, "unsupported", "presence_penalty", "not supported"),
        ({"best_of": 3}, "unsupported", "best_of", "not supported"),
        ({"suffix": "end"}, "unsupported", "suffix", "not supported"),
        ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options", "stream: true"),
        ({"extra_body": {"surprise": 1}}, "invalid_value", "surprise", "no field surprise"),
        ({"extra_body": {"stream": 0}}, "invalid_value", "stream", "true or false"),
        ({"extra_body": {"nano_llm": {"outcome": 2}}}, "invalid_value", "nano_llm.outcome", "nano_llm.outcome: give 0"),
        ({"extra_body": {"nano_llm": {"outcome": True}}}, "invalid_value", "nano_llm.outcome", "mixture"),
        ({"extra_body": {"nano_llm": {"pair": "coupled"}}}, "invalid_value", "nano_llm.pair", "both"),
        ({"extra_body": {"nano_llm": {"steer": {"mode": "cfg"}}}}, "invalid_value", "nano_llm.steer", "mixture"),
        ({"extra_body": {"nano_llm": {"top": 2}}}, "invalid_value", "nano_llm.top", "trace"),
        ({"extra_body": {"nano_llm": {"top": 11, "trace": True}}}, "invalid_value", "nano_llm.top", "at most 10"),
        (
            {"extra_body": {"both_reviews": True, "nano_llm": {"outcome": 1}}},
            "invalid_value",
            "nano_llm.outcome",
            "leave one",
        ),
        ({"extra_body": {"nano_llm": {"topic": "drama"}}}, "invalid_value", "nano_llm.topic", "no topic"),
    ],
)
def test_what_cannot_be_had_is_refused(
    client: OpenAI, fields: dict[str, Any], code: str, param: str | None, message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as refused:
        client.completions.create(**({"model": MODEL, "prompt": ""} | fields))
    assert (refused.value.code, refused.value.param) == (code, param)
    assert refused.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "system", "content": "Be brief."}, *USER], "system, user"),
        ([*USER, {"role": "assistant", "content": "a"}, *USER], "one instruction"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "image_url"),
        ([{"role": "assistant", "content": "a", "tool_calls": [{}]}], "tool_calls"),
    ],
)
def test_turns_that_no_prompt_can_express_are_refused(client: OpenAI, messages: Any, message: str) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as refused:
        client.chat.completions.create(model=MODEL, messages=messages)
    assert refused.value.code == "unsupported"


def test_fields_that_ask_for_nothing_are_taken(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "seed": 1, "max_tokens": 4}
    plain = client.chat.completions.create(messages=USER, **asked)
    same = client.chat.completions.create(
        messages=[{"role": "user", "content": [{"type": "text", "text": ""}], "name": "me"}],
        frequency_penalty=0,
        presence_penalty=0.0,
        logit_bias={},
        logprobs=False,
        top_logprobs=0,
        tools=[],
        tool_choice="none",
        response_format={"type": "text"},
        stop=None,
        n=None,
        top_p=None,
        user="me",
        store=False,
        **asked,
    )
    assert same.choices[0].message == plain.choices[0].message


def test_another_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt-4") as refused:
        client.completions.create(model="gpt-4", prompt="")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_an_instruction_takes_the_place_of_the_training_prompt(service: Service, client: OpenAI) -> None:
    (choice,) = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Be kind."}], max_tokens=2
    ).choices
    assert extension(choice)["prompt"] == "Be kind. [REVIEW]"
    (own,) = client.chat.completions.create(model=MODEL, messages=USER, max_tokens=2).choices
    assert extension(own)["prompt"] == service.author.template.prompt(1)


def test_a_key_is_needed_where_the_server_has_one(service: Service) -> None:
    with listening(service, keys=["secret"]) as url:
        with OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as refused:
                client.models.list()
            assert refused.value.code == "invalid_api_key"
        with OpenAI(base_url=f"{url}/v1", api_key="secret", max_retries=0) as client:
            assert client.models.list().data


# ------------------------------------------------------------------------- full queues and deadlines


def test_a_full_queue_is_told_before_a_stream_and_tried_again_by_the_client() -> None:
    author = open_author("model=tarnet")
    with served(author, num_waiting=0) as service, listening(service) as url, gated(author) as gate:
        asked: dict[str, Any] = {"model": MODEL, "prompt": "", "max_tokens": 2, "stream": True}
        with OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
            running = client.completions.create(n=4, **asked)
            with pytest.raises(openai.InternalServerError) as refused:
                client.completions.create(**asked)
            assert refused.value.status_code == 503
            assert refused.value.code == "overloaded"
            assert int(refused.value.response.headers["retry-after"]) > 0
            assert refused.value.response.headers["content-type"] == "application/json"

            statuses = []

            def note(response: Any) -> None:
                statuses.append(response.status_code)
                gate.open()
                if len(statuses) == 1:
                    assert sum(bool(part.finish_reason) for chunk in running for part in chunk.choices) == 4

            patient = openai.DefaultHttpxClient(event_hooks={"response": [note]})
            with OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=3, http_client=patient) as waiting:
                assert list(waiting.completions.create(**asked))
            assert statuses == [503, 200]


def test_a_text_that_takes_too_long_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Mock(monotonic=Mock(return_value=0.0))
    monkeypatch.setattr(engine, "time", clock)
    author = open_author("model=tarnet")
    with (
        served(author) as service,
        listening(service) as url,
        gated(author) as gate,
        OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
    ):
        # Before the first token the stream has begun: its role is told.
        stream = client.chat.completions.create(model=MODEL, messages=USER, stream=True, seed=1)
        assert next(stream).choices[0].delta.role == "assistant"
        clock.monotonic.return_value = service.limits.seconds
        gate.open()
        with pytest.raises(openai.APIError, match="longer than the server allows") as cut:
            list(stream)
        assert cut.value.code == "deadline_exceeded"


# -------------------------------------------------------------------------------- models of one head


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"both_reviews": True}, "both_reviews"),
        ({"nano_llm": {"outcome": "both"}}, "nano_llm.outcome"),
        ({"nano_llm": {"outcome": "mixture"}}, "nano_llm.outcome"),
        ({"nano_llm": {"steer": {"mode": "contrast"}}}, "nano_llm.steer"),
        ({"nano_llm": {"pair": "coupled"}}, "nano_llm.pair"),
    ],
)
def test_one_head_refuses_what_takes_two(one_head: OpenAI, extra: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError, match="one") as refused:
        one_head.chat.completions.create(model=MODEL, messages=USER, extra_body=extra)
    assert (refused.value.code, refused.value.param) == ("unsupported", param)


def test_one_head_writes_by_its_prompt(one_head: OpenAI) -> None:
    prompts = {}
    for outcome in (None, 0, 1):
        extra: dict[str, Any] = {"nano_llm": {"outcome": outcome, "trace": True}}
        (choice,) = one_head.completions.create(model=MODEL, prompt="", max_tokens=3, extra_body=extra).choices
        prompts[outcome] = extension(choice)["prompt"]
        assert all(len(token["p"]) == 1 and "js" not in token for token in extension(choice)["trace"])
    assert "positive" in prompts[1]
    assert prompts[None] == prompts[1]
    assert "negative" in prompts[0]
    with pytest.raises(openai.BadRequestError, match="the prompt is yours"):
        one_head.completions.create(
            model=MODEL, prompt="positive [REVIEW]", max_tokens=3, extra_body={"nano_llm": {"outcome": 0}}
        )
    (choice,) = one_head.completions.create(model=MODEL, prompt="positive [REVIEW]", max_tokens=3).choices
    assert extension(choice)["outcome"] is None
