"""How single tokens are spelled beside a text."""

from nano_llm.data.tokenizer import Tokenizer
from nano_llm.generation.redaction import redact


class Spelling:
    """Spells tokens of a model.

    Args:
        tokenizer: Of the model.
        censored: Whether listed words are redacted.
    """

    def __init__(self, tokenizer: Tokenizer, *, censored: bool) -> None:
        self._tokenizer = tokenizer
        self._censored = censored

    def text(self, token: int, *, is_first: bool = False) -> str:
        r"""Return a token as text.

        Special tokens are spelled by their names, and parts of a character as OpenAI does: ``bytes:\xe2\x82``.

        Args:
            token: Its id.
            is_first: Whether it begins its text, which then lacks the space that the token brings.
        """
        spelled = self.bytes(token)
        if not spelled:
            return self._tokenizer.token(token)
        try:
            text = spelled.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join([f"\\x{byte:02x}" for byte in spelled])
        if is_first and (self._tokenizer.drops_first_space or not self._tokenizer.has_markers):
            text = text.removeprefix(" ")
        return redact(text).text if self._censored else text

    def bytes(self, token: int) -> bytes:
        """Return the bytes of UTF-8 that a token adds to a text that has begun; none of a special token."""
        return self._tokenizer.bytes_V[token]
