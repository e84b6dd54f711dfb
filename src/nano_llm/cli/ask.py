"""``nano-llm ask``: a request to a server, for shells that mangle quotes; needs nothing but the standard library."""

import argparse
import codecs
import http.client
import json
import os
import ssl
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

from nano_llm.cli.asking import HEADINGS
from nano_llm.errors import RequestError, ServingError
from nano_llm.serving.key import KEY_VARIABLE, checked_key

SILENCE_SECONDS = 180.0
"""How long a server may say nothing at all; it says something every few seconds while a request waits."""
HINT = "See whether --url is a server of `nano-llm serve`, and whether --route is one of its routes."
OUTCOMES: dict[str, int | str] = {"y0": 0, "y1": 1, "both": "both", "mixture": "mixture"}
OPTIONS = ("tokens", "num", "seed", "temperature", "stop", "outcome", "steer", "strength")


def main(arguments: Sequence[str]) -> int:
    """Send one request and print the answer as it comes."""
    given = _parser().parse_args(arguments)
    if given.body is None:
        body, route = json.dumps(_fields(given)), "/v1/completions"
    else:
        _refuse_options(given)
        body, route = _read("--body", given.body), given.route
    with _Server(given.url, _key(given)) as server:
        response = server.post(route, body)
        if response.getheader("Content-Type", "").startswith("text/event-stream"):
            show_stream(events_of(response), _headings(body), sys.stdout)
        else:
            _write(f"{_pretty(_whole(response))}\n", sys.stdout)
    return 0


def _key(given: argparse.Namespace) -> str | None:
    if given.api_key is not None:
        return checked_key(given.api_key, "--api-key")
    variable = os.environ.get(KEY_VARIABLE)
    return checked_key(variable, KEY_VARIABLE) if variable else None


def _fields(given: argparse.Namespace) -> dict[str, Any]:
    """Return the request that the options make."""
    prompt = given.prompt or ""
    if given.file is not None:
        if given.prompt is not None:
            raise RequestError("A prompt and --file are two prompts: give one of them.")
        prompt = _read("--file", given.file)
    extension = {"outcome": OUTCOMES.get(given.outcome), "steer": _steer(given)}
    prompt = prompt.removesuffix("\n")
    fields = {
        "prompt": prompt,
        "echo": True if prompt else None,  # so that the whole review is shown
        "stream": True,
        "max_tokens": given.tokens,
        "n": given.num,
        "seed": given.seed,
        "temperature": given.temperature,
        "stop": given.stop,
        "nano_llm": {name: value for name, value in extension.items() if value is not None} or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _steer(given: argparse.Namespace) -> dict[str, Any] | None:
    if given.steer is None:
        if given.strength is not None:
            raise RequestError("--strength is that of --steer: give both.")
        return None
    return {"mode": given.steer} | ({} if given.strength is None else {"strength": given.strength})


def _refuse_options(given: argparse.Namespace) -> None:
    for name in ("prompt", "file", *OPTIONS):
        if vars(given)[name] is not None:
            spelled = "a prompt" if name == "prompt" else f"--{name}"
            raise RequestError(f"--body is the whole request: leave out {spelled}, or put it into the body.")


def _read(option: str, name: str) -> str:
    """Return what a file or the standard input has, whatever mark some editors and shells put before it."""
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            f"{option}: cannot read {name}: {error}. Name a text file, or - for standard input."
        ) from error
    return text.replace("\r\n", "\n")


def _headings(body: str) -> tuple[str, ...]:
    """Return how the texts of a request are announced, by their index and over and over."""
    try:
        fields = json.loads(body)
    except ValueError:  # which the server will say
        return ("",)
    extension = fields.get("nano_llm") if isinstance(fields, dict) else None
    both = isinstance(extension, dict) and extension.get("outcome") == "both"
    if both or (isinstance(fields, dict) and fields.get("both_reviews") is True):
        return tuple(f"{HEADINGS[outcome]}: " for outcome in (0, 1))
    return ("",)


# ---------------------------------------------------------------------------------------- the server


