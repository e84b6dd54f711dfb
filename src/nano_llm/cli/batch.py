"""A file of requests, answered line by line, and once only however often the command is started."""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import Progress

from nano_llm.cli.asking import NUM_ROWS
from nano_llm.errors import OutputError, RequestError
from nano_llm.files import GrowingFile, explained_writes
from nano_llm.generation.account import account
from nano_llm.generation.author import Author, Commission
from nano_llm.generation.request import SHARED_FIELDS, read_counterfactual_request, read_request

MAX_LINE = 1 << 20
"""Most characters of a request: a longer line is told to be wrong, not read."""
_BEGINNING = b'{"line": '


@dataclass
class _Asked:
    """A line of the file of requests."""

    number: int  # from 1
    line: str
    key: str  # changes with the line and with the options
    given_id: object = None
    commissions: list[Commission] = field(default_factory=list)
    error: str | None = None


def answer_requests(
    author: Author, requests: Path, answers: Path, defaults: dict[str, Any], *, fingerprint: str, censored: bool
) -> int:
    """Write the texts that each line of a file asks for, and one line of answer to each.

    A line is a JSON object with the fields of `read_request` or, if it has a ``text``, of
    `read_counterfactual_request`; ``id`` is handed through. A line that cannot be answered gets an ``error``.
    Lines that were answered before are not answered again. Texts that are written together are answered together: if
    some of these are missing, all are answered anew, so that the file ends as if it had been written in one go.

    Args:
        author: Of the texts.
        requests: The file of requests.
        answers: The file of answers, in the order of the requests; appended to.
        defaults: Fields of every request that does not have them.
        fingerprint: Of the author's checkpoint: no file has answers of two.
        censored: Whether explicit words are redacted.

    Returns:
        The number of lines, of all answers in the file, that could not be answered.

    Raises:
        RequestError: There is no file of requests, or the answers are to another one.
        OutputError: The answers cannot be written, or another command is writing them.
    """
    settings = json.dumps([fingerprint, defaults, censored], sort_keys=True)
    try:
        # Only line feeds part lines: JSON may hold the other characters that Unicode or a text file calls line ends.
        lines = requests.read_bytes().decode("utf-8-sig", errors="replace").split("\n")
    except OSError as error:
        raise RequestError(f"Cannot read the requests in {requests}: {error.strerror}.") from error
    asked = [
        _Asked(number, line, hashlib.sha256(f"{settings}\n{line}".encode()).hexdigest()[:16])
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    with _held(answers):
        done = _answered(answers, asked)
        # Half a character, as an id may hold one, is written as JSON spells it.
        with GrowingFile(answers, errors="backslashreplace") as out, Progress(transient=True) as progress:
            task = progress.add_task("requests", total=len(asked), completed=len(done))
            for batch in _batches(author, asked[len(done) :], defaults):
                answered = list(_answers(author, batch, censored=censored))
                out.add(*(json.dumps(answer, ensure_ascii=False) for answer in answered))
                done += answered
                progress.update(task, completed=len(done))
    num_failed = sum("error" in answer for answer in done)
    print(f"{len(done)} requests answered in {answers}, {num_failed} of them with an error")
    return num_failed


@contextlib.contextmanager
def _held(answers: Path) -> Iterator[None]:
    """Hold the file of answers against other commands, from before it is read; create it where it is not there.

    Raises:
        OutputError: Another command holds it, or it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        with explained_writes(answers):
            lock = stack.enter_context(answers.open("ab"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(
                    f"Another command is writing the answers in {answers}. Wait for it, stop it, or name another file "
                    "for --out."
                ) from None
        yield


def _answered(answers: Path, asked: list[_Asked]) -> list[dict[str, Any]]:
    """Return the answers that are there, and remove those of a batch that was cut off in writing."""
    try:
        *lines, cut_off = answers.read_bytes().split(b"\n")
        if not cut_off.startswith(_BEGINNING[: len(cut_off)]):
            raise ValueError("the last line does not begin as an answer does")
        done = [json.loads(line.decode()) for line in lines]
        keys = [answer["key"] for answer in done]
        num_whole = len(done) if len(done) == len(asked) else _num_in_whole_batches(done)
    except OSError as error:
        raise OutputError(f"Cannot go on with the answers in {answers}: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise RequestError(f"{answers} holds no answers of this command. Name another file for --out.") from error
    if keys != [request.key for request in asked[: len(keys)]]:
        raise RequestError(
            f"{answers} answers other requests, or the same by another model or under other options. Name another "
            "file for --out, or delete it."
        )
    # Only now that the file is known to be ours.
    if cut_off or num_whole < len(done):
        with explained_writes(answers):
            os.truncate(answers, sum(len(line) + 1 for line in lines[:num_whole]))
    return done[:num_whole]


def _num_in_whole_batches(done: list[dict[str, Any]]) -> int:
    """Return how many of the first answers are those of whole batches, as `_batches` makes them up."""
    num_whole = num_texts = 0
    for number, answer in enumerate(done, start=1):
        num_texts += len(answer.get("texts", ()))
        if num_texts >= NUM_ROWS:
            num_whole, num_texts = number, 0
    return num_whole


def _batches(author: Author, asked: list[_Asked], defaults: dict[str, Any]) -> Iterator[list[_Asked]]:
    """Read requests, and hand them on as soon as they make up as many texts as are written at once."""
    batch: list[_Asked] = []
    for request in asked:
        _read(author, request, defaults)
        batch.append(request)
        if sum(len(read.commissions) for read in batch) >= NUM_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _read(author: Author, request: _Asked, defaults: dict[str, Any]) -> None:
    """Turn a line into commissions, or into an error."""
    try:
        if len(request.line) > MAX_LINE:
            raise RequestError(f"The line has {len(request.line)} characters; at most {MAX_LINE} are read.")
        fields = json.loads(request.line)
        if not isinstance(fields, dict):
            raise RequestError(f'The line holds {type(fields).__name__}, not an object such as {{"outcome": "y1"}}.')
        request.given_id = _handed_through(fields.pop("id", None))
        if "text" in fields:
            own = {name: value for name, value in defaults.items() if name in SHARED_FIELDS}
            request.commissions = author.counterfactuals(read_counterfactual_request(own | fields))
        else:
            request.commissions = author.commissions(read_request(defaults | fields))
    except RequestError as error:
        request.error = str(error)
    except (ValueError, RecursionError) as error:
        request.error = f"The line is no JSON: {error}."


def _handed_through(given_id: object) -> object:
    """Return an id that an answer can hold: Python reads ``NaN`` and ``1e999``, which JSON has no word for.

    Raises:
        RequestError: It is none.
    """
    try:
        # A level deeper than an answer, so that writing it there cannot fail.
        json.dumps([[given_id]], allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The id cannot be written as JSON: {error}.") from error
    return given_id


def _answers(author: Author, batch: list[_Asked], *, censored: bool) -> Iterator[dict[str, Any]]:
    """Write the texts of some requests together."""
    drafts = iter(author.write([commission for request in batch for commission in request.commissions]))
    for request in batch:
        answer: dict[str, Any] = {"line": request.number, "key": request.key}
        if request.given_id is not None:
            answer["id"] = request.given_id
        if request.error is not None:
            yield answer | {"error": request.error}
            continue
        texts = [
            account(commission, next(drafts), author.tokenizer, censored=censored) for commission in request.commissions
        ]
        yield answer | {"texts": texts}
