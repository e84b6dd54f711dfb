import json
from typing import Annotated, Literal

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from nano_llm.errors import DataError, RequestError
from nano_llm.serving import problem
from nano_llm.serving.engine import Closing, EngineError, ModelFailed, Overdue, Overloaded
from nano_llm.serving.problem import Problem, problem_of


class Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    mode: Literal["plain", "contrast"] = "plain"


class Asked(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    stream: bool | None = False
    prompt: str | list[str] | list[list[int]] | None = None
    n: Annotated[int, Field(ge=1, le=8)] = 1
    temperature: float = 1.0
    stop: Annotated[list[str], Field(max_length=2)] = []
    ids: Annotated[list[int], Field(min_length=1)] = [1]
    job: Annotated[str, AfterValidator(str), Field(max_length=3)] = ""
    share: Annotated[float, Field(ge=0)] = 0.0
    steer: Part | None = None
    name: str = "x"

    @field_validator("name")
    @classmethod
    def _refuse(cls, name: str) -> str:
        if name == "bad":
            raise ValueError("give another one.")
        return name


def asked_app() -> FastAPI:
    app = FastAPI()
    problem.install(app)

    @app.post("/asked")
    async def asked(body: Asked) -> int:
        return 1

    @app.get("/fails/{how}")
    async def fails(how: str) -> int:
        raise {
            "full": problem.overloaded(),
            "request": RequestError("topic='x': give drama."),
            "closing": Closing(),
        }[how]

    return app


@pytest.fixture
def client() -> TestClient:
    return TestClient(asked_app())


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"stream": 0}, "stream", "stream: give true or false, not 0."),
        ({"prompt": 5}, "prompt", "prompt: give a text or a list, not 5."),
        ({"prompt": ["a", 1]}, "prompt.1", "prompt.1: give a text or a list, not 1."),
        ({"prompt": [[1, "a"]]}, "prompt.0.1", 'prompt.0.1: give a whole number, not "a".'),
        ({"n": 1.5}, "n", "n: give a whole number, not 1.5."),
        ({"n": 9}, "n", "n: give a number of at most 8, not 9."),
        ({"n": None}, "n", "n: give a whole number, not null."),
        ({"temperature": "1"}, "temperature", 'temperature: give a number, not "1".'),
        ({"stop": ["a", "b", "c"]}, "stop", 'stop: give at most 2 items, not ["a", "b", "c"].'),
        ({"ids": []}, "ids", "ids: give at least 1 item, not []."),
        ({"job": "abcd"}, "job", 'job: give at most 3 characters, not "abcd".'),
        ({"share": -1}, "share", "share: give a number of at least 0, not -1."),
        ({"steer": 1}, "steer", "steer: give an object, not 1."),
        ({"steer": {"mode": "odd"}}, "steer.mode", "steer.mode: give 'plain' or 'contrast', not \"odd\"."),
        ({"steer": {"odd": 1}}, "steer.odd", "There is no field steer.odd."),
        ({"odd": 1}, "odd", "There is no field odd."),
        ({"maxTokens": 1}, "maxTokens", "There is no field maxTokens."),
        ({"list": 1}, "list", "There is no field list."),
        ({"steer": {"Mode": 1}}, "steer.Mode", "There is no field steer.Mode."),
        ({"": 1}, '""', 'There is no field "".'),
        ({"x" * 1000: 1}, "x" * 60 + "...", "x" * 60 + ".... Leave it out"),
        ({f"odd{i}": 1 for i in range(1000)}, "odd0", "There is no field odd0."),
        ({"name": "bad"}, "name", "name: give another one."),
        ([], None, "The body: give an object, not []."),
        ({"prompt": "\ud800" * 100, "n": "\ud800"}, "n", 'n: give a whole number, not "\ud800".'),
        ({"n": "long " * 50}, "n", "..."),
    ],
)
def test_a_field_of_the_wrong_kind_is_told_in_plain_words(
    client: TestClient, body: object, param: str | None, message: str
) -> None:
    answer = client.post("/asked", content=json.dumps(body), headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "invalid_value", param)
    assert message in error["message"]
    assert len(error["message"]) < 200


