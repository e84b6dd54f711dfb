"""What stands between the network and the application: keys, hosts, sizes, and one line of log for each answer."""

import asyncio
import hmac
import logging
import re
import uuid
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from time import monotonic

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nano_llm.serving.fault import trace_without_message
from nano_llm.serving.gauges import Gauges
from nano_llm.serving.limits import Limits
from nano_llm.serving.problem import (
    Problem,
    Refusal,
    ambiguous_length,
    body_too_large,
    body_too_slow,
    deadline_exceeded,
    internal_error,
    invalid_api_key,
    invalid_host,
    overloaded,
    shutting_down,
)
from nano_llm.serving.ration import WINDOW_SECONDS, Ration

OPEN_PATHS = ("/", "/health", "/ready")
OPEN_FOLDER = "/static/"
"""What is answered without a key: whether the server lives, and a page that holds no secret."""
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
UNKNOWN_ROUTE = "-"
"""Of an answer that no route gave; a path that was made up is neither logged nor counted."""
GONE = 499
"""Status of a request that was never answered, as proxies log it: its client went away."""
LAST_WORDS_SECONDS = 30.0
"""What a client is given to read an answer once the time for it is over."""
DRAINED_BODIES, DRAIN_SECONDS = 8, 5.0
"""How much of a body that is refused is read and thrown away, in largest bodies and in seconds.

A client reads no answer before it has sent its body, and the connection may be gone by then."""

PART_BYTES = 1 << 16
"""Of an answer, sent before it is waited until the client has taken them: its memory is held no longer than needed, and
the time of the exchange bounds the reading too."""
MOST_KEY_LINES = 60
"""Of the log, a minute, for requests with a wrong key: who guesses keys fills no disk."""

log = logging.getLogger(__name__)


