"""Routes of OpenAI's protocol that write texts."""

from collections.abc import AsyncGenerator, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from nano_llm.serving.answer import Answer, ChatAnswer, CompletionAnswer, Facts
from nano_llm.serving.answering import admitted, all_heard, begun, ended_by_error, gauges_of, heard, service_of
from nano_llm.serving.asked import Asked, chat_asked, completion_asked
from nano_llm.serving.choice import Choice
from nano_llm.serving.documented import KEY, WRITING_ERRORS, streamed
from nano_llm.serving.engine import Ticket
from nano_llm.serving.gauges import Gauges, Watch
from nano_llm.serving.requests import ChatRequest, CompletionRequest, Extension, Texts
from nano_llm.serving.responses import ChatChunk, ChatCompletion, Completion
from nano_llm.serving.service import Service
from nano_llm.serving.stream import DONE, PING, EventStream, begun_soon, frame

COMPLETION_EVENT = (
    '{"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", '
    '"choices": [{"index": 0, "text": " film", "logprobs": null, "finish_reason": null}]}'
)
CHAT_EVENT = (
    '{"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", '
    '"choices": [{"index": 0, "delta": {"content": " film"}, "logprobs": null, "finish_reason": null}]}'
)

router = APIRouter(tags=["OpenAI's protocol"], dependencies=[KEY])
Served = Annotated[Service, Depends(service_of)]


@router.post(
    "/v1/completions",
    response_model=Completion,
    responses=WRITING_ERRORS | streamed(Completion, f"data: {COMPLETION_EVENT}\n\n"),
    response_description="Reviews; whole, or as they come if the request asks for a stream.",
    summary="Write reviews that begin with a text",
)
async def complete(request: Request, body: CompletionRequest, service: Served) -> Response:
    """Write reviews behind the model's training prompt, or behind one of the client's own.

    With `echo`, `logprobs` and `max_tokens: 0` the model scores a text that is given.
    """
    service.check_model(body.model)
    asked = completion_asked(body, service.author, service.limits)
    choices = [Choice(commission, service.spelling, with_begin=bool(body.echo)) for commission in asked.commissions]
    return await _answer(request, body, asked, choices, CompletionAnswer(_facts(service, body, asked, choices), body))


@router.post(
    "/v1/chat/completions",
    response_model=ChatCompletion,
    responses=WRITING_ERRORS | streamed(ChatChunk, f"data: {CHAT_EVENT}\n\n"),
    response_description="Reviews; whole, or as they come if the request asks for a stream.",
    summary="Write a review on an instruction",
)
async def chat(request: Request, body: ChatRequest, service: Served) -> Response:
    """Write reviews on the instruction of a user, rendered as the prompts that the model was trained with."""
    service.check_model(body.model)
    asked = chat_asked(body, service.author, service.limits)
    choices = [Choice(commission, service.spelling) for commission in asked.commissions]
    return await _answer(request, body, asked, choices, ChatAnswer(_facts(service, body, asked, choices), body))


def _facts(service: Service, body: Texts, asked: Asked, choices: Sequence[Choice]) -> Facts:
    options = body.stream_options
    includes_usage = options is not None and bool(options.include_usage)
    return Facts(service, asked, choices, body.nano_llm or Extension(), includes_usage)


async def _answer(request: Request, body: Texts, asked: Asked, choices: Sequence[Choice], answer: Answer) -> Response:
    service, gauges = answer.facts.service, gauges_of(request)
    watch = gauges.watch()
    ticket = admitted(lambda: service.engine.submit(asked.commissions, seconds=service.limits.seconds), gauges)
    gauges.read(asked.num_prompt_tokens)
    if not body.stream:
        news = await all_heard(request, ticket, choices, gauges, watch)
        return Response(_json(answer.whole(news)), media_type="application/json")
    has_begun = await begun(request, ticket) is not None
    events = _events(ticket, has_begun, choices, answer, gauges, watch)
    return EventStream(ended_by_error(events), ticket, gauges.cancelled)


async def _events(
    ticket: Ticket, has_begun: bool, choices: Sequence[Choice], answer: Answer, gauges: Gauges, watch: Watch
) -> AsyncGenerator[bytes, None]:
    while not has_begun:
        yield PING
        has_begun = await begun_soon(ticket) is not None
    for chunk in answer.opening_chunks():
        yield frame(_json(chunk))
    async for step in heard(ticket, choices, gauges, watch):
        if not step:
            yield PING
        for place, news in step.items():
            for chunk in answer.chunks(place, news):
                yield frame(_json(chunk))
    usage = answer.usage_chunk()
    if usage is not None:
        yield frame(_json(usage))
    yield DONE


def _json(model: BaseModel) -> str:
    """Return a body without the fields that were not set; null stands where it means something."""
    return model.model_dump_json(exclude_unset=True)
