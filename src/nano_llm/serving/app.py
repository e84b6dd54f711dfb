"""The application: all routes over one service, behind its guard."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePath

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

import nano_llm
from nano_llm.serving import catalog, completions, counterfactual, generate, tokens
from nano_llm.serving.answering import gauges_of
from nano_llm.serving.documented import DESCRIPTION, DocumentedApp
from nano_llm.serving.gauges import Gauges
from nano_llm.serving.guard import GONE, Guard
from nano_llm.serving.key import checked_key
from nano_llm.serving.problem import install
from nano_llm.serving.service import Service
from nano_llm.serving.stream import ClientGone

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""Ends of the names of the page's files, and what they are."""


def create_app(service: Service, keys: Sequence[str] = (), hosts: Sequence[str] | None = None) -> FastAPI:
    """Return an app that serves a model.

    Args:
        service: What is served. Its engine is started and ended by the caller.
        keys: Any of them opens all routes; without any, none is needed.
        hosts: Names by which the server may be called; None allows any.

    Raises:
        RequestError: A key is none.
    """
    app = DocumentedApp(
        title="nano_llm",
        version=nano_llm.__version__,
        description=DESCRIPTION,
        docs_url=None,  # pages that load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect has no error object, and clients send no body twice
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
    page = page_files(files("nano_llm.serving").joinpath("page"))

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return page["index.html"].response()

    @app.head("/static/{name}", include_in_schema=False)
    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        if name not in page:
            raise HTTPException(404)
        return page[name].response()

    install(app)
    app.add_exception_handler(ClientGone, _answer_nobody)
    app.add_middleware(
        Guard, keys=[checked_key(key) for key in keys], hosts=hosts, limits=service.limits, gauges=gauges
    )
    return app


@dataclass(frozen=True, slots=True)
class File:
    """A file of the page."""

    content: bytes
    media_type: str

    def response(self) -> Response:
        """Return the answer that holds it."""
        # Asked for again each time: a newer version may be served at the same place.
        return Response(self.content, media_type=self.media_type, headers={"Cache-Control": "no-cache"})


def page_files(folder: Traversable) -> dict[str, File]:
    """Return the files of a page by their names, without what editors and systems leave beside them."""
    return {
        file.name: File(file.read_bytes(), TYPES[PurePath(file.name).suffix])
        for file in folder.iterdir()
        if PurePath(file.name).suffix in TYPES
    }


async def _answer_nobody(request: Request, error: Exception) -> Response:
    gauges_of(request).cancelled()
    return Response(status_code=GONE)
