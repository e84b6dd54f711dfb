"""What a server measures of itself, as Prometheus reads it. No label ever holds what a client sent."""

from collections.abc import Callable
from time import monotonic

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""Of what `Gauges.render` returns."""

FIRST_TOKEN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
NEXT_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
ANSWER_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 240)


class Gauges:
    """The figures of one server, in a registry of its own.

    Args:
        model: Its id.
        fingerprint: Of its checkpoint.
        num_running: Texts that are being written now.
        num_waiting: Texts that wait for their turn.
    """

    def __init__(
        self, *, model: str, fingerprint: str, num_running: Callable[[], float], num_waiting: Callable[[], float]
    ) -> None:
        disable_created_metrics()  # a series a counter that nobody reads
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("nano_llm:requests_total", "Answers", ["route", "code"], registry=registry)
        self._successes = Counter(
            "nano_llm:request_success_total", "Texts that came to their end", ["finish_reason"], registry=registry
        )
        self._prompt_tokens = Counter("nano_llm:prompt_tokens_total", "Tokens read", registry=registry)
        self._generation_tokens = Counter("nano_llm:generation_tokens_total", "Tokens written", registry=registry)
        self._rejected = Counter(
            "nano_llm:rejected_total", "Requests that were refused unread or unbegun", ["reason"], registry=registry
        )
        self._cancelled = Counter("nano_llm:cancelled_total", "Answers whose client went away", registry=registry)
        self._first_token = Histogram(
            "nano_llm:time_to_first_token_seconds",
            "From the request to its first token",
            buckets=FIRST_TOKEN_SECONDS,
            registry=registry,
        )
        self._next_token = Histogram(
            "nano_llm:inter_token_latency_seconds",
            "From a token to the next one",
            buckets=NEXT_TOKEN_SECONDS,
            registry=registry,
        )
        self._answer = Histogram(
            "nano_llm:e2e_request_latency_seconds",
            "From the request to the end of its last text",
            buckets=ANSWER_SECONDS,
            registry=registry,
        )
        Gauge("nano_llm:requests_running", "Texts being written", registry=registry).set_function(num_running)
        Gauge("nano_llm:requests_waiting", "Texts waiting", registry=registry).set_function(num_waiting)
        Info("nano_llm:model", "What is served", registry=registry).info({"model": model, "checkpoint": fingerprint})

    def answered(self, route: str, status: int) -> None:
        """Count an answer of any kind, by the template of its route. `Guard` does."""
        self._requests.labels(route, str(status)).inc()

    def rejected(self, reason: str) -> None:
        """Count a request that was refused before any work, by the code of its `Problem`."""
        self._rejected.labels(reason).inc()

    def cancelled(self) -> None:
        """Count an answer whose client went away."""
        self._cancelled.inc()

    def watch(self) -> "Watch":
        """Return a watch for one request that a model works on, running from now."""
        return Watch(self)

    def read(self, num_tokens: int) -> None:
        """Count tokens of prompts."""
        self._prompt_tokens.inc(num_tokens)

    def wrote(self, num_tokens: int) -> None:
        """Count tokens of texts."""
        self._generation_tokens.inc(num_tokens)

    def finished(self, reason: str) -> None:
        """Count a text that came to its end."""
        self._successes.labels(reason).inc()

    def took_to_first_token(self, seconds: float) -> None:
        """Note how long the first token of a request took."""
        self._first_token.observe(seconds)

    def took_to_next_token(self, seconds: float) -> None:
        """Note how long another one took."""
        self._next_token.observe(seconds)

    def took(self, seconds: float) -> None:
        """Note how long all texts of a request took."""
        self._answer.observe(seconds)

    def render(self) -> bytes:
        """Return all figures in Prometheus' format, `CONTENT_TYPE`."""
        return generate_latest(self._registry)


class Watch:
    """Times one request: `wrote` at each step of the model, `over` once all of its texts have ended."""

    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges
        self._begun = monotonic()
        self._latest: float | None = None

    def wrote(self, num_tokens: int) -> None:
        """Note a step that brought tokens, over all texts of the request."""
        if not num_tokens:
            return
        now = monotonic()
        if self._latest is None:
            self._gauges.took_to_first_token(now - self._begun)
        else:
            self._gauges.took_to_next_token(now - self._latest)
        self._latest = now
        self._gauges.wrote(num_tokens)

    def over(self) -> None:
        """Note that the last text has ended."""
        self._gauges.took(monotonic() - self._begun)