def test_a_value_that_is_deep_is_told_by_its_beginning(client: TestClient) -> None:
    deep = b"[" * 700 + b"]" * 700
    answer = client.post("/asked", content=b'{"n": %s}' % deep, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == f"n: give a whole number, not {'[' * 60}...."


def test_a_body_that_is_no_json_is_told_where_it_breaks(client: TestClient) -> None:
    answer = client.post("/asked", content=b'{"n": }', headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert "not JSON: Expecting value, at character 6" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "media_type", "status", "code", "words"),
    [
        (b"{}", "text/plain", 415, "content_type", '"text/plain"'),
        (b"{}", None, 415, "content_type", "without a type"),
        (b"", None, 400, "invalid_value", "no body"),
        (b"\xff", "application/json", 400, "invalid_value", "UTF-8"),
        (b"\xef\xbb\xbf{}", "application/json; charset=utf-8", 200, None, ""),
    ],
)
def test_bodies_are_json_and_say_so(
    client: TestClient, content: bytes, media_type: str | None, status: int, code: str | None, words: str
) -> None:
    answer = client.post("/asked", content=content, headers={"content-type": media_type} if media_type else {})
    assert answer.status_code == status
    if code is not None:
        assert answer.json()["error"]["code"] == code
        assert words in answer.json()["error"]["message"]


def test_unknown_paths_and_methods_are_errors_of_our_shape(client: TestClient) -> None:
    missing, wrong = client.get("/nothing"), client.get("/asked")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    assert "this path takes POST" in wrong.json()["error"]["message"]


def test_problems_carry_what_their_status_asks_for(client: TestClient) -> None:
    full = client.get("/fails/full")
    assert (full.status_code, full.json()["error"]["type"]) == (503, "server_error")
    assert int(full.headers["retry-after"]) > 0
    assert client.get("/fails/closing").json()["error"]["code"] == "shutting_down"
    assert problem.invalid_api_key().response().headers["www-authenticate"] == "Bearer"
    assert problem.invalid_api_key().type == "authentication_error"


def test_a_wrong_request_is_told(client: TestClient) -> None:
    assert client.get("/fails/request").json()["error"]["message"] == "topic='x': give drama."


def test_every_error_has_a_problem() -> None:
    full = problem.overloaded()
    assert problem_of(full) is full
    assert problem_of(RequestError("no")).body() == {
        "error": {"message": "no", "type": "invalid_request_error", "param": None, "code": "invalid_value"}
    }
    assert problem_of(DataError("the corpus at /home/somebody")).status == 500


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Overloaded(), "overloaded"),
        (Closing(), "shutting_down"),
        (Overdue(), "deadline_exceeded"),
        (ModelFailed(), "internal_error"),
    ],
)
def test_what_the_engine_raises_has_a_code(error: EngineError, code: str) -> None:
    assert problem_of(error).code == code


@pytest.mark.parametrize(
    ("made", "status", "code"),
    [
        (problem.invalid("x", "n"), 400, "invalid_value"),
        (problem.unsupported("x"), 400, "unsupported"),
        (problem.too_long("x"), 400, "context_length_exceeded"),
        (problem.model_not_found("a", "b"), 404, "model_not_found"),
        (problem.ambiguous_length(), 400, "ambiguous_length"),
        (problem.body_too_large(9), 413, "body_too_large"),
        (problem.body_too_slow(9), 408, "body_too_slow"),
        (problem.content_type("text/plain"), 415, "content_type"),
        (problem.overloaded(), 503, "overloaded"),
        (problem.model_failed(), 503, "model_failed"),
        (problem.shutting_down(), 503, "shutting_down"),
        (problem.deadline_exceeded(), 504, "deadline_exceeded"),
    ],
)
def test_problems_have_the_statuses_and_codes_that_are_promised(made: Problem, status: int, code: str) -> None:
    assert (made.status, made.code) == (status, code)
    assert (made.response().headers.get("retry-after") is not None) == (code in ("overloaded", "shutting_down"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 50_000, "The body is nested too deeply."),
        ('{"n": ' + "[" * 990 + "]" * 990 + "}", "nested too deeply"),
        ('{"n": ' + "1" * 5001 + "}", "The body has a number that is too long."),
    ],
)
def test_json_that_is_too_much_for_a_reader_is_called_by_its_name(
    client: TestClient, content: str, message: str
) -> None:
    answer = client.post("/asked", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")
    assert message in answer.json()["error"]["message"]
