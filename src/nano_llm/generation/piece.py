"""What is new of a text in the making."""

from dataclasses import dataclass

from nano_llm.generation.writer import Draft, Finish, Token


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of a draft, and its end if it has come."""

    tokens: tuple[Token, ...] = ()
    finish: Finish | None = None
    tail: str = ""
    """Text that was held back until the end."""


class Follower:
    """Reads a draft piece by piece."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self._num_read = 0  # tokens

    def piece(self) -> Piece:
        """Return what is new since the last call; not to be called after the piece that has the end."""
        tokens = tuple(self.draft.tokens[self._num_read :])
        self._num_read += len(tokens)
        return Piece(tokens, self.draft.finish, self.draft.tail)
