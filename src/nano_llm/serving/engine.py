"""One thread that owns the model and writes the texts of all clients side by side.

A text joins the others as soon as a row is free and leaves at its end; what is asked first is begun first. Tickets are
of the event loop on which they were asked for; nothing but immutable pieces passes between the threads.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from nano_llm.errors import RequestError
from nano_llm.generation.author import Author, Commission
from nano_llm.generation.piece import Follower, Piece
from nano_llm.generation.request import CounterfactualRequest
from nano_llm.generation.writer import Draft
from nano_llm.serving.fault import trace_without_message

log = logging.getLogger(__name__)

_MOST_READ = 512  # tokens between two steps, unless a text has more: texts that are being written wait for them


class EngineError(Exception):
    """Why a request that makes sense was not carried out."""


class Overloaded(EngineError):
    """The queue is full."""


class Closing(EngineError):
    """The engine takes no more requests, or has ended this one, because it shuts down."""


class Overdue(EngineError):
    """The time of the request was over before its texts were."""


class ModelFailed(EngineError):
    """The model raised an error, which is logged."""


_Event = Sequence[Commission] | dict[int, Piece] | Exception | None


class Ticket:
    """A request at the engine, as seen from the event loop."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[_Event] = asyncio.Queue()
        self._wake = wake
        self._is_cancelled = False

    async def begun(self) -> Sequence[Commission]:
        """Wait until the texts are about to be written, and return what they are; to be called first, and once.

        Raises:
            EngineError: It did not come to that.
            RequestError: What was asked cannot be done.
        """
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        assert isinstance(event, Sequence)
        return event

    def __aiter__(self) -> "Ticket":
        """Return the pieces as they come."""
        return self

    async def __anext__(self) -> dict[int, Piece]:
        """Wait for the next step and return what is new, by the place of the text among those asked for.

        Waiting may be given up and begun again, and nothing is lost.

        Raises:
            StopAsyncIteration: All texts have ended.
            EngineError: The rest will not be written.
        """
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        if event is None:
            raise StopAsyncIteration
        assert isinstance(event, dict)
        return event

    def cancel(self) -> None:
        """Give up what is not written; may be called at any time."""
        if not self._is_cancelled:
            self._is_cancelled = True
            self._wake()

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits for the texts any more."""
        return self._is_cancelled or self._loop.is_closed()

    def send(self, event: _Event) -> None:
        """Tell what has happened; called by the model's thread."""
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the loop was closed, so nobody waits
            self._is_cancelled = True


@dataclass(eq=False, slots=True)
class _Job:
    """A request at the engine, as seen from the model's thread."""

    ticket: Ticket
    asked: Sequence[Commission] | CounterfactualRequest
    num_left: int  # texts that have not ended
    deadline: float  # of `time.monotonic`
    waiting: deque[tuple[int, Commission]] = field(default_factory=deque)  # place among the texts of the request
    is_prepared: bool = False


@dataclass(eq=False, slots=True)
class _Text:
    """A text that is being written."""

    job: _Job
    place: int
    follower: Follower


_Chosen = tuple[_Job, int, Commission]
"""A text that is to be begun: of which request, its place among the texts of that, and what it is."""


@dataclass(eq=False, slots=True)
class _Beginning:
    """Texts that are being begun, part by part."""

    chosen: Sequence[_Chosen]
    parts: Generator[None, None, list[Draft]]


