"""The route of counterfactuals: both outcomes from one prompt, or what a review would have said."""

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from nano_llm.data.clean import clean
from nano_llm.generation.author import Commission
from nano_llm.generation.redaction import redact
from nano_llm.report.text_diff import Change as WordChange
from nano_llm.report.text_diff import compare_words
from nano_llm.serving.answering import admitted, begun, ended_by_error, gauges_of, heard, service_of
from nano_llm.serving.asked import pair_asked, review_asked, top_asked
from nano_llm.serving.choice import Choice, News, joined
from nano_llm.serving.documented import KEY, WRITING_ERRORS, streamed_by_name
from nano_llm.serving.engine import Ticket
from nano_llm.serving.gauges import Gauges, Watch
from nano_llm.serving.requests import CounterfactualBody
from nano_llm.serving.responses import Change, Column, ColumnEnd, End, ErrorBody, Source, Start, Step
from nano_llm.serving.service import Service
from nano_llm.serving.stream import PING, EventStream, begun_soon, frame
from nano_llm.serving.told import first_divergence, reason, trace, usage

router = APIRouter(tags=["Two outcomes"], dependencies=[KEY])

EVENTS: dict[str, type[BaseModel]] = {"start": Start, "step": Step, "end": End, "error": ErrorBody}
STEP = '{"columns": [[{"text": " film"}], null]}'
KINDS: dict[WordChange, Literal["same", "removed", "added"]] = {
    WordChange.kept: "same",
    WordChange.removed: "removed",
    WordChange.added: "added",
}


@router.post(
    "/v1/counterfactual",
    response_class=Response,
    responses=WRITING_ERRORS | streamed_by_name(EVENTS, f"event: step\ndata: {STEP}\n\n"),
    summary="Write both outcomes side by side, or the counterfactual of a review",
    response_description="Server-sent events with names: `start`, `step` for each step of the model, then `end`, or "
    "`error` if that does not come. Texts of the tokens of a column join to the text of the review.",
)
async def counterfactual(
    request: Request, body: CounterfactualBody, service: Annotated[Service, Depends(service_of)]
) -> EventStream:
    """Stream Y0 and Y1 of a prompt, token by token, and what the heads said of each.

    With `text` and `label`, stream the one text that the review would have been under the other sentiment, had the
    noise that wrote it been the same.
    """
    service.check_model(body.model)
    gauges = gauges_of(request)
    watch = gauges.watch()
    seconds = service.limits.seconds
    if body.text is None:
        asked = pair_asked(body, service.author, service.limits)
        ticket = admitted(lambda: service.engine.submit(asked.commissions, seconds=seconds), gauges)
        telling = _Telling(service, asked.seed, None, top_asked(body))
    else:
        review = review_asked(body, service.author, service.limits)
        ticket = admitted(lambda: service.engine.submit_review(review, seconds=seconds), gauges)
        text = clean(body.text)
        source = Source(
            text=redact(text).text if service.censored else text, label="pos" if review.label == 1 else "neg"
        )
        telling = _Telling(service, review.seed, source, top_asked(body))
    commissions = await begun(request, ticket)
    events = _events(ticket, commissions, telling, gauges, watch)
    return EventStream(ended_by_error(events, "error"), ticket, gauges.cancelled)


@dataclass(frozen=True, slots=True)
class _Telling:
    """What the events tell beside the texts."""

    service: Service
    seed: int
    source: Source | None
    num_top: int

    def start(self, choices: Sequence[Choice]) -> Start:
        return Start(
            id=f"cf-{uuid.uuid4().hex}",
            created=int(time.time()),
            model=self.service.name,
            seed=self.seed,
            columns=[Column(outcome=_outcome(choice), prompt=choice.prompt) for choice in choices],
            source=self.source,
        )

    def step(self, news: dict[int, News], num_columns: int) -> Step:
        shown = [news[place].shown if place in news else () for place in range(num_columns)]
        spelling = self.service.spelling
        return Step(columns=[trace(tokens, self.num_top, spelling) if tokens else None for tokens in shown])

    def end(self, choices: Sequence[Choice], news: Sequence[News]) -> End:
        first = choices[0].commission.order
        diverging = None
        if len(choices) == 2:
            place = first_divergence(choices[0].tokens, choices[1].tokens)
            diverging = None if place is None else len(first.begin) + place
        changes = None
        if self.source is not None:
            pieces = compare_words(self.source.text, news[0].text)
            changes = [Change(kind=KINDS[piece.change], text=piece.text) for piece in pieces]
        return End(
            columns=[_column_end(choice, one) for choice, one in zip(choices, news, strict=True)],
            usage=usage(len(first.prompt) + len(first.begin), sum(len(choice.tokens) for choice in choices)),
            first_divergence=diverging,
            changes=changes,
        )


def _outcome(choice: Choice) -> int:
    assert choice.commission.outcome is not None, "a counterfactual is of an outcome"
    return choice.commission.outcome


def _column_end(choice: Choice, news: News) -> ColumnEnd:
    assert news.finish is not None, "a text that is over has ended"
    return ColumnEnd(
        finish_reason=reason(news.finish),
        num_tokens=len(choice.commission.order.begin) + len(choice.tokens),
        num_redacted=choice.num_redacted,
    )


async def _events(
    ticket: Ticket, commissions: Sequence[Commission] | None, telling: _Telling, gauges: Gauges, watch: Watch
) -> AsyncGenerator[bytes, None]:
    while commissions is None:
        yield PING
        commissions = await begun_soon(ticket)
    choices = [Choice(commission, telling.service.spelling, with_begin=True) for commission in commissions]
    first = commissions[0].order
    gauges.read(len(first.prompt) + len(first.begin))
    yield frame(telling.start(choices).model_dump_json(), "start")
    all_news: list[list[News]] = [[] for _ in choices]
    async for step in heard(ticket, choices, gauges, watch):
        if not step:
            yield PING
        for place, news in step.items():
            all_news[place].append(news)
        if any(news.shown for news in step.values()):
            yield frame(telling.step(step, len(choices)).model_dump_json(exclude_unset=True), "step")
    yield frame(telling.end(choices, [joined(news) for news in all_news]).model_dump_json(), "end")
