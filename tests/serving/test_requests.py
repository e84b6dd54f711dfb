from typing import Any

import pytest
from pydantic import ValidationError

from nano_llm.serving.problem import Problem
from nano_llm.serving.requests import (
    MAX_ITEMS,
    MAX_MESSAGES,
    Body,
    ChatRequest,
    CompletionRequest,
    CounterfactualBody,
    DetokenizeRequest,
    GenerateRequest,
    Message,
)

BODIES = [CompletionRequest, CounterfactualBody, GenerateRequest]


@pytest.mark.parametrize("body", BODIES)
def test_null_is_as_good_as_absent(body: Any) -> None:
    nothing = body.model_validate(dict.fromkeys(body.model_fields, None))
    assert nothing.model_dump() == body().model_dump()
    nothing.refuse_unsupported()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stream": 0}, "valid boolean"),
        ({"n": 1.5}, "valid integer"),
        ({"n": float("inf")}, "valid integer|finite"),
        ({"n": True}, "valid integer"),
        ({"temperature": "1"}, "valid number"),
        ({"temperature": float("nan")}, "finite"),
        ({"prompt": [1, "a"]}, "prompt\n  give a text, a list"),
        ({"prompt": [[True]]}, "prompt\n  give a text, a list"),
        ({"prompt": ["a\ud800"]}, "half of a character"),
        ({"stop": {"a": 1}}, "stop\n  give a text or a list"),
        ({"nano_llm": {"outcome": True}}, "outcome\n  give 0, 1"),
        ({"nano_llm": {"outcome": "1"}}, "outcome\n  give 0, 1"),
        ({"nano_llm": {"steer": {"mode": "plain", "power": 1}}}, "not permitted"),
        ({"tools": []}, "not permitted"),
    ],
)
def test_values_that_are_merely_alike_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as refused:
        CompletionRequest.model_validate(fields)
    assert refused.value.error_count() == 1


def test_whole_numbers_are_numbers() -> None:
    assert CompletionRequest.model_validate({"temperature": 1}).temperature == 1
    assert CompletionRequest.model_validate({"n": 2.0, "prompt": [[3.0]]}).model_dump(include={"n", "prompt"}) == {
        "n": 2,
        "prompt": [[3]],
    }


@pytest.mark.parametrize(
    ("fields", "is_taken"),
    [
        ({"logit_bias": {}}, True),
        ({"logit_bias": {"1": 0}}, False),
        ({"frequency_penalty": 0.0}, True),
        ({"frequency_penalty": False}, False),
        ({"store": False}, True),
        ({"store": 0}, False),
        ({"response_format": {"type": "text"}}, True),
        ({"response_format": {"type": "json_object"}}, False),
        ({"tools": [{"type": "function"}]}, False),
        ({"modalities": ["text"]}, True),
        ({"modalities": ["text", "audio"]}, False),
    ],
)
def test_what_we_lack_is_taken_if_it_asks_for_nothing(fields: dict[str, Any], is_taken: bool) -> None:
    body = ChatRequest.model_validate({"messages": [{"role": "user"}]} | fields)
    if is_taken:
        body.refuse_unsupported()
    else:
        with pytest.raises(Problem, match="not supported here") as refused:
            body.refuse_unsupported()
        assert (refused.value.code, refused.value.param) == ("unsupported", next(iter(fields)))


def test_messages_are_texts_or_parts() -> None:
    assert Message(role="user", content="a").content == "a"
    with pytest.raises(ValidationError, match="content\n  give a text"):
        Message.model_validate({"role": "user", "content": [1]})
    with pytest.raises(ValidationError, match="role"):
        Message.model_validate({"role": "narrator", "content": "a"})


MANY, MANY_MESSAGES = [{}] * MAX_ITEMS, [{}] * MAX_MESSAGES


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (DetokenizeRequest, {"tokens": MANY}),
        (CompletionRequest, {"prompt": MANY}),
        (CompletionRequest, {"prompt": [MANY]}),
        (CompletionRequest, {"prompt": [["a"]] * MAX_ITEMS}),
        (CompletionRequest, {"stop": MANY}),
        (CompletionRequest, {f"odd{i}": i for i in range(MAX_ITEMS)}),
        (ChatRequest, {"messages": MANY_MESSAGES}),
        (ChatRequest, {"messages": [{"role": "user", "content": MANY_MESSAGES}]}),
        (ChatRequest, {"messages": [{"role": "user"} | {f"odd{i}": i for i in range(MAX_ITEMS)}]}),
    ],
)
def test_what_is_wrong_many_times_is_told_once(body: type[Body], fields: dict[str, Any]) -> None:
    """The text of an error takes more than the value that it is about."""
    with pytest.raises(ValidationError) as refused:
        body.model_validate(fields)
    assert refused.value.error_count() == 1


@pytest.mark.parametrize(
    ("body", "fields", "name"),
    [
        (DetokenizeRequest, {"tokens": [*MANY, 0]}, "tokens"),
        (CompletionRequest, {"prompt": [*MANY, "a"]}, "prompt"),
        (CompletionRequest, {"prompt": [[*MANY, 1]]}, "prompt"),
        (CompletionRequest, {"stop": [*MANY, "a"]}, "stop"),
        (ChatRequest, {"messages": [*MANY_MESSAGES, {"role": "user"}]}, "messages"),
        (ChatRequest, {"messages": [{"role": "user", "content": [*MANY_MESSAGES, "a"]}]}, "content"),
    ],
)
def test_a_list_that_is_too_long_is_told_before_its_items(body: type[Body], fields: dict[str, Any], name: str) -> None:
    with pytest.raises(ValidationError, match=rf"{name}(\.\S*)?\n +give at most \d+ items, not \d+\."):
        body.model_validate(fields)
