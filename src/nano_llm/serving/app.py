"""The application: all routes over one service, behind its guard."""

from collections.abc import Sequence
from importlib.resources import files

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from nano_llm import __version__
from nano_llm.serving import catalog, completions, counterfactual, generate, tokens
from nano_llm.serving.answering import gauges_of
from nano_llm.serving.documented import DESCRIPTION, DocumentedApp
from nano_llm.serving.gauges import Gauges
from nano_llm.serving.guard import GONE, Guard
from nano_llm.serving.problem import install
from nano_llm.serving.service import Service
from nano_llm.serving.stream import ClientGone

PAGE = {
    "index.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "settings.js": "text/javascript",
    "stream.js": "text/javascript",
    "writing.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
"""Files of the page, and their types."""


def create_app(service: Service, keys: Sequence[str] = (), hosts: Sequence[str] | None = None) -> FastAPI:
    """Return an app that serves a model.

    Args:
        service: What is served. Its engine is started and ended by the caller.
        keys: Any of them opens all routes; without any, none is needed.
        hosts: Names by which the server may be called; None allows any.
    """
    app = DocumentedApp(
        title="nano_llm",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # pages that load scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    app.state.gauges = gauges = Gauges(
        model=service.name,
        fingerprint=service.fingerprint,
        num_running=lambda: service.engine.num_running,
        num_waiting=lambda: service.engine.num_waiting,
    )
    for router in (
        catalog.public,
        catalog.router,
        completions.router,
        counterfactual.router,
        generate.router,
        tokens.router,
    ):
        app.include_router(router)
    app.get("/", include_in_schema=False)(_index)
    app.get("/static/{name}", include_in_schema=False)(_static)
    install(app)
    app.add_exception_handler(ClientGone, _answer_nobody)
    app.add_middleware(Guard, keys=keys, hosts=hosts, max_body_bytes=service.limits.max_body_bytes, gauges=gauges)
    return app


async def _index() -> Response:
    return _page_file("index.html")


async def _static(name: str) -> Response:
    if name not in PAGE:
        raise HTTPException(404)
    return _page_file(name)


def _page_file(name: str) -> Response:
    content = files("nano_llm.serving").joinpath("page", name).read_bytes()
    return Response(content, media_type=PAGE[name], headers={"Cache-Control": "no-cache"})


async def _answer_nobody(request: Request, error: Exception) -> Response:
    gauges_of(request).cancelled()
    return Response(status_code=GONE)
