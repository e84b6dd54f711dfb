"""What writing needs to know of a tokenizer: what may be drawn, what ends a text, and what ends a sentence.

Axis: V vocabulary.
"""

from functools import cached_property

import numpy as np

from nano_llm.data.arrays import BoolArray
from nano_llm.data.template import MARKERS, REVIEW_CLOSE, SPECIALS
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.generation.events import ends_sentence_V


class Vocabulary:
    """The tokens of a model by their parts in a text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    @cached_property
    def ends(self) -> frozenset[int]:
        """Tokens that end a text and are no part of it."""
        # The reference's tokenizer spells markers as text, so only <eos> can.
        return frozenset(self.tokenizer.end_ids if self.tokenizer.has_markers else (self.tokenizer.eos_id,))

    @cached_property
    def end_strings(self) -> tuple[str, ...]:
        """How the reference's tokenizer spells the end of a text, of which it is no part."""
        return () if self.tokenizer.has_markers else (f" {REVIEW_CLOSE}", REVIEW_CLOSE)

    @cached_property
    def ending(self) -> tuple[int, ...]:
        """The tokens by which a text that is over goes on."""
        if self.tokenizer.has_markers:
            return self.tokenizer.end_ids[:1]
        return tuple(self.tokenizer.encode(self.end_strings[0]))

    @property
    def has_leading_space(self) -> bool:
        """Whether the space behind the prompt is written with the text, as under the reference's tokenizer."""
        return not self.tokenizer.has_markers

    @cached_property
    def allowed_V(self) -> BoolArray:
        """What may be drawn: text and ends, no other markup."""
        markup = {*SPECIALS, *MARKERS} if self.tokenizer.has_markers else {*SPECIALS}
        entries = [self.tokenizer.token(index) for index in range(self.tokenizer.vocab_size)]
        return np.array([entry not in markup or index in self.ends for index, entry in enumerate(entries)])

    @cached_property
    def ends_sentence_V(self) -> BoolArray:
        """Whether a sentence ends at each token."""
        return ends_sentence_V(self.tokenizer)
