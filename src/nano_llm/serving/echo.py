"""What the client's own prompt adds to a text that is to begin with it."""

import math

from nano_llm.generation.piece import Piece
from nano_llm.generation.teller import Teller
from nano_llm.generation.writer import Finish, Token
from nano_llm.serving.choice import News
from nano_llm.serving.opening import Opening
from nano_llm.serving.spelling import Spelling


def echo_of(opening: Opening, spelling: Spelling) -> News:
    """Return what stands before the review, with the space that parts them; nothing of the model's own prompt.

    A ``<bos>`` that came with the prompt has a place among its tokens, and no text.
    """
    tokenizer = spelling.tokenizer
    bos = [(tokenizer.token(tokenizer.bos_id), 0)] if opening.has_bos else []
    if opening.prompt is None:
        return News("", prompt=bos)
    stream = tokenizer.stream(keep_special=True)
    tokens = tuple([_unscored(index, stream.push(index)) for index in opening.prompt_tokens(tokenizer)])
    told = Teller(censored=spelling.censored).tell(Piece(tokens, Finish.length, f"{stream.finish()} "))
    prompt = []
    for place, one in enumerate(told):
        if one.token is None:
            continue
        spelled = one.text if one.is_redacted else spelling.text(one.token.index, is_first=place == 0)
        # The text may have a space before a special token, whose name has none.
        prompt.append((spelled, one.offset + max(one.text.find(spelled), 0)))
    return News("".join([one.text for one in told]), prompt=[*bos, *prompt])


def _unscored(index: int, text: str) -> Token:
    """Return a token of which the model has said nothing."""
    return Token(index, text, log_p=(), divergence=None, log_p_own=math.nan, entropy=math.nan)