class Engine:
    """Writes for many clients at once.

    Args:
        author: Used by no one else from `start` on, but for `Author.commissions`, which reads no model.
        num_waiting: Texts that may wait for a row.
        thread: Of one worker, which becomes the model's; ended by `close`. Where the author was opened by another
            thread, small operations take half as long again: each thread has helpers of its own, and as soon as there
            are more than cores, OpenMP lets them sleep between operations.
    """

    def __init__(self, author: Author, *, num_waiting: int, thread: ThreadPoolExecutor | None = None) -> None:
        self._author = author
        self._num_places = author.writer.contexts.num_rows + num_waiting
        self._change = threading.Condition()  # guards what follows
        self._jobs: deque[_Job] = deque()  # with texts that are not begun
        self._num_admitted = 0  # texts
        self._is_open = False
        self._is_closed = False
        self._has_failed = False
        self._close_at = float("inf")
        self._writing: dict[Draft, _Text] = {}  # of the model's thread, as what follows
        self._beginning: _Beginning | None = None
        self._to_begin: deque[Sequence[_Chosen]] = deque()  # one by one, since they could not be begun together
        self._thread = thread or ThreadPoolExecutor(1)
        self._running: Future[None] | None = None

    def start(self) -> None:
        """Begin to take requests."""
        self._is_open = True
        self._running = self._thread.submit(self._run)

    @property
    def is_alive(self) -> bool:
        """Whether the model's thread runs."""
        return self._running is not None and not self._running.done() and not self._has_failed

    @property
    def is_open(self) -> bool:
        """Whether requests are taken."""
        return self._is_open and self.is_alive

    @property
    def num_running(self) -> int:
        """Texts that are being written."""
        return len(self._writing)

    @property
    def num_waiting(self) -> int:
        """Texts that wait for a row."""
        return max(self._num_admitted - len(self._writing), 0)

    def submit(self, commissions: Sequence[Commission], *, seconds: float) -> Ticket:
        """Ask for texts.

        Args:
            commissions: Of the engine's author.
            seconds: What they may take, waiting included.

        Raises:
            Overloaded: There is no place for so many texts in the queue.
            Closing: The engine shuts down.
            ModelFailed: The model's thread has died.
        """
        return self._admit(commissions, len(commissions), seconds)

    def submit_review(self, request: CounterfactualRequest, *, seconds: float) -> Ticket:
        """Ask for the counterfactuals of a review; arguments and errors as in `submit`."""
        return self._admit(request, request.num_draws, seconds)

    def drain(self, seconds: float) -> None:
        """Take no more requests, and end after some seconds those that are not over."""
        with self._change:
            self._is_open = False
            self._close_at = time.monotonic() + seconds
            self._change.notify()

    def close(self) -> None:
        """End all requests and the model's thread."""
        with self._change:
            self._is_open = False
            self._is_closed = True
            self._change.notify()
        self._thread.shutdown()

    def _admit(self, asked: Sequence[Commission] | CounterfactualRequest, num_texts: int, seconds: float) -> Ticket:
        ticket = Ticket(self._notify)
        with self._change:
            if self._has_failed:
                raise ModelFailed
            if not self._is_open:
                raise Closing
            if self._num_admitted + num_texts > self._num_places:
                raise Overloaded
            self._num_admitted += num_texts
            self._jobs.append(_Job(ticket, asked, num_texts, time.monotonic() + seconds))
            self._change.notify()
        return ticket

    def _notify(self) -> None:
        with self._change:
            self._change.notify()

    # -------------------------------------------------------------------------------- on the model's thread

    def _run(self) -> None:
        try:
            while self._wait():
                self._end_overdue()
                self._begin()
                if self._writing:
                    self._step()
            for job in self._current_jobs():
                self._end(job, Closing())
        except Exception as error:
            log.critical("The model's thread has died: %s", trace_without_message(error))
            self._give_up()

    def _give_up(self) -> None:
        """End every request, and take no more. The writer, which may be what has failed, is not asked."""
        with self._change:
            self._has_failed = True
            self._is_open = False
            jobs = self._current_jobs()
            self._jobs.clear()
            self._writing.clear()
            self._to_begin.clear()
            self._beginning = None
            self._num_admitted = 0
        for job in jobs:
            job.ticket.send(ModelFailed())

    def _wait(self) -> bool:
        """Wait for something to do; returns whether there is more to come."""
        with self._change:
            while not (self._is_closed or self._jobs or self._writing or self._beginning or self._to_begin):
                self._change.wait()
            return not self._is_closed

    def _current_jobs(self) -> list[_Job]:
        with self._change:
            writing = [text.job for text in self._writing.values()]
            beginning = [job for group in self._groups_begun() for job, _, _ in group]
            return list(dict.fromkeys([*writing, *beginning, *self._jobs]))

    def _groups_begun(self) -> list[Sequence[_Chosen]]:
        return [*([self._beginning.chosen] if self._beginning else []), *self._to_begin]

    def _end_overdue(self) -> None:
        """End what nobody waits for, and what has taken too long."""
        now = time.monotonic()
        for job in self._current_jobs():
            if job.ticket.is_cancelled:
                self._end(job, None)
            elif now >= self._close_at:
                self._end(job, Closing())
            elif now >= job.deadline:
                self._end(job, Overdue())

    def _begin(self) -> None:
        """Go on with what is being begun, for as long as a step or two takes, or find what may be begun next."""
        if self._beginning is None:
            chosen = self._to_begin.popleft() if self._to_begin else self._choose()
            if not chosen:
                return
            self._beginning = _Beginning(chosen, self._author.writer.beginning([order.order for *_, order in chosen]))
        beginning = self._beginning
        try:
            next(beginning.parts)
        except StopIteration as end:
            self._beginning = None
            self._follow(beginning.chosen, end.value)
        except Exception as error:
            self._beginning = None
            if len(beginning.chosen) == 1:
                self._fail({beginning.chosen[0][0]}, error)
            else:  # that of another is no fault of theirs
                self._to_begin += [[one] for one in beginning.chosen if one[0].num_left]

    def _choose(self) -> list[_Chosen]:
        """Return the texts that have waited longest, as many as there are rows for and as are read in a moment."""
        chosen: list[_Chosen] = []
        starts: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()  # equal ones are read once
        while len(chosen) < self._author.writer.num_free:
            with self._change:
                job = self._jobs[0] if self._jobs else None
            if job is None or (chosen and isinstance(job.asked, CounterfactualRequest)):
                break  # a review takes long enough to find out what it asks for
            if not (job.is_prepared or self._prepare(job)):
                break
            place, commission = job.waiting[0]
            start = commission.order.prompt, commission.order.begin
            if start not in starts and sum(len(part) for known in starts for part in known) >= _MOST_READ:
                break
            starts.add(start)
            job.waiting.popleft()
            chosen.append((job, place, commission))
            if not job.waiting:
                with self._change:
                    self._jobs.popleft()
        return chosen

    def _follow(self, chosen: Sequence[_Chosen], drafts: Sequence[Draft]) -> None:
        """Write on what was begun, but for texts that were given up in the meantime."""
        for draft, (job, place, _) in zip(drafts, chosen, strict=True):
            if job.num_left:
                self._writing[draft] = _Text(job, place, Follower(draft))
            else:
                self._author.writer.cancel(draft)
        begun = [draft for draft in drafts if draft in self._writing]
        self._tell([draft for draft in begun if draft.tokens or draft.finish is not None])

    def _prepare(self, job: _Job) -> bool:
        """Find out which texts a request asks for; returns whether they can be written."""
        asked = job.asked
        try:
            commissions = self._author.counterfactuals(asked) if isinstance(asked, CounterfactualRequest) else asked
        except RequestError as error:
            self._end(job, error)
            return False
        except Exception as error:
            self._fail({job}, error)
            return False
        job.waiting.extend(enumerate(commissions))
        job.is_prepared = True
        job.ticket.send(tuple(commissions))
        return True

    def _step(self) -> None:
        try:
            stepped = self._author.writer.step()
        except Exception as error:
            self._fail({text.job for text in self._writing.values()}, error)
            return
        self._tell(stepped)

    def _tell(self, drafts: Sequence[Draft]) -> None:
        """Send each request what is new of its texts."""
        news: dict[_Job, dict[int, Piece]] = {}
        for draft in drafts:
            text = self._writing[draft]
            piece = text.follower.piece()
            news.setdefault(text.job, {})[text.place] = piece
            if piece.finish is not None:
                del self._writing[draft]
                text.job.num_left -= 1
                with self._change:
                    self._num_admitted -= 1
        for job, pieces in news.items():
            job.ticket.send(pieces)
            if job.num_left == 0:
                job.ticket.send(None)

    def _fail(self, jobs: set[_Job], error: Exception) -> None:
        log.error("The model failed: %s", trace_without_message(error))
        for job in jobs:
            self._end(job, ModelFailed())

    def _end(self, job: _Job, reason: Exception | None) -> None:
        """Give up the texts of a request that are not over; without a reason nobody is told."""
        for draft in [draft for draft, text in self._writing.items() if text.job is job]:
            self._author.writer.cancel(draft)
            del self._writing[draft]
        with self._change:
            if job in self._jobs:
                self._jobs.remove(job)
            self._num_admitted -= job.num_left
        job.num_left = 0
        job.waiting.clear()
        self._to_begin = deque(group for group in self._to_begin if group[0][0].num_left)
        if self._beginning and not any(other.num_left for other, _, _ in self._beginning.chosen):
            self._beginning.parts.close()
            self._beginning = None
        if reason is not None:
            job.ticket.send(reason)
