"""What a client is told when it cannot have what it asked for: the error object of OpenAI, whatever went wrong."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from nano_llm.errors import RequestError
from nano_llm.serving.engine import Closing, EngineError, Overdue, Overloaded

RETRY_SECONDS = 2
"""When a server that is full or shutting down is asked again at the earliest."""
MOST_READ = 64
"""Errors of a body, of which one is told."""
MOST_SHOWN = 60
"""Characters of a value or of a name that a message quotes."""
AMBIGUOUS = "ambiguous_length"
CODES = {404: "not_found", 405: "method_not_allowed", 415: "content_type"}
"""Of errors that the framework raises; other statuses below 500 are an ``invalid_value``."""


class Problem(Exception):
    """An answer that is an error.

    Args:
        status: Of HTTP, 400 or more.
        code: What a program tells errors apart by.
        message: What was given, what was expected, what to do. It may quote the request, so it goes in no log.
        param: The field that is to blame, with dots between the levels.
        retry_after: Seconds after which it may be different.
    """

    def __init__(
        self, status: int, code: str, message: str, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after

    @property
    def type(self) -> str:
        """Kind of the error, as OpenAI's clients know it."""
        if self.status == HTTPStatus.UNAUTHORIZED:
            return "authentication_error"
        return "server_error" if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"

    def body(self) -> dict[str, dict[str, str | None]]:
        """Return the error object."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def response(self, headers: Mapping[str, str] | None = None) -> Response:
        """Return the answer, with headers beside those that its status asks for."""
        asked = dict(headers or {})
        if self.retry_after is not None:
            asked["Retry-After"] = str(self.retry_after)
        if self.status == HTTPStatus.UNAUTHORIZED:
            asked["WWW-Authenticate"] = "Bearer"
        if self.status == HTTPStatus.REQUEST_TIMEOUT or self.code == AMBIGUOUS:
            asked["Connection"] = "close"  # the rest of the request would be taken for the next one
        # Escaped, for a message may quote half a character, which UTF-8 cannot hold.
        content = json.dumps(self.body(), ensure_ascii=True)
        return Response(content, self.status, asked, media_type="application/json")


class Refusal(HTTPException):
    """A problem while a body is read, where the framework lets no other error through."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status, problem.message)
        self.problem = problem


def invalid(message: str, param: str | None = None) -> Problem:
    """Say that a field has a value that it cannot have."""
    return Problem(400, "invalid_value", message, param)


def unsupported(message: str, param: str | None = None) -> Problem:
    """Say that a request is understood, but that this server or this model cannot do it."""
    return Problem(400, "unsupported", message, param)


def too_long(message: str, param: str | None = None) -> Problem:
    """Say that a text or a number of tokens is more than the model or a limit allows."""
    return Problem(400, "context_length_exceeded", message, param)


def invalid_api_key() -> Problem:
    """Say that a key is missing or wrong, not which."""
    return Problem(
        401,
        "invalid_api_key",
        "The key is missing or wrong. Send `Authorization: Bearer KEY` with a key of this server.",
    )


def invalid_host(given: str) -> Problem:
    """Say that the server is not called by a name of its own."""
    return Problem(
        400,
        "invalid_host",
        f"This server is not {_shown(given)}. Ask it at 127.0.0.1 or localhost, or start it with a key: then any name "
        "will do.",
    )


def model_not_found(asked: str, known: str) -> Problem:
    """Say that another model is served."""
    return Problem(
        404, "model_not_found", f"There is no model {_shown(asked)} here; ask for {known!r}, or for none.", "model"
    )


def ambiguous_length() -> Problem:
    """Say that nobody can tell where the body ends: a proxy may take another part of it for the next request."""
    told = "The request has both Content-Length and Transfer-Encoding. Send one of them."
    return Problem(400, AMBIGUOUS, told)


def body_too_large(max_bytes: int) -> Problem:
    """Say how many bytes of a body are read."""
    return Problem(413, "body_too_large", f"The body is too large: at most {max_bytes} bytes are read. Send less.")


