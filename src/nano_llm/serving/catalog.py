"""The routes that tell what is served here, and how it is."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from starlette.exceptions import HTTPException

import nano_llm
from nano_llm.serving.answering import gauges_of, service_of
from nano_llm.serving.documented import KEY, READING_ERRORS, errors
from nano_llm.serving.gauges import CONTENT_TYPE
from nano_llm.serving.problem import model_failed, shutting_down
from nano_llm.serving.responses import Health, ModelCard, ModelExtension, ModelLimits, ModelList, Version
from nano_llm.serving.service import Service

public = APIRouter(tags=["Server"])
"""What needs no key."""
router = APIRouter(dependencies=[KEY])
Served = Annotated[Service, Depends(service_of)]


@public.head("/health", include_in_schema=False)
@public.get("/health", responses=errors(400, 500, 503), summary="Whether the server lives")
async def health(service: Served) -> Health:
    """Answer at once, whatever the model is busy with; 503 if it has failed."""
    if not service.engine.is_alive:
        raise model_failed()
    return Health(status="ok")


@public.head("/ready", include_in_schema=False)
@public.get("/ready", responses=errors(400, 500, 503), summary="Whether requests are taken")
async def ready(service: Served) -> Health:
    """Answer 503 if the model has failed, or the server is shutting down."""
    alive = await health(service)
    if not service.engine.is_open:
        raise shutting_down()
    return alive


@router.get("/version", tags=["Server"], responses=READING_ERRORS, summary="What runs here")
async def version(service: Served) -> Version:
    """Return the version of the package and the fingerprint of the checkpoint."""
    return Version(version=nano_llm.__version__, checkpoint=service.fingerprint)


@router.get(
    "/metrics",
    tags=["Server"],
    response_class=Response,
    responses=READING_ERRORS | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    summary="Figures for Prometheus",
)
async def metrics(request: Request) -> Response:
    """Return counters, gauges and histograms; their names begin with `nano_llm:`."""
    return Response(gauges_of(request).render(), media_type=CONTENT_TYPE)


@router.get("/v1/models", tags=["OpenAI's protocol"], responses=READING_ERRORS, summary="The models served here")
async def models(service: Served) -> ModelList:
    """Return the one model."""
    return ModelList(object="list", data=[model_card(service)])


@router.get(
    "/v1/models/{model:path}", tags=["OpenAI's protocol"], responses=errors(400, 401, 404, 500), summary="A model"
)
async def model(model: str, service: Served) -> ModelCard:
    """Return a model by its id."""
    if not model:
        raise HTTPException(404)
    service.check_model(model)
    return model_card(service)


def model_card(service: Service) -> ModelCard:
    """Return what is told of the model."""
    author, limits = service.author, service.limits
    topics = list(author.topics)
    return ModelCard(
        id=service.name,
        object="model",
        created=service.created,
        owned_by="nano_llm",
        nano_llm=ModelExtension(
            num_heads=author.num_heads,
            has_outcomes=author.has_outcomes,
            prompt=author.template.prompt(1, topics[0] if topics else None),
            topics=topics,
            checkpoint=service.fingerprint,
            censored=service.censored,
            limits=ModelLimits(
                max_tokens=limits.max_tokens,
                default_tokens=limits.default_tokens,
                max_texts=limits.max_texts,
                max_prompt_chars=limits.max_prompt_chars,
                max_review_chars=limits.max_review_chars,
                max_stops=limits.max_stops,
                max_logprobs=limits.max_logprobs,
            ),
        ),
    )
