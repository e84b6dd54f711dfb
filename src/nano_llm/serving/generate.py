"""The route of the reference implementation, for its clients."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from nano_llm.serving.answering import admitted, all_heard, gauges_of, service_of
from nano_llm.serving.asked import generate_asked
from nano_llm.serving.choice import Choice
from nano_llm.serving.documented import KEY, WRITING_ERRORS
from nano_llm.serving.problem import unsupported
from nano_llm.serving.requests import GenerateRequest
from nano_llm.serving.responses import Generated
from nano_llm.serving.service import Service
from nano_llm.serving.spelling import Spelling

router = APIRouter(tags=["The reference's protocol"], dependencies=[KEY])


@router.post(
    "/generate", response_model=Generated, responses=WRITING_ERRORS, summary="Write a review, or one of each outcome"
)
async def generate(
    request: Request, body: GenerateRequest, service: Annotated[Service, Depends(service_of)]
) -> Response:
    """Write one review, `output`, or with `both_reviews` one of each outcome, `output_y0` and `output_y1`.

    A text ends at a line feed unless `no_stop_newline` is given.
    """
    if body.no_censor and service.censored:
        raise unsupported("no_censor: this server redacts explicit words. Leave it out.", "no_censor")
    spelling = Spelling(service.author.tokenizer, censored=service.censored or body.no_censor is False)
    asked = generate_asked(body, service.author, service.limits)
    choices = [Choice(commission, spelling) for commission in asked.commissions]
    gauges = gauges_of(request)
    watch = gauges.watch()
    ticket = admitted(lambda: service.engine.submit(asked.commissions, seconds=service.limits.seconds), gauges)
    gauges.read(asked.num_prompt_tokens)
    texts = [news.text for news in await all_heard(request, ticket, choices, gauges, watch)]
    job_id = body.job_id if body.job_id is not None else uuid.uuid4().hex
    if body.both_reviews:
        answer = Generated(job_id=job_id, output_y0=texts[0], output_y1=texts[1])
    else:
        answer = Generated(job_id=job_id, output=texts[0])
    return Response(answer.model_dump_json(exclude_unset=True), media_type="application/json")