class Guard:
    """Lets in what may enter, as a middleware of plain ASGI.

    Args:
        app: What answers.
        keys: As of `checked_key`. Any of them opens every route. None leaves all of them open.
        hosts: Names by which the server may be called, without ports; None allows any. A page of another site can
            point a name of its own at this machine, and would then be let in by the browser.
        limits: Of a body, and of the time of an answer. One that goes on for longer is not read, and is cut off.
        gauges: Where answers and refusals are counted.
    """

    def __init__(
        self, app: ASGIApp, *, keys: Sequence[str], hosts: Sequence[str] | None, limits: Limits, gauges: Gauges
    ) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]
        self._hosts = None if hosts is None else {host.lower() for host in hosts}
        self._limits = limits
        self._gauges = gauges
        self._num_held = 0  # bytes of bodies
        self._waiting: dict[_Exchange, asyncio.Timeout] = {}  # for more of a body
        self._key_lines = Ration(MOST_KEY_LINES)
        self._telling: asyncio.TimerHandle | None = None  # set while lines are withheld

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":  # start and end of the process
            await self._app(scope, receive, send)
            self._tell_withheld()
            return
        exchange = _Exchange(scope, send)
        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self._answer(exchange, scope, receive)
            else:
                await self._refuse(refusal, scope, receive, exchange.send)
        except ClientDisconnect:
            pass  # in the middle of its body
        except asyncio.CancelledError:  # the process ends, and has waited long enough
            if not exchange.has_begun:
                await shutting_down().response()(scope, receive, exchange.send)
        finally:
            self._num_held -= exchange.num_body_bytes
            self._gauges.answered(exchange.route, exchange.status)
            self._log(exchange, scope["method"])

    def _log(self, exchange: "_Exchange", method: str) -> None:
        if exchange.status == HTTPStatus.UNAUTHORIZED and not self._key_lines.take():
            if self._telling is None:
                self._telling = asyncio.get_running_loop().call_later(WINDOW_SECONDS, self._tell_withheld)
            return
        line = (exchange.request_id, method, exchange.route, exchange.status, 1000 * exchange.seconds)
        log.info("%s %s %s %d %.0f ms", *line)

    def _tell_withheld(self) -> None:
        """Tell how many lines were left out; a minute after the first of them, and when the process ends."""
        if self._telling is None:
            return
        self._telling.cancel()
        self._telling = None
        withheld = self._key_lines.take_withheld()
        log.warning("%d more requests had no key or a wrong one; their lines were left out.", withheld)

    async def _answer(self, exchange: "_Exchange", scope: Scope, receive: Receive) -> None:
        bound = asyncio.timeout(self._limits.body_seconds + self._limits.seconds + LAST_WORDS_SECONDS)
        try:
            async with bound:
                await self._app(scope, self._bounded(exchange, receive), exchange.send)
        except ClientDisconnect:
            raise
        except Exception as error:
            if bound.expired():
                log.warning("%s is cut off: its client does not read", exchange.request_id)
                problem = deadline_exceeded()
            else:
                log.error("%s failed: %s", exchange.request_id, trace_without_message(error))
                problem = internal_error()
            if not exchange.has_begun:
                await problem.response()(scope, receive, exchange.send)

    def _refusal(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            return invalid_host(host)
        if self._keys and not _is_open(scope) and not self._has_key(headers.get("authorization", "")):
            return invalid_api_key()
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers and "content-length" in headers:
            return ambiguous_length()
        if length.isdecimal() and int(length) > self._limits.max_body_bytes:
            return body_too_large(self._limits.max_body_bytes)
        return None

    def _has_key(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        as_sent = given.strip(" \t").encode("latin-1")
        # Every key is compared, so that the time tells nothing of which was nearly right.
        matches = [hmac.compare_digest(as_sent, key) for key in self._keys]
        return scheme.lower() == "bearer" and any(matches)

    async def _refuse(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        self._gauges.rejected(problem.code)
        if "expect" not in Headers(scope=scope):  # that client waits to be asked for its body
            await self._drain(receive)
        await problem.response()(scope, receive, send)

    def _bounded(self, exchange: "_Exchange", receive: Receive) -> Receive:
        """Return a channel that fails once a body, of whatever length it was declared, is too large or too slow."""
        due = asyncio.get_running_loop().time() + self._limits.body_seconds
        is_over = False

        async def bounded() -> Message:
            nonlocal is_over
            if is_over:  # what may still come is that the client leaves
                return await receive()
            try:
                async with asyncio.timeout_at(due) as self._waiting[exchange]:
                    message = await receive()
            except TimeoutError:
                problem = overloaded() if exchange.gives_way else body_too_slow(self._limits.body_seconds)
                raise self._rejected(problem) from None
            finally:
                self._waiting.pop(exchange, None)
            if exchange.gives_way:  # this part came before the word to give way was heard
                raise self._rejected(overloaded())
            is_over = not message.get("more_body", False)
            refusal = self._hold(exchange, len(message.get("body", b"")))
            if refusal is None:
                return message
            if not is_over:
                await self._drain(receive)
            raise self._rejected(refusal)

        return bounded

    def _hold(self, exchange: "_Exchange", num_bytes: int) -> Problem | None:
        """Count bytes of a body; returns what is wrong if they are too many."""
        exchange.num_body_bytes += num_bytes
        self._num_held += num_bytes
        if exchange.num_body_bytes > self._limits.max_body_bytes:
            return body_too_large(self._limits.max_body_bytes)
        while self._num_held > self._limits.max_held_bytes:
            older = [other for other in self._waiting if other.num_body_bytes and other.begun < exchange.begun]
            if not older:
                return overloaded()
            self._let_give_way(min(older, key=lambda other: other.begun))
        return None

    def _let_give_way(self, exchange: "_Exchange") -> None:
        """End a request whose body is long in coming, so that others have room."""
        exchange.gives_way = True
        self._num_held -= exchange.num_body_bytes
        exchange.num_body_bytes = 0
        wait = self._waiting.pop(exchange)
        if not wait.expired():
            wait.reschedule(0)

    def _rejected(self, problem: Problem) -> Refusal:
        self._gauges.rejected(problem.code)
        return Refusal(problem)

    async def _drain(self, receive: Receive) -> None:
        num_bytes, is_over = 0, False
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not is_over and num_bytes <= DRAINED_BODIES * self._limits.max_body_bytes:
                    message = await receive()
                    num_bytes += len(message.get("body", b""))
                    is_over = not message.get("more_body", False)
        except TimeoutError:
            pass  # a slow sender has to do without the reason


class _Exchange:
    """A request and what became of it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self.begun = monotonic()
        self.request_id = _request_id(Headers(scope=scope).get("x-request-id"))
        self.status = GONE
        self.has_begun = False
        self.num_body_bytes = 0
        self.gives_way = False
        """Whether its body was given up for those of others."""

    @property
    def seconds(self) -> float:
        return monotonic() - self.begun

    @property
    def route(self) -> str:
        """Template of the route that answered."""
        route = self._scope.get("route")
        return route.path if isinstance(route, Route | Mount) else UNKNOWN_ROUTE

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.has_begun = message["status"], True
            headers = MutableHeaders(scope=message)
            headers.update(SECURITY_HEADERS | {"X-Request-Id": self.request_id})
        for part in _parts(message):
            await self._send(part)


def _parts(message: Message) -> Iterator[Message]:
    """Give a message as messages whose bodies have `PART_BYTES` at most."""
    body = message.get("body", b"")
    if len(body) <= PART_BYTES:
        yield message
        return
    for begin in range(0, len(body), PART_BYTES):
        has_more = message.get("more_body", False) or begin + PART_BYTES < len(body)
        yield {"type": message["type"], "body": body[begin : begin + PART_BYTES], "more_body": has_more}


def _request_id(given: str | None) -> str:
    return given if given and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", given) else uuid.uuid4().hex


def _name_of(host: str) -> str:
    """Return the name in a header ``name:port`` or ``[address]:port``, in lower case."""
    return re.sub(r":\d*$", "", host.strip()).lower()


def _is_open(scope: Scope) -> bool:
    path = scope["path"]
    return scope["method"] in ("GET", "HEAD") and (path in OPEN_PATHS or path.startswith(OPEN_FOLDER))
