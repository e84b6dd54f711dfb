"""The OpenAPI document: what is said in it beside the bodies of requests and answers."""

from typing import Any

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer

from nano_llm.serving.responses import ErrorBody

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

Responses = dict[int | str, dict[str, Any]]


def errors(*statuses: int) -> Responses:
    """Return errors that a route may answer with."""
    return {status: {"model": ErrorBody, "description": STATUSES[status]} for status in statuses}


WRITING_ERRORS = errors(*STATUSES)
READING_ERRORS = errors(401, 500)
KEY = Security(HTTPBearer(auto_error=False, description="A key of the server, if it has one."))


def also_streamed(what: str, example: str) -> Responses:
    """Return an answer that comes in server-sent events if the request asks for a stream.

    Args:
        what: Describes it.
        example: An event.
    """
    events = {"schema": {"type": "string"}, "example": f"data: {example}\n\ndata: [DONE]\n\n"}
    return {200: {"description": what, "content": {"text/event-stream": events}}}


class DocumentedApp(FastAPI):
    """An app whose OpenAPI document tells of no answers that it does not give."""

    def openapi(self) -> dict[str, Any]:
        """Return the document: without the status 422, which is a 400 here."""
        if self.openapi_schema is None:
            document = super().openapi()
            for path in document["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                document["components"]["schemas"].pop(name, None)
        assert self.openapi_schema is not None
        return self.openapi_schema