def body_too_slow(seconds: float) -> Problem:
    """Say how long a body may take."""
    return Problem(408, "body_too_slow", f"The body has not come within {seconds:g} s. Send it at once.")


def content_type(given: str | None) -> Problem:
    """Say that a body is not declared as JSON."""
    sent = f"came as {_shown(given)}" if given else "came without a type"
    return Problem(415, "content_type", f"The body {sent}. Send JSON with `Content-Type: application/json`.")


def internal_error() -> Problem:
    """Say that it is not the client's fault, and nothing else."""
    return Problem(
        500, "internal_error", "Something went wrong here. The server's log tells more under the answer's x-request-id."
    )


def overloaded() -> Problem:
    """Say that the queue is full."""
    return Problem(503, "overloaded", "The queue is full. Ask again in some seconds.", retry_after=RETRY_SECONDS)


def model_failed() -> Problem:
    """Say that nothing will be written any more."""
    return Problem(503, "model_failed", "The model has failed. The server has to be started again; its log tells more.")


def shutting_down() -> Problem:
    """Say that nothing new is begun."""
    return Problem(
        503, "shutting_down", "The server is shutting down. Ask again once it is back.", retry_after=RETRY_SECONDS
    )


def deadline_exceeded() -> Problem:
    """Say that an answer took too long."""
    return Problem(
        504, "deadline_exceeded", "The answer took longer than the server allows. Ask for fewer texts or tokens."
    )


def problem_of(error: Exception) -> Problem:
    """Return what a client is told of an error; of one that it has no part in, nothing but that there was one."""
    match error:
        case Problem():
            return error
        case RequestError():
            return invalid(str(error))
        case Overloaded():
            return overloaded()
        case Closing():
            return shutting_down()
        case Overdue():
            return deadline_exceeded()
        case _:
            return internal_error()


def install(app: FastAPI) -> None:
    """Let an app answer errors as a `Problem`, those of the framework included; bugs are left to its `Guard`."""

    async def answer(request: Request, error: Exception) -> Response:
        return problem_of(error).response()

    async def answer_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _problem_of_fields(request, error.errors()).response()

    async def answer_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        problem = error.problem if isinstance(error, Refusal) else _problem_of_http(request, error)
        return problem.response(error.headers)

    app.add_exception_handler(Problem, answer)
    app.add_exception_handler(RequestError, answer)
    app.add_exception_handler(EngineError, answer)
    app.add_exception_handler(RequestValidationError, answer_validation)
    app.add_exception_handler(HTTPException, answer_http)


def _problem_of_http(request: Request, error: HTTPException) -> Problem:
    asked = f"{request.method} {_shown(request.url.path)}"
    match error.status_code:
        case 404:
            message = f"There is no {asked} here; GET /openapi.json tells what there is."
        case 405:
            allowed = (error.headers or {}).get("Allow", "another method")
            message = f"There is no {asked} here; this path takes {allowed}."
        case 400:
            message = _why_unread(error.__cause__)
        case _:
            message = f"{error.detail}."
    code = "internal_error" if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_value"
    return Problem(error.status_code, CODES.get(error.status_code, code), message)


def _why_unread(cause: BaseException | None) -> str:
    match cause:
        case RecursionError():
            return "The body is nested too deeply. Send JSON of fewer levels."
        case UnicodeError():
            return "The body cannot be read. Send JSON in UTF-8."
        case ValueError():  # Python reads no number of any length
            return "The body has a number that is too long. Send one of fewer digits."
        case _:
            return "The body cannot be read. Send JSON in UTF-8."


