"""What is told of a text that was written: the text as readers see it, and what the heads said of each token."""

from typing import Any

from nano_llm.data.tokenizer import Tokenizer
from nano_llm.generation.author import Commission
from nano_llm.generation.piece import Follower
from nano_llm.generation.redaction import redact
from nano_llm.generation.teller import Teller, Told
from nano_llm.generation.writer import Draft, Token

OUTCOME_NAMES = ("y0", "y1")


def account(commission: Commission, draft: Draft, tokenizer: Tokenizer, *, censored: bool) -> dict[str, Any]:
    """Return a text that is finished, and how it came about, as JSON has it.

    Log-probabilities are the heads' own in nats, before steering and knobs. A token that is part of a redacted word
    tells nothing but that, and listed words are redacted among the likeliest tokens.

    Args:
        commission: What was asked for.
        draft: What was written.
        tokenizer: Of the model.
        censored: Whether explicit words are redacted.
    """
    teller = Teller(censored=censored)
    told = teller.tell(Follower(draft).piece())
    return {
        "index": commission.index,
        "outcome": None if commission.outcome is None else OUTCOME_NAMES[commission.outcome],
        "topic": commission.topic,
        "prompt": commission.prompt,
        "text": "".join([one.text for one in told]),
        "finish": draft.finish,
        "num_tokens": len(draft.tokens),
        "num_redacted": teller.num_redacted,
        "tokens": [_fields(one, one.token, tokenizer, censored) for one in told if one.token is not None],
    }


def _fields(told: Told, token: Token, tokenizer: Tokenizer, censored: bool) -> dict[str, Any]:
    if told.is_redacted:
        return {"text": told.text, "redacted": True}
    fields: dict[str, Any] = {"text": told.text, "log_p": list(token.log_p), "divergence": token.divergence}
    if token.top:
        fields["top"] = [[[spelled(index, tokenizer, censored), log_p] for index, log_p in top] for top in token.top]
    return fields


def spelled(index: int, tokenizer: Tokenizer, censored: bool) -> str:
    """Return the text of a token that was not written, as among the likeliest."""
    text = tokenizer.decode([index])
    return redact(text).text if censored else text
