"""How a review opens: the prompt before it, and the tokens that it begins with."""

from dataclasses import dataclass

from nano_llm.data.template import REVIEW_OPEN
from nano_llm.data.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Opening:
    """What a client gives of a review."""

    prompt: str | tuple[int, ...] | None = None
    """In the place of the training prompt, up to ``[REVIEW]`` if that is given; None leaves it."""
    begin: str | tuple[int, ...] = ""
    """What the review begins with."""


def opening_of_text(text: str) -> Opening:
    """Read a text: what the review begins with, or, with ``[REVIEW]`` in it, the prompt and that."""
    prompt, marker, begin = text.partition(REVIEW_OPEN)
    return Opening(prompt + marker, begin.removeprefix(" ")) if marker else Opening(begin=text)


def opening_of_instruction(text: str) -> Opening:
    """Read a text whose beginning is the prompt, whether or not ``[REVIEW]`` ends it; one of spaces leaves it as is."""
    prompt, marker, begin = text.partition(REVIEW_OPEN)
    return Opening(prompt + marker if text.strip() else None, begin.removeprefix(" "))


def opening_of_tokens(tokens: list[int], tokenizer: Tokenizer) -> Opening:
    """Read token ids as `opening_of_text` reads a text; a ``<bos>`` before them is taken as given."""
    given = tuple(tokens[1:] if tokens[:1] == [tokenizer.bos_id] else tokens)
    marker = tokenizer.encode_prompt(REVIEW_OPEN)[1:]
    # Spelled as text, by several tokens, the marker is not looked for.
    if len(marker) == 1 and marker[0] in given:
        end = given.index(marker[0]) + 1
        return Opening(given[:end], given[end:])
    return Opening(begin=given)
