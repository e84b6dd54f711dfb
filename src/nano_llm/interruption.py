"""SIGINT and SIGTERM as requests to stop at the next good moment."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

GRACE_SECONDS = 30.0
"""What work may take to save after it was asked to stop; then it is killed."""


class Interrupted(BaseException):
    """The user or the system asked the process to stop; work can resume.

    Like KeyboardInterrupt it is no Exception, so that code which catches those does not swallow it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def exit_status(self) -> int:
        """Of a process that ends for this reason, by the custom of shells."""
        return 128 + signal.Signals[self.reason].value


class Interruption:
    """Notes SIGINT and SIGTERM while it is used as a context.

    While ``patient``, the first signal is only noted, for work that looks at `reason` at moments of its own; at
    other times, or the second time, it raises `Interrupted` on the spot.
    """

    def __init__(self, *, heeds_second: bool = True) -> None:
        """Prepare to listen.

        Args:
            heeds_second: Whether a second signal ends patient work; a launcher may pass one on that has come already.
        """
        self.patient = False
        self._heeds_second = heeds_second
        self.reason: str | None = None
        self._previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def __enter__(self) -> "Interruption":
        for number in self._previous:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        again = self.reason is not None and self._heeds_second
        self.reason = signal.Signals(number).name
        if again or not self.patient:
            raise Interrupted(self.reason)

    def settle(self) -> None:
        """Only note signals from here on, the second one too: what is left, such as saying how work ended, is short."""
        self.patient, self._heeds_second = True, False

    def raise_if_requested(self) -> None:
        """Stop here if a signal was noted.

        Raises:
            Interrupted: A signal was noted.
        """
        if self.reason is not None:
            raise Interrupted(self.reason)

    @contextlib.contextmanager
    def patiently(self) -> Iterator[None]:
        """Let a block end before a first signal counts; a second one still ends it on the spot.

        Raises:
            Interrupted: A signal was noted before or during the block.
        """
        self.patient = True
        try:
            yield
        finally:
            self.patient = False
        self.raise_if_requested()


def ignore_requests() -> None:
    """Let SIGINT and SIGTERM pass by outside of every `Interruption`, in a process that others tell when to stop."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
