"""How a review opens: the prompt before it, and what it begins with."""

from collections.abc import Sequence
from dataclasses import dataclass

from nano_llm.data.template import REVIEW_OPEN
from nano_llm.data.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Opening:
    """What a client gives of a review, as text or as tokens."""

    prompt: str | tuple[int, ...] | None = None
    """In the place of the training prompt, ``[REVIEW]`` included, ``<bos>`` not; None leaves the training prompt."""
    begin: str | tuple[int, ...] = ""
    """What the review begins with."""

    def prompt_tokens(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Return the tokens of the prompt, if it is the client's."""
        if isinstance(self.prompt, str):
            return tuple(tokenizer.encode_prompt(self.prompt)[1:])
        return self.prompt or ()

    def prompt_text(self, tokenizer: Tokenizer) -> str:
        """Return the text before the review, if it is the client's, with the space that parts them."""
        if self.prompt is None:
            return ""
        prompt = self.prompt
        return f"{prompt if isinstance(prompt, str) else tokenizer.decode(prompt, keep_special=True)} "


def split_text(text: str) -> tuple[str, str]:
    """Return the prompt of a text, which ``[REVIEW]`` ends, or none; and what the review begins with."""
    prompt, marker, begin = text.partition(REVIEW_OPEN)
    return (prompt + marker, begin.removeprefix(" ")) if marker else ("", text)


def opening_of_text(text: str) -> Opening:
    """Read a text: what the review begins with or, with ``[REVIEW]`` in it, the prompt and that."""
    prompt, begin = split_text(text)
    return Opening(prompt or None, begin)


def opening_of_instruction(text: str) -> Opening:
    """Read a text that begins with the prompt, whether or not ``[REVIEW]`` ends it; spaces alone give none."""
    prompt, _, begin = text.partition(REVIEW_OPEN)
    return Opening(f"{prompt.rstrip()} {REVIEW_OPEN}" if text.strip() else None, begin.removeprefix(" "))


def opening_of_tokens(tokens: Sequence[int], tokenizer: Tokenizer) -> Opening:
    """Read token ids as `opening_of_text` reads a text, with or without ``<bos>`` before them."""
    given = tuple(tokens[1:] if [*tokens[:1]] == [tokenizer.bos_id] else tokens)
    marker = tokenizer.encode_prompt(REVIEW_OPEN)[1:]
    # A marker that several tokens spell is text like any other.
    if len(marker) == 1 and marker[0] in given:
        end = given.index(marker[0]) + 1
        return Opening(given[:end], given[end:])
    return Opening(begin=given)
