"""How much a single client may ask of a server."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of requests; a message that refuses one names the bound."""

    max_body_bytes: int = 1 << 20
    max_tokens: int = 1000
    """Of a text."""
    default_tokens: int = 200
    """Of a text, where a request names no number."""
    max_texts: int = 64
    """Of a request: prompts x n x outcomes."""
    max_prompt_chars: int = 20_000
    """Or tokens, where a prompt comes as tokens."""
    max_review_chars: int = 8_000
    max_stops: int = 4
    max_logprobs: int = 20
    """Likeliest tokens that are told beside each token."""
    seconds: float = 120.0
    """What an answer may take, waiting included."""
    num_waiting: int = 256
    """Texts that may wait for a row."""
    grace_seconds: float = 10.0
    """What running answers are given when the server shuts down."""
