"""A text in the making as its readers see it: token by token, without explicit words."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from nano_llm.generation.piece import Piece
from nano_llm.generation.redaction import REPLACEMENT, RedactionStream, Span
from nano_llm.generation.writer import Token


@dataclass(frozen=True, slots=True)
class Told:
    """A token as it is shown."""

    token: Token | None
    """None where text that was held back of earlier tokens comes at the end."""
    text: str
    """What it adds to the shown text."""
    offset: int
    """Where in the shown text that begins, in characters."""
    is_redacted: bool
    """Whether it is part of a redacted word; nothing else may be told of it then."""


class Teller:
    """Tells a text whose pieces come one after the other; made for one text and used once.

    A token is told once all its text may be shown, so never a part of it. The texts told join to the redacted text,
    whatever the pieces.
    """

    def __init__(self, *, censored: bool) -> None:
        self._redaction = RedactionStream() if censored else None
        self._waiting: deque[_Placed] = deque()
        self._raw = ""  # from the first token that waits on
        self._raw_begin = 0  # its place in the text
        self._num_shown = 0  # characters

    @property
    def num_redacted(self) -> int:
        """Words redacted so far."""
        return 0 if self._redaction is None else self._redaction.num_redacted

    def tell(self, piece: Piece) -> list[Told]:
        """Return the tokens that can be shown now; all that are left if the piece has the end."""
        text = "".join([token.text for token in piece.tokens]) + piece.tail
        place = self._raw_begin + len(self._raw)
        self._raw += text
        for token in piece.tokens:
            self._waiting.append(_Placed(token, place, place + len(token.text)))
            place += len(token.text)
        if piece.tail:
            self._waiting.append(_Placed(None, place, place + len(piece.tail)))
        is_over = piece.finish is not None
        if self._redaction is not None:
            self._redaction.push(text)
            if is_over:
                self._redaction.finish()
        return self._decided(is_over)

    def _decided(self, is_over: bool) -> list[Told]:
        """Take what can be shown from what waits."""
        end = self._raw_begin + len(self._raw) if self._redaction is None else self._redaction.num_released
        spans = deque([] if self._redaction is None else self._redaction.spans_from(self._raw_begin))
        decided: list[Told] = []
        alike: list[_Placed] = []  # tokens without text of their own have their part in the next that has
        told_to = self._raw_begin
        while self._waiting:
            if not is_over and self._waiting[0].end > end:
                break
            alike.append(self._waiting.popleft())
            if alike[-1].begin < alike[-1].end or (not self._waiting and is_over):
                decided += self._told(alike, spans)
                told_to, alike = alike[-1].end, []
        self._waiting.extendleft(reversed(alike))
        self._raw, self._raw_begin = self._raw[told_to - self._raw_begin :], told_to
        return decided

    def _told(self, alike: Sequence["_Placed"], spans: deque[Span]) -> list[Told]:
        """Tell tokens of which only the last has text, and drop the spans that end with it."""
        place = alike[-1]
        shown, begin, is_redacted = [], place.begin, False
        while spans and spans[0].start < place.end:
            span, is_redacted = spans[0], True
            shown.append(self._raw[begin - self._raw_begin : max(begin, span.start) - self._raw_begin])
            shown.append(REPLACEMENT if span.start >= place.begin else "")
            begin = min(span.end, place.end)
            if span.end > place.end:
                break
            spans.popleft()
        shown.append(self._raw[begin - self._raw_begin : place.end - self._raw_begin])
        offset, text = self._num_shown, "".join(shown)
        self._num_shown += len(text)
        told = [Told(placed.token, "", offset, is_redacted) for placed in alike[:-1]]
        return [*told, Told(place.token, text, offset, is_redacted)]


@dataclass(frozen=True, slots=True)
class _Placed:
    """A token, and where in the text it stands."""

    token: Token | None
    begin: int
    end: int
