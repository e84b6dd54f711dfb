"""What is told of tokens: log-probabilities as OpenAI has them, and what the heads of the model said."""

import math
from collections.abc import Iterable, Sequence

from nano_llm.generation.writer import Finish, Token
from nano_llm.serving.choice import News, Shown
from nano_llm.serving.responses import (
    ChatLogprobs,
    ChatToken,
    CompletionLogprobs,
    FinishReason,
    Likely,
    LikelyToken,
    TraceToken,
    Usage,
)
from nano_llm.serving.spelling import Spelling

LEAST = -9999.0
"""Told in the place of log-probabilities below it: JSON has no number for that of what is impossible."""


def completion_logprobs(
    news: News, num_top: int, spelling: Spelling, *, end_offset: int | None = None
) -> CompletionLogprobs:
    """Return the log-probabilities of a completion's new tokens.

    The token itself is always among those that are told beside it. Of a redacted token and of a prompt's, nothing is.

    Args:
        news: The tokens.
        num_top: Likeliest ones told beside each.
        spelling: Of the model's tokens.
        end_offset: Where the text ends, if the token that has ended it has a place too, of which nothing is told.
    """
    told = CompletionLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
    for spelled, offset in news.prompt:
        _add(told, spelled, offset, None, None)
    for shown in news.shown:
        token = shown.token
        if token is None:
            continue
        if shown.is_redacted:
            _add(told, shown.text, shown.offset, None, None)
        else:
            spelled = spelling.text(token.index, is_first=shown.is_first)
            _add(told, spelled, shown.offset, _finite(token.log_p_own), _top(shown, token, num_top, spelling))
    if end_offset is not None:
        _add(told, "", end_offset, None, None)
    return told


def _add(
    told: CompletionLogprobs, token: str, offset: int, logprob: float | None, top: dict[str, float] | None
) -> None:
    told.tokens.append(token)
    told.text_offset.append(offset)
    told.token_logprobs.append(logprob)
    told.top_logprobs.append(top)


def chat_logprobs(news: News, num_top: int, spelling: Spelling) -> ChatLogprobs:
    """Return the log-probabilities of a chat's new tokens, but for redacted ones; arguments as above."""
    content = []
    for shown in news.shown:
        token = shown.token
        if token is None or shown.is_redacted:
            continue
        top = [_likely(index, nats, shown, spelling) for index, nats in token.top_own[:num_top]]
        own = _likely(token.index, token.log_p_own, shown, spelling)
        content.append(ChatToken(token=own.token, logprob=own.logprob, bytes=own.bytes, top_logprobs=top))
    return ChatLogprobs(content=content, refusal=None)


def trace(shown: Iterable[Shown], num_top: int, spelling: Spelling) -> list[TraceToken]:
    """Return what the heads said of tokens, whose texts join to what is shown.

    Args:
        shown: The tokens.
        num_top: Likeliest ones of each head told beside each.
        spelling: Of the model's tokens.
    """
    return [_trace_token(one, num_top, spelling) for one in shown]


def _trace_token(shown: Shown, num_top: int, spelling: Spelling) -> TraceToken:
    token = shown.token
    if shown.is_redacted:
        return TraceToken(text=shown.text, redacted=True)
    if token is None:
        return TraceToken(text=shown.text)
    told = TraceToken(
        text=shown.text,
        token_id=token.index,
        logprob=_finite(token.log_p_own),
        p=[math.exp(nats) for nats in token.log_p],
        entropy=token.entropy,
    )
    if token.divergence is not None:
        told.js = token.divergence
    if num_top:
        told.top = [
            [
                Likely(text=spelling.text(index, is_first=shown.is_first), logprob=_finite(nats))
                for index, nats in of_head[:num_top]
            ]
            for of_head in token.top
        ]
    return told


def reason(finish: Finish) -> FinishReason:
    """Return why a text has ended, as OpenAI has it."""
    return "length" if finish is Finish.length else "stop"


def usage(num_read: int, num_written: int) -> Usage:
    """Return the tokens of an answer."""
    return Usage(prompt_tokens=num_read, completion_tokens=num_written, total_tokens=num_read + num_written)


def first_divergence(tokens: Sequence[int], others: Sequence[int]) -> int | None:
    """Return the place of the first token that differs; None of equal texts."""
    if tokens == others:
        return None
    pairs = enumerate(zip(tokens, others, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(tokens), len(others)))


def _likely(token: int, nats: float, shown: Shown, spelling: Spelling) -> LikelyToken:
    """Return a token that stands, or could stand, where one is shown."""
    return LikelyToken(
        token=spelling.text(token, is_first=shown.is_first),
        logprob=_finite(nats),
        bytes=spelling.bytes(token, is_first=shown.is_first),
    )


def _finite(nats: float) -> float:
    return max(nats, LEAST)


def _top(shown: Shown, token: Token, num_top: int, spelling: Spelling) -> dict[str, float]:
    told: dict[str, float] = {}
    for index, nats in (*token.top_own[:num_top], (token.index, token.log_p_own)):
        told.setdefault(spelling.text(index, is_first=shown.is_first), _finite(nats))
    return told
