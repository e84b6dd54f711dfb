"""The OpenAPI document: what is said in it beside the bodies of requests and answers."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from nano_llm.serving.responses import ChatChunk, Completion, End, ErrorBody, Start, Step

DESCRIPTION = """\
Reviews by a small language model that knows two outcomes: Y0, a negative review, and Y1, a positive one.

The protocol is OpenAI's, so that its clients work as they are. What this project adds is in the object `nano_llm`, in
requests and in answers. Unknown fields are refused, and so are OpenAI's fields that these models cannot serve, unless
they ask for nothing.
"""
STATUSES = {
    400: "A field is unknown, of a wrong type or out of bounds, or the model cannot do what is asked.",
    401: "The key is missing or wrong.",
    404: "There is no such model.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    500: "The server failed; its log tells more.",
    503: "The queue is full, or the server is shutting down. `Retry-After` tells when to ask again.",
    504: "The answer took longer than the server allows.",
}

REFERENCE = "#/components/schemas/{model}"
DONE = "[DONE]"
EVENTS = (Completion, ChatChunk, Start, Step, End)
"""What events of streams hold, which no answer does as a whole."""

Responses = dict[int | str, dict[str, Any]]


def errors(*statuses: int) -> Responses:
    """Return errors that a route may answer with."""
    return {status: {"model": ErrorBody, "description": STATUSES[status]} for status in statuses}


WRITING_ERRORS = errors(*STATUSES)
READING_ERRORS = errors(401, 500)
KEY = Security(HTTPBearer(auto_error=False, description="A key of the server, if it has one."))


def streamed(content: type[BaseModel], example: str) -> Responses:
    """Return an answer of events without names, the last of them ``[DONE]``.

    Args:
        content: Of the others, but for an error, which is the last one then.
        example: An event.
    """
    told = {"anyOf": [_reference(content), _reference(ErrorBody)]}
    event = _event() | {"if": _has("data", DONE), "else": _with_json(told)}
    return _events(event, example)


def streamed_by_name(contents: Mapping[str, type[BaseModel]], example: str) -> Responses:
    """Return an answer of events with names.

    Args:
        contents: What events hold, by their names.
        example: An event.
    """
    named = [{"if": _has("event", name), "then": _with_json(_reference(model))} for name, model in contents.items()]
    event = _event({"event": {"enum": [*contents]}}) | {"allOf": named}
    return _events(event, example)


def _events(event: dict[str, Any], example: str) -> Responses:
    return {200: {"content": {"text/event-stream": {"schema": event, "example": example}}}}


def _event(fields: dict[str, Any] | None = None) -> dict[str, Any]:
    properties = {"data": {"type": "string"}} | (fields or {})
    return {"type": "object", "properties": properties, "required": [*properties]}


def _has(field: str, value: str) -> dict[str, Any]:
    return {"properties": {field: {"const": value}}}


def _with_json(content: dict[str, Any]) -> dict[str, Any]:
    return {"properties": {"data": {"contentMediaType": "application/json", "contentSchema": content}}}


def _reference(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": REFERENCE.format(model=model.__name__)}


class DocumentedApp(FastAPI):
    """An app whose OpenAPI document tells of no answers that it does not give."""

    def openapi(self) -> dict[str, Any]:
        """Return the document: without the status 422, which is a 400 here."""
        if self.openapi_schema is None:
            document = super().openapi()
            for path in document["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
            schemas = document["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            _, told = models_json_schema([(model, "serialization") for model in EVENTS], ref_template=REFERENCE)
            for name, schema in told["$defs"].items():
                schemas.setdefault(name, schema)
        assert self.openapi_schema is not None
        return self.openapi_schema
