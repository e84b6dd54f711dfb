"""A text in the making as its readers see it: piece by piece, without explicit words."""

from nano_llm.generation.redaction import RedactionStream
from nano_llm.generation.writer import Draft


class Teller:
    """Tells what is new of one draft. Whatever the steps in which it is asked, the pieces join to the redacted text."""

    def __init__(self, draft: Draft, *, censored: bool) -> None:
        self.draft = draft
        self.has_begun = False  # asked at all
        self._num_told = 0  # tokens
        self._redaction = RedactionStream() if censored else None
        self._is_over = False

    def news(self) -> str:
        """Return what can be shown since the last call; once the draft is finished, all that is left."""
        self.has_begun = True
        tokens = self.draft.tokens[self._num_told :]
        self._num_told += len(tokens)
        is_end = self.draft.finish is not None and not self._is_over
        text = "".join([token.text for token in tokens]) + (self.draft.tail if is_end else "")
        self._is_over = self._is_over or is_end
        if self._redaction is None:
            return text
        return self._redaction.push(text) + (self._redaction.finish() if is_end else "")