class _Server:
    """A connection to a server, to be used as a context.

    Args:
        url: Of the server.
        key: As of `checked_key`.

    Raises:
        RequestError: The address is none.
    """

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url.rstrip("/")
        self._key = key
        wrong = RequestError(f"--url {url!r}: give an address such as http://127.0.0.1:18080.")
        try:
            parts = urlsplit(self._url)
            if parts.scheme not in ("http", "https") or not parts.hostname or not _is_path(parts.path):
                raise wrong
            parts.hostname.encode("idna")
            kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
            self._connection = kind(parts.hostname, parts.port, timeout=SILENCE_SECONDS)
        except (ValueError, http.client.InvalidURL) as error:
            raise wrong from error
        # OpenAI's clients are given the address with the version, which the routes here begin with.
        self._folder = parts.path.removesuffix("/v1")

    def __enter__(self) -> "_Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()  # which also tells the server that nobody waits any more

    def post(self, route: str, body: str) -> http.client.HTTPResponse:
        """Send a body and return the answer, of which nothing is read yet.

        Raises:
            RequestError: The route is none.
            ServingError: No server is there, or it refuses.
        """
        if not route or not _is_path(route):
            raise RequestError(f"--route {route!r}: give one of the server's, such as /v1/completions.")
        route = f"/{route.removeprefix('/')}"
        headers: dict[str, str | bytes] = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}".encode()
        try:
            self._connection.request("POST", self._folder + route, body.encode(), headers)
            response = self._connection.getresponse()
            if response.status < http.client.BAD_REQUEST:
                return response
            content = response.read()
        except ssl.SSLError as error:
            raise ServingError(
                f"{self._url} answers, but not by TLS ({error}). Give an address that begins with http://, or one "
                "whose certificate this machine knows."
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise ServingError(
                f"No server answers at {self._url} ({error}). Start one by `nano-llm serve RUN`, or give its --url."
            ) from error
        raise ServingError(_message_of(content) or f"{self._url}{route} answers {response.status} {response.reason}.")


def _is_path(text: str) -> bool:
    """Return whether text can stand in the first line of a request."""
    return text.isascii() and text.isprintable() and " " not in text


def events_of(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Read the events of a stream until the last one.

    Raises:
        ServingError: One is an error, or there is no last one.
    """
    is_last = False
    try:
        for line in lines:
            name, _, value = line.decode().rstrip("\r\n").partition(": ")
            if name == "event":
                is_last = value == "end"
            elif name == "data" and value == "[DONE]":
                return
            elif name == "data":
                message = _message_of(value)
                if message is not None:
                    raise ServingError(message)
                yield _event(value)
                if is_last:
                    return
    except (OSError, http.client.HTTPException) as error:
        raise ServingError(f"The answer broke off ({error}).") from error
    raise ServingError("The answer broke off; the server has gone.")


def _event(value: str) -> dict[str, Any]:
    try:
        event = json.loads(value)
    except ValueError as error:
        raise ServingError(f"An event of the answer is not JSON. {HINT}") from error
    if not isinstance(event, dict):
        raise ServingError(f"An event of the answer is no JSON object. {HINT}")
    return event


def _message_of(content: str | bytes) -> str | None:
    """Return the message of an error object, if that is what was sent."""
    try:
        message = json.loads(content)["error"]["message"]
    except (ValueError, TypeError, KeyError):
        return None
    return _plain(str(message))


# --------------------------------------------------------------------------------------- the terminal


def _write(text: str, out: TextIO) -> None:
    """Write what a server sent; to a terminal without what would steer it."""
    out.write(_plain(text) if out.isatty() else text)
    out.flush()


def _plain(text: str) -> str:
    return "".join(character for character in text if character in "\n\t" or unicodedata.category(character) != "Cc")


def show_stream(events: Iterable[dict[str, Any]], headings: Sequence[str], out: TextIO) -> None:
    """Show texts one below the other: the first that is not whole grows, later ones wait."""
    waiting: dict[int, str] = {}
    ends: dict[int, str] = {}
    current, has_begun = 0, False
    for event in events:
        headings = _announced(event) or headings
        for index, text, end in _pieces_of(event):
            waiting[index] = waiting.get(index, "") + text
            if end is not None:
                ends[index] = end
        while current in waiting:
            _write(waiting[current] if has_begun else headings[current % len(headings)] + waiting[current], out)
            waiting[current], has_begun = "", True
            if current not in ends:
                break
            out.write(" [...]\n\n" if ends[current] == "length" else "\n\n")
            current, has_begun = current + 1, False


def _pieces_of(event: dict[str, Any]) -> Iterator[tuple[int, str, str | None]]:
    """Return what an event of any route adds: index of the text, what is new of it, why it has ended."""
    for choice in event.get("choices", ()):
        text = choice["text"] if "text" in choice else choice["delta"].get("content")
        yield choice["index"], text or "", choice["finish_reason"]
    for index, column in enumerate(event.get("columns", ())):
        if isinstance(column, list):
            yield index, "".join(token["text"] for token in column), None
        elif isinstance(column, dict) and "finish_reason" in column:
            yield index, "", column["finish_reason"]


def _announced(event: dict[str, Any]) -> list[str]:
    """Return the headings that the first event of /v1/counterfactual gives."""
    columns = [column for column in event.get("columns", ()) if isinstance(column, dict) and "outcome" in column]
    return [f"{HEADINGS[column['outcome']]}: " for column in columns]


def _whole(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServingError(f"The answer broke off ({error}).") from error


def _pretty(content: bytes) -> str:
    try:
        return json.dumps(json.loads(content), ensure_ascii=False, indent=2)
    except ValueError as error:
        raise ServingError(f"The answer is not JSON. {HINT}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nano-llm ask",
        description="Ask a server that `nano-llm serve` started, and print the answer while it comes.",
        epilog="examples: nano-llm ask 'the lead is' --outcome both   |   nano-llm ask --body request.json",
    )
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="what the review begins with; default: nothing")
    parser.add_argument("--file", metavar="FILE", help="the prompt: a text file, or - for standard input")
    parser.add_argument("--url", default="http://127.0.0.1:18080", help="of the server; default: %(default)s")
    parser.add_argument("--api-key", metavar="KEY", help=f"of the server; default: {KEY_VARIABLE}")
    asked = parser.add_argument_group("what is asked for")
    asked.add_argument("--outcome", choices=[*OUTCOMES], help="y0 negative, y1 positive; default: the server's")
    asked.add_argument("--num", type=int, help="texts of each outcome; default: 1")
    asked.add_argument("--tokens", type=int, help="most tokens of a text; default: the server's")
    asked.add_argument("--seed", type=int, help="the same seed gives the same text; default: drawn by the server")
    asked.add_argument("--temperature", type=float, help="0 takes the likeliest token; default: 1")
    asked.add_argument("--stop", action="append", metavar="TEXT", help="ends a text; may be given several times")
    asked.add_argument("--steer", choices=["plain", "contrast", "cfg", "posterior"], help="default: plain")
    asked.add_argument("--strength", type=float, help="of the steering")
    body = parser.add_argument_group("a request of your own")
    body.add_argument("--body", metavar="FILE", help="a JSON body, sent as it is: a file, or - for standard input")
    body.add_argument("--route", default="/v1/completions", help="where it is sent; default: %(default)s")
    return parser
