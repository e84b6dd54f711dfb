"""Finished texts that no model wrote."""

from collections.abc import Sequence
from typing import Any

from nano_llm.generation.writer import Draft, Finish, Token


def draft_of(pieces: Sequence[str], *, tail: str = "", finish: Finish | None = Finish.end) -> Draft:
    """A draft whose tokens show these pieces; token n has the index n."""
    nothing: Any = None
    tokens = [
        Token(index, piece, (-1.0, -2.0), 0.1, -1.0, 0.5, (((0, -1.0),), ((1, -2.0),)), ((0, -1.0),))
        for index, piece in enumerate(pieces)
    ]
    return Draft(nothing, nothing, nothing, nothing, nothing, tokens, finish, tail)
