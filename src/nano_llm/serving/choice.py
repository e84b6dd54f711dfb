"""A choice of an answer: what is new of it, piece by piece, the same whether it is streamed or told at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from nano_llm.generation.author import Commission
from nano_llm.generation.piece import Piece
from nano_llm.generation.redaction import redact
from nano_llm.generation.teller import Teller
from nano_llm.generation.writer import Finish, Token
from nano_llm.serving.opening import Opening
from nano_llm.serving.spelling import Spelling


@dataclass(frozen=True, slots=True)
class Shown:
    """A token of a review, as a client sees it."""

    token: Token | None
    """None where text that was held back of earlier tokens comes at the end."""
    text: str
    """What it adds to the text."""
    offset: int
    """Where in the text of the choice that begins, in characters."""
    is_redacted: bool
    """Whether nothing else may be told of it."""
    is_first: bool
    """Whether the review begins with it."""


@dataclass(frozen=True, slots=True)
class News:
    """What is new of a choice."""

    text: str
    shown: Sequence[Shown] = ()
    finish: Finish | None = None
    prompt: Sequence[tuple[str, int]] = ()
    """Tokens before the review, spelled, and their offsets."""


NOTHING = News("")


def joined(news: Sequence[News]) -> News:
    """Return all that was new of a choice as one."""
    return News(
        text="".join([one.text for one in news]),
        shown=[shown for one in news for shown in one.shown],
        finish=next((one.finish for one in news if one.finish is not None), None),
        prompt=[token for one in news for token in one.prompt],
    )


class Choice:
    """A text in the making, as its client hears of it.

    Args:
        commission: The text.
        spelling: Of the model's tokens.
        with_begin: Whether what the review begins with is told too.
    """

    def __init__(self, commission: Commission, spelling: Spelling, *, with_begin: bool = False) -> None:
        self.commission = commission
        self.spelling = spelling
        self.tokens: list[int] = []
        """Those of the review so far, shown or not, without those it begins with."""
        self._teller = Teller(censored=spelling.censored)
        self._with_begin = with_begin
        self._num_heard = 0  # tokens of the review, those it begins with included
        self._num_told = 0  # of these
        self.num_chars = 0
        """Of the text so far."""

    @property
    def prompt(self) -> str:
        """What the model reads before the review."""
        prompt = self.commission.prompt
        return redact(prompt).text if self.spelling.censored else prompt

    @property
    def num_redacted(self) -> int:
        """Words redacted so far, those that the review begins with included."""
        return self._teller.num_redacted

    @property
    def is_ended_by_token(self) -> bool:
        """Whether the end of the review, if the model writes it, is a token that is no part of it."""
        return self.spelling.tokenizer.has_markers

    def repeat(self, opening: Opening) -> News:
        """Return what the client's own prompt adds to the text before the review; to be asked first, if at all."""
        tokenizer = self.spelling.tokenizer
        text = opening.prompt_text(tokenizer)
        if self.spelling.censored:
            text = redact(text).text
        tokens = opening.prompt_tokens(tokenizer)
        prompt = []
        for number, token in enumerate(tokens):
            begin = len(tokenizer.decode(tokens[:number], keep_special=True))
            prompt.append((self.spelling.text(token, is_first=number == 0), min(begin, len(text))))
        self.num_chars = len(text)
        return News(text, prompt=prompt)

    def hear(self, piece: Piece) -> News:
        """Take what the model wrote, and return what of it and of earlier pieces can be shown now."""
        num_given = len(self.commission.order.begin)
        heard = [token.index for token in piece.tokens]
        self.tokens += heard[max(num_given - self._num_heard, 0) :]
        self._num_heard += len(heard)
        shown = []
        for told in self._teller.tell(piece):
            is_first = self._num_told == 0
            self._num_told += told.token is not None
            if self._with_begin or self._num_told > num_given:
                shown.append(Shown(told.token, told.text, self.num_chars, told.is_redacted, is_first))
                self.num_chars += len(told.text)
        return News("".join([one.text for one in shown]), shown, piece.finish)