def _problem_of_fields(request: Request, errors: Sequence[Any]) -> Problem:
    """Return the one problem that helps most: deep inside the first field that is wrong.

    A field that may be several things has an error for each of them; the deepest is of the one that was meant.
    """
    type_given = request.headers.get("content-type")
    whole = [error for error in errors if tuple(error["loc"]) == ("body",)]
    if whole and whole[0]["type"] != "missing" and not _is_json(type_given):
        return content_type(type_given)
    read = errors[:MOST_READ]
    first = _path(read[0])[:1]
    of_first = [error for error in read if _path(error)[:1] == first]
    path = max(map(_path, of_first), key=len)
    deepest = [error for error in of_first if _path(error) == path]
    param = ".".join(path) or None
    expected = dict.fromkeys(filter(None, map(_expectation, deepest)))
    if expected:
        given = _shown(deepest[0]["input"])
        return invalid(f"{param or 'The body'}: give {' or '.join(expected)}, not {given}.", param)
    return _problem_of_field(deepest[0], param)


def _problem_of_field(error: Mapping[str, Any], param: str | None) -> Problem:
    name = param or "The body"
    match error["type"]:
        case "missing":
            return invalid(f"{name} is missing." if param else "The request has no body. Send a JSON object.", param)
        case "extra_forbidden":
            return invalid(f"There is no field {name}. Leave it out; GET /openapi.json tells what there is.", param)
        case "json_invalid":
            place = error["loc"][-1]
            return invalid(f"The body is not JSON: {error['ctx']['error']}, at character {place} (counted from 0).")
        case "value_error":
            return invalid(f"{name}: {error['ctx']['error']}", param)
    reason = f"{error['msg'][:1].lower()}{error['msg'][1:]}"
    return invalid(f"{name}: {reason}, not {_shown(error['input'])}.", param)


KINDS = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "none_required": "null",
}
"""Kind of an error of Pydantic -> what was expected."""
BOUNDS = {
    "greater_than_equal": ("a number of at least {}", "ge"),
    "greater_than": ("a number above {}", "gt"),
    "less_than_equal": ("a number of at most {}", "le"),
    "less_than": ("a number below {}", "lt"),
    "literal_error": ("{}", "expected"),
    "enum": ("{}", "expected"),
    "too_long": ("at most {}", "max_length"),
    "too_short": ("at least {}", "min_length"),
    "string_too_long": ("at most {}", "max_length"),
    "string_too_short": ("at least {}", "min_length"),
}
"""Kind of an error of Pydantic -> what was expected, and the bound that belongs in it."""


def _expectation(error: Mapping[str, Any]) -> str | None:
    if error["type"] in BOUNDS:
        wording, name = BOUNDS[error["type"]]
        bound = error["ctx"][name]
        if name in ("max_length", "min_length"):
            noun = "character" if isinstance(error["input"], str) else "item"
            bound = f"{bound} {noun}{'' if bound == 1 else 's'}"
        elif isinstance(bound, float) and bound.is_integer():
            bound = int(bound)
        return wording.format(bound)
    return KINDS.get(error["type"])


def _path(error: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names and places that lead to a field, without the names of types that Pydantic puts between."""
    steps: Sequence[str | int] = error["loc"][1:]
    if error["type"] == "extra_forbidden":  # the last name is the client's own, and may be any
        *known, unknown = steps
        return (*_names_and_places(known), _cut(str(unknown)) or '""')
    return tuple(_names_and_places(steps))


def _names_and_places(steps: Sequence[str | int]) -> Iterator[str]:
    types = {"str", "int", "float", "bool", "list", "dict"}
    for step in steps:
        if isinstance(step, int) or (step not in types and re.fullmatch(r"[a-z_][a-z0-9_]*", step)):
            yield str(step)


def _is_json(given: str | None) -> bool:
    media_type = (given or "").split(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def _shown(value: object) -> str:
    """Return a value as JSON, or its beginning, of which no more is made: it may be large, or too deep to be whole."""
    shown = ""
    for part in json.JSONEncoder(ensure_ascii=False, default=repr).iterencode(value):
        shown += part
        if len(shown) > MOST_SHOWN:
            break
    return _cut(shown)


def _cut(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
