"""Events: what the tokens of a text are keyed by, so that two branches of a text can share their noise.

| keys | key of token t | two branches share noise |
|---|---|---|
| ``event`` (default) | (sentence, token in the sentence) | again from the next sentence on, whatever their lengths |
| ``position`` | (0, t) | token by token |

Both count from 0. A sentence ends at a token whose text ends in ``.``, ``!`` or ``?``, that token included; the token
that ends a review takes the key that stands next. No key occurs twice in a branch.

    token      the     plot    is      dull    .       i       slept   .       [/REVIEW]
    event      (0, 0)  (0, 1)  (0, 2)  (0, 3)  (0, 4)  (1, 0)  (1, 1)  (1, 2)  (2, 0)
    position   (0, 0)  (0, 1)  (0, 2)  (0, 3)  (0, 4)  (0, 5)  (0, 6)  (0, 7)  (0, 8)

Axes: V vocabulary.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from nano_llm.data.arrays import BoolArray
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.generation.noise import Event


class EventKeys(StrEnum):
    """How events are counted."""

    event = "event"
    position = "position"


@dataclass(frozen=True, slots=True)
class EventClock:
    """Stands before a token of a branch; advancing it gives another clock, so branches may part anywhere."""

    keys: EventKeys
    ends_sentence_V: BoolArray = field(repr=False, compare=False)
    event: Event = (0, 0)
    """Key of the next token."""

    def after(self, token: int) -> "EventClock":
        """Return the clock as it stands once a token has been emitted."""
        sentence, index = self.event
        if self.keys is EventKeys.event and self.ends_sentence_V[token]:
            return EventClock(self.keys, self.ends_sentence_V, (sentence + 1, 0))
        return EventClock(self.keys, self.ends_sentence_V, (sentence, index + 1))

    def events_of(self, tokens: Iterable[int]) -> list[Event]:
        """Return the keys of tokens that are emitted in turn from here on."""
        events, clock = [], self
        for token in tokens:
            events.append(clock.event)
            clock = clock.after(token)
        return events


def ends_sentence_V(tokenizer: Tokenizer) -> BoolArray:
    """Return whether a sentence ends at each vocabulary entry, shape (V,); special tokens end none.

    Entries can be read as they are spelled: byte-level BPE spells the bytes of ``.``, ``!`` and ``?`` as themselves
    and no other byte so, and the special tokens end in ``>`` and ``]``.
    """
    return np.array([tokenizer.token(index).endswith((".", "!", "?")) for index in range(tokenizer.vocab_size)])
