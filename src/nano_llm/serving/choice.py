"""A choice of an answer: what is new of it, piece by piece, the same whether it is streamed or told at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nano_llm.generation.author import Commission
from nano_llm.generation.piece import Piece
from nano_llm.generation.redaction import redact
from nano_llm.generation.teller import Teller
from nano_llm.generation.writer import Finish, Token
from nano_llm.serving.opening import Opening
from nano_llm.serving.spelling import Spelling


@dataclass(frozen=True, slots=True)
class Shown:
    """A token as a client sees it."""

    spelled: str
    text: str
    """What it adds to the text."""
    offset: int
    """Where that begins in the text of the choice, in characters."""
    token: Token | None
    """None where nothing else is told: of a redacted token, of a prompt's, and of text that was held back."""
    is_redacted: bool = False
    is_first: bool = False
    """Whether the review begins with it."""


@dataclass(frozen=True, slots=True)
class News:
    """What is new of a choice."""

    text: str = ""
    shown: Sequence[Shown] = ()
    finish: Finish | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing new."""
        return not self.shown and self.finish is None and not self.text


def joined(news: Sequence[News]) -> News:
    """Return the news of one choice as one."""
    finish = next((one.finish for one in news if one.finish is not None), None)
    return News("".join([one.text for one in news]), [shown for one in news for shown in one.shown], finish)


@dataclass(slots=True)
class Choice:
    """A text that a client has asked for."""

    commission: Commission
    spelling: Spelling
    teller: Teller
    echo: bool = False
    """Whether what the review begins with is told too."""
    tokens: list[int] = field(default_factory=list)
    """New ones so far, whether or not they can be shown yet."""
    finish: Finish | None = None
    num_chars: int = 0
    """Of the text so far."""
    num_told: int = 0
    """Tokens of the review so far, those that it begins with included."""
    num_heard: int = 0

    def prompt(self, opening: Opening, censored: bool) -> News:
        """Return what the client's own prompt adds to the text, before the review; to be asked first."""
        tokenizer = self.spelling.tokenizer
        text = opening.prompt_text(tokenizer)
        text = redact(text).text if censored else text
        tokens = opening.prompt_tokens(tokenizer)
        shown = []
        for number, token in enumerate(tokens):
            offset = min(len(tokenizer.decode(tokens[:number], keep_special=True)), len(text))
            shown.append(Shown(self.spelling.text(token, is_first=number == 0), "", offset, None))
        self.num_chars = len(text)
        return News(text, shown)

    def hear(self, piece: Piece) -> News:
        """Take what the model wrote, and return what can be shown."""
        num_given = len(self.commission.order.begin)
        for token in piece.tokens:
            if self.num_heard >= num_given:
                self.tokens.append(token.index)
            self.num_heard += 1
        shown: list[Shown] = []
        for told in self.teller.tell(piece):
            is_own = self.echo or self.num_told + (told.token is not None) > num_given
            is_first = self.num_told == 0
            self.num_told += told.token is not None
            if not is_own:
                continue
            ...
        self.finish = piece.finish
        return News("".join([one.text for one in shown]), shown, piece.finish)
