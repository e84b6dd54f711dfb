"""How single tokens are spelled beside a text."""

from nano_llm.data.tokenizer import Tokenizer
from nano_llm.generation.redaction import redact


class Spelling:
    """Spells the tokens of a model.

    Args:
        tokenizer: Of the model.
        censored: Whether listed words are redacted.
    """

    def __init__(self, tokenizer: Tokenizer, *, censored: bool) -> None:
        self.tokenizer = tokenizer
        self.censored = censored
        self._known: dict[tuple[int, bool], str] = {}

    def text(self, token: int, *, is_first: bool = False) -> str:
        r"""Return a token as text.

        Special tokens are spelled by their names, and parts of a character as OpenAI has it: ``bytes:\xe2\x82``.

        Args:
            token: Its id.
            is_first: Whether it begins its text, which then lacks the space that the token brings.
        """
        if (token, is_first) not in self._known:
            self._known[token, is_first] = self._spell(token, is_first)
        return self._known[token, is_first]

    def bytes(self, token: int, *, is_first: bool = False) -> list[int]:
        """Return the bytes of UTF-8 of what `text` spells; those of a part of a character themselves."""
        spelled = self.tokenizer.bytes_V[token]
        try:
            spelled.decode()
        except UnicodeDecodeError:
            return list(spelled)
        return list(self.text(token, is_first=is_first).encode())

    def _spell(self, token: int, is_first: bool) -> str:
        spelled = self.tokenizer.bytes_V[token]
        if not spelled:
            return self.tokenizer.token(token)
        try:
            text = spelled.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join([f"\\x{byte:02x}" for byte in spelled])
        if is_first and (self.tokenizer.drops_first_space or not self.tokenizer.has_markers):
            text = text.removeprefix(" ")
        return redact(text).text if self.censored else text
