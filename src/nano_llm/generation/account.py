"""What is told of a text that was written: the text as readers see it, and what the heads said of each token."""

from collections.abc import Iterable
from typing import Any

from nano_llm.data.tokenizer import Tokenizer
from nano_llm.generation.author import Commission
from nano_llm.generation.redaction import REPLACEMENT, Span, find, redact
from nano_llm.generation.writer import Draft

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
    text = draft.text
    redacted = redact(text) if censored else None
    return {
        "index": commission.index,
        "outcome": None if commission.outcome is None else OUTCOME_NAMES[commission.outcome],
        "topic": commission.topic,
        "prompt": commission.prompt,
        "text": text if redacted is None else redacted.text,
        "finish": draft.finish,
        "num_tokens": len(draft.tokens),
        "num_redacted": 0 if redacted is None else redacted.num_redacted,
        "tokens": list(_tokens(draft, find(text) if censored else [], tokenizer, censored=censored)),
    }


def _tokens(draft: Draft, spans: list[Span], tokenizer: Tokenizer, *, censored: bool) -> Iterable[dict[str, Any]]:
    told = 0  # spans that a token has stood for
    for token, (begin, end) in zip(draft.tokens, _places(draft), strict=True):
        hit = [number for number, span in enumerate(spans) if begin < span.end and span.start < end]
        if hit:
            fresh = [number for number in hit if number >= told]
            told += len(fresh)
            yield {"text": REPLACEMENT if fresh else "", "redacted": True}
            continue
        told_of: dict[str, Any] = {"text": token.text, "log_p": list(token.log_p), "divergence": token.divergence}
        if token.top:
            told_of["top"] = [
                [[_spelled(index, tokenizer, censored), log_p] for index, log_p in top] for top in token.top
            ]
        yield told_of


def _places(draft: Draft) -> list[tuple[int, int]]:
    """Return where in the text each token shows; one whose text was held back, where that is shown."""
    places = []
    end = len(draft.text)
    place = (end - len(draft.tail), end)
    end -= len(draft.tail)
    for token in reversed(draft.tokens):
        if token.text:
            place = (end - len(token.text), end)
            end = place[0]
        places.append(place)
    return places[::-1]


def _spelled(index: int, tokenizer: Tokenizer, censored: bool) -> str:
    text = tokenizer.decode([index])
    return redact(text).text if censored else text
