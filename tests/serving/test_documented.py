"""The OpenAPI document against the answers of the app, by examples that schemathesis makes of it."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from nano_llm.serving.app import create_app
from nano_llm.serving.limits import Limits
from serving.servers import open_byte_author, served

KEY = "secret"
CONFORMANCE = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CHECKS = [not_a_server_error, *CONFORMANCE, negative_data_rejection, ignored_auth]
NUM_EXAMPLES = 60
"""Of each operation that has a body, and of each kind."""


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    limits = Limits(max_tokens=3, default_tokens=2, max_texts=4, max_prompt_chars=60, max_review_chars=60)
    with served(open_byte_author("model=tarnet"), limits=limits) as service:
        yield create_app(service, keys=[KEY], hosts=["localhost", "testserver"])


@pytest.fixture(scope="module")
def document(app: Any) -> dict[str, Any]:
    told: dict[str, Any] = TestClient(app).get("/openapi.json", headers={"Authorization": f"Bearer {KEY}"}).json()
    return told


def as_is(case: Any) -> Any:
    return case


def sensible(case: Any) -> Any:
    """An example that asks for little, and for a chat that a prompt can express, so that it is often answered."""
    if isinstance(case.body, dict):
        if "completions" in case.path:
            case.body["stream"] = len(case.body) % 2 == 0
            case.body.pop("stream_options", None)
        for name in ("n", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs"):
            if isinstance(case.body.get(name), int | float) and not isinstance(case.body[name], bool):
                case.body[name] = 1 + case.body[name] % 3
        if "messages" in case.body:
            case.body["messages"] = [{"role": "user", "content": "the film"}]
    return case


def test_answers_are_as_documented(app: Any) -> None:
    """Examples that fit the document, as they come and within the limits, and examples that do not."""
    headers = {"Authorization": f"Bearer {KEY}"}
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=headers)
    num_examples = 0
    answers: set[tuple[str, int, str]] = set()
    misnamed: dict[str, str] = {}  # by operation: what is said to a server of another name
    for found in schema.get_all_operations():
        operation = found.ok()
        kinds = [(GenerationMode.POSITIVE, as_is)]
        if operation.body:
            kinds += [(GenerationMode.POSITIVE, sensible), (GenerationMode.NEGATIVE, as_is)]
        for mode, change in kinds:

            @settings(
                max_examples=NUM_EXAMPLES if operation.body else 3,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
            )
            @given(case=operation.as_strategy(generation_mode=mode).map(change))
            def check(case: Any) -> None:
                nonlocal num_examples
                num_examples += 1
                answer = case.call_and_validate(checks=CHECKS, headers=headers)
                answers.add((case.path, answer.status_code, answer.headers["content-type"][0].split(";")[0]))
                if case.operation.label not in misnamed:
                    refused = case.call_and_validate(checks=CONFORMANCE, headers=headers | {"Host": "evil.example"})
                    misnamed[case.operation.label] = refused.json()["error"]["code"]

            check()
    assert num_examples >= 500
    assert len(misnamed) >= 11
    assert set(misnamed.values()) == {"invalid_host"}
    for path in ("/v1/completions", "/v1/chat/completions"):
        assert {(path, 200, "application/json"), (path, 200, "text/event-stream")} <= answers
    for path in ("/generate", "/tokenize", "/detokenize", "/v1/models"):
        assert (path, 200, "application/json") in answers
    assert ("/v1/counterfactual", 200, "text/event-stream") in answers


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    assert document["info"]["description"]
    for operation in operations(document):
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"]
        assert "422" not in operation["responses"]
        for status, answer in operation["responses"].items():
            assert answer["description"]
            if int(status) >= 400:
                ref = answer["content"]["application/json"]["schema"]["$ref"]
                assert ref == "#/components/schemas/ErrorBody"
            assert ("Retry-After" in answer.get("headers", {})) == (status == "503")
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_streams_and_keys_are_documented(document: dict[str, Any]) -> None:
    for path in ("/v1/completions", "/v1/chat/completions"):
        told = document["paths"][path]["post"]["responses"]["200"]["content"]
        assert told.keys() == {"application/json", "text/event-stream"}
    told = document["paths"]["/v1/counterfactual"]["post"]["responses"]["200"]["content"]
    assert told.keys() == {"text/event-stream"}
    assert [*document["components"]["securitySchemes"].values()] == [
        {"type": "http", "scheme": "bearer", "description": "A key of the server, if it has one."}
    ]
    open_paths = {path for path, item in document["paths"].items() if "security" not in next(iter(item.values()))}
    assert open_paths == {"/health", "/ready"}


def test_every_property_says_what_it_is(document: dict[str, Any]) -> None:
    silent = [
        f"{model}.{name}"
        for model, schema in document["components"]["schemas"].items()
        for name, told in schema.get("properties", {}).items()
        if not told.get("description")
    ]
    assert silent == []
