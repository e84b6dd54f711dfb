"""What may happen no more than so many times a minute, whoever makes it happen: lines of a log that strangers cause."""

from time import monotonic

WINDOW_SECONDS = 60.0


class Ration:
    """Counts what happens, in windows of a minute, and tells what is too much.

    Args:
        most: How often it may happen in each window.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._window_end = 0.0
        self._num_taken = 0
        self._num_withheld = 0

    def take(self) -> bool:
        """Count one more; returns whether it may happen."""
        now = monotonic()
        if now >= self._window_end:
            self._window_end, self._num_taken = now + WINDOW_SECONDS, 0
        self._num_taken += 1
        if self._num_taken > self._most:
            self._num_withheld += 1
            return False
        return True

    def take_withheld(self) -> int:
        """Return how many were too much since this was asked the last time."""
        withheld, self._num_withheld = self._num_withheld, 0
        return withheld
