"""A text in the making as its readers see it: token by token, without explicit words."""

from collections import deque
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
        decided: list[Told] = []
        while self._waiting:
            # A token without text of its own has its part in the next that comes.
            shown_with = next((placed for placed in self._waiting if placed.begin < placed.end), None)
            if not is_over and (shown_with is None or shown_with.end > end):
                break
            decided.append(self._told(self._waiting.popleft(), shown_with))
        return decided

    def _told(self, placed: "_Placed", shown_with: "_Placed | None") -> Told:
        spans = [] if self._redaction is None else self._redaction.spans_from(self._raw_begin)
        text = self._cut(placed, spans)
        offset = self._num_shown
        self._num_shown += len(text)
        is_redacted = shown_with is not None and any(
            span.start < shown_with.end and shown_with.begin < span.end for span in spans
        )
        self._raw = self._raw[placed.end - self._raw_begin :]
        self._raw_begin = placed.end
        return Told(placed.token, text, offset, is_redacted)

    def _cut(self, placed: "_Placed", spans: list[Span]) -> str:
        """Return the text of a place with each word that is redacted replaced where it begins."""
        shown, begin = [], placed.begin
        for span in spans:
            if span.start < placed.end and placed.begin < span.end:
                shown.append(self._raw[begin - self._raw_begin : max(begin, span.start) - self._raw_begin])
                shown.append(REPLACEMENT if span.start >= placed.begin else "")
                begin = min(span.end, placed.end)
        return "".join([*shown, self._raw[begin - self._raw_begin : placed.end - self._raw_begin]])


@dataclass(frozen=True, slots=True)
class _Placed:
    """A token, and where in the text it stands."""

    token: Token | None
    begin: int
    end: int
