"""What may be asked of a trained model: reviews, and the counterfactual of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from nano_llm.config.strict import suggest
from nano_llm.errors import RequestError
from nano_llm.generation.bounds import require_number, require_whole_number
from nano_llm.generation.events import EventKeys
from nano_llm.generation.sampling import Sampling
from nano_llm.generation.steering import ContrastBase, Steering, SteeringMode
from nano_llm.generation.text_stream import check_stops

Choice = TypeVar("Choice", bound=StrEnum)

MAX_SEED = 2**63 - 1
"""What a signed integer of 64 bits holds, as JSON readers and databases have it."""
MAX_TEXTS, MAX_TOKENS, MAX_DRAWS = 10_000, 10_000, 256
MAX_REVIEW_CHARS = 50_000
"""Limits of a single request, so that none takes the memory or the day of all others."""


class Wanted(StrEnum):
    """Whose reviews are wanted."""

    y0 = "y0"
    y1 = "y1"
    both = "both"
    mixture = "mixture"
    """Of a reader who does not know the sentiment: both heads, each by its posterior."""
    prompt = "prompt"
    """What the prompt asks for: the one law of a model with one head."""


class Label(StrEnum):
    """The sentiment of a review."""

    neg = "neg"
    pos = "pos"


class Pairing(StrEnum):
    """Whether Y0 and Y1 of a pair share their noise."""

    coupled = "coupled"
    independent = "independent"


@dataclass(frozen=True, slots=True)
class Request:
    """Reviews that are asked for.

    Raises:
        RequestError: A value is out of its bounds, or two do not go together.
    """

    wanted: Wanted | None = None
    """None takes both outcomes of a model that has them."""
    pair: Pairing = Pairing.coupled
    num_texts: int = 1
    """Of each outcome."""
    num_tokens: int = 200
    """Most tokens of a text."""
    seed: int = 0
    topic: str | None = None
    """What the prompt names, for corpora that have topics; None takes one after the other."""
    prompt: str | tuple[int, ...] | None = None
    """In the place of the one that the model was trained with: a text, to which ``[REVIEW]`` is added if it is not
    there, or tokens without ``<bos>``."""
    begin: str | tuple[int, ...] = ""
    """What every text begins with, as text or as tokens."""
    stop: tuple[str, ...] = ()
    """Searched for in what is written, not in what it begins with."""
    stop_newline: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    steering: Steering = field(default_factory=Steering)
    events: EventKeys = EventKeys.event
    num_top: int = 0
    """Likeliest tokens of each head told beside each token."""

    def __post_init__(self) -> None:
        _require_count("num", self.num_texts, MAX_TEXTS)
        _require_count("tokens", self.num_tokens, MAX_TOKENS)
        check_seed(self.seed)
        require_whole_number("top", self.num_top, "a whole number of at least 0", lambda number: number >= 0)
        check_stops(self.stop)
        if isinstance(self.prompt, str) and not self.prompt.strip():
            raise RequestError("The prompt is empty. Leave it out for the one that the model was trained with.")
        if self.prompt is not None and self.topic is not None:
            raise RequestError("A prompt of your own names its topic itself: give --prompt or --topic, not both.")
        for name, text in (("prompt", self.prompt), ("begin", self.begin)):
            if isinstance(text, str):
                _check_encodable(name, text)
        self._check_mixture()

    def _check_mixture(self) -> None:
        if self.wanted is not Wanted.mixture:
            if self.steering.mode is SteeringMode.mixture:
                raise RequestError("--steer mixture is of no outcome: ask for it by --outcome mixture.")
            return
        if self.steering.mode not in (SteeringMode.plain, SteeringMode.mixture):
            raise RequestError(
                f"The mixture is steered to no outcome: leave out --steer {self.steering.mode}, or ask for an outcome."
            )
        if self.steering.plausibility:
            raise RequestError(
                f"plausibility={self.steering.plausibility!r}: it is judged by the wanted head, and the mixture wants "
                "neither; leave it out, or use min_p."
            )


@dataclass(frozen=True, slots=True)
class CounterfactualRequest:
    """The counterfactual of a review: what it would have said under the other sentiment.

    Raises:
        RequestError: A value is out of its bounds.
    """

    text: str
    label: int
    """Its sentiment: 0 negative, 1 positive."""
    topic: str | None = None
    num_draws: int = 8
    """Noises that could have written the review; each gives a counterfactual."""
    keep_prefix: int = 0
    """Tokens of the review that stay; if all of them do, so does its end."""
    similarity: float = 1.0
    """Share of events that keep the review's noise: 1 hindsight, 0 a plain intervention."""
    num_tokens: int | None = None
    """Most tokens of a counterfactual; None takes twice those of the review and 32 more."""
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    steering: Steering = field(default_factory=Steering)
    events: EventKeys = EventKeys.event
    num_top: int = 0
    """Likeliest tokens of each head told beside each token."""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise RequestError("The review is empty. Give its text.")
        _check_encodable("text", self.text)
        if self.label not in (0, 1):
            raise RequestError(f"label={self.label!r}: a sentiment is 0 (negative) or 1 (positive).")
        if len(self.text) > MAX_REVIEW_CHARS:
            raise RequestError(
                f"The review has {len(self.text)} characters; at most {MAX_REVIEW_CHARS} are read. Give its beginning."
            )
        _require_count("draws", self.num_draws, MAX_DRAWS)
        require_whole_number(
            "keep_prefix", self.keep_prefix, "a whole number of at least 0", lambda number: number >= 0
        )
        require_whole_number("top", self.num_top, "a whole number of at least 0", lambda number: number >= 0)
        require_number("similarity", self.similarity, "a number from 0 to 1", lambda number: 0 <= number <= 1)
        if self.num_tokens is not None:
            _require_count("tokens", self.num_tokens, MAX_TOKENS)
        check_seed(self.seed)
        if self.steering.mode is SteeringMode.mixture:
            raise RequestError(
                "--steer mixture is the same law under both sentiments, so the counterfactual would be the review: "
                "leave it out."
            )


def check_seed(seed: int) -> None:
    """Check a seed from a user.

    Raises:
        RequestError: It is out of range.
    """
    require_whole_number("seed", seed, f"a whole number from 0 to {MAX_SEED}", lambda number: 0 <= number <= MAX_SEED)


KNOBS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
RULES = ("steer", "strength", "base", "plausibility", "posterior_scale")
SHARED_FIELDS = ("tokens", "seed", "topic", "events", *KNOBS, *RULES)
"""What may be said of a request and of a counterfactual alike, as users spell it."""
REQUEST_FIELDS = ("outcome", "pair", "num", "prompt", "begin", "stop", "stop_newline", "top", *SHARED_FIELDS)
COUNTERFACTUAL_FIELDS = ("text", "label", "draws", "keep_prefix", "similarity", *SHARED_FIELDS)


def _require_count(name: str, value: int, most: int) -> None:
    require_whole_number(name, value, f"a whole number from 1 to {most}", lambda number: 1 <= number <= most)


def _check_encodable(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{name}: character {error.start} (counted from 0), {text[error.start]!r}, is half of a character, which "
            "no encoding can hold. Give whole ones."
        ) from error


def read_request(fields: Mapping[str, object]) -> Request:
    """Read a request as users spell it: by options of a command, or by the fields of a JSON object.

    Args:
        fields: Any of `REQUEST_FIELDS`. None is as good as absent.

    Raises:
        RequestError: A field is unknown, or has a value that it cannot have.
    """
    given = _Fields(fields, REQUEST_FIELDS, "request")
    return Request(
        wanted=given.choice("outcome", Wanted),
        pair=given.choice("pair", Pairing) or Pairing.coupled,
        topic=given.text("topic"),
        prompt=given.text("prompt"),
        begin=given.text("begin") or "",
        stop=given.texts("stop"),
        stop_newline=given.flag("stop_newline"),
        events=given.choice("events", EventKeys) or EventKeys.event,
        sampling=given.sampling(),
        steering=given.steering(),
        **given.numbers({"num": "num_texts", "tokens": "num_tokens", "seed": "seed", "top": "num_top"}),
    )


def read_counterfactual_request(fields: Mapping[str, object]) -> CounterfactualRequest:
    """Read what is asked of a review, as users spell it.

    Args:
        fields: ``text`` and ``label`` (``neg`` or ``pos``), and any of the other `COUNTERFACTUAL_FIELDS`. None is as
            good as absent.

    Raises:
        RequestError: A field is unknown, missing, or has a value that it cannot have.
    """
    given = _Fields(fields, COUNTERFACTUAL_FIELDS, "counterfactual")
    label = given.choice("label", Label)
    if label is None:
        raise RequestError("A counterfactual needs the label of its review, neg or pos.")
    numbers = {
        "draws": "num_draws",
        "keep_prefix": "keep_prefix",
        "similarity": "similarity",
        "tokens": "num_tokens",
        "seed": "seed",
    }
    return CounterfactualRequest(
        text=given.text("text") or "",
        label=int(label is Label.pos),
        topic=given.text("topic"),
        events=given.choice("events", EventKeys) or EventKeys.event,
        sampling=given.sampling(),
        steering=given.steering(),
        **given.numbers(numbers),
    )


class _Fields:
    """Fields of a request, each of the type that it should have."""

    def __init__(self, fields: Mapping[str, object], known: Sequence[str], kind: str) -> None:
        self._fields = {name: value for name, value in fields.items() if value is not None}
        for name in self._fields:
            if name not in known:
                raise RequestError(f"A {kind} has no field {name!r}; {suggest(name, [*known])}")

    def choice(self, name: str, choices: type[Choice]) -> Choice | None:
        value = self._fields.get(name)
        if value is None:
            return None
        if value not in [*choices]:
            raise RequestError(f"{name}={value!r}: give one of {', '.join(choices)}.")
        return choices(str(value))

    def text(self, name: str) -> str | None:
        value = self._fields.get(name)
        if value is not None and not isinstance(value, str):
            raise RequestError(f"{name}={value!r}: give a text.")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._fields.get(name)
        values = [value] if isinstance(value, str) else [] if value is None else value
        if not isinstance(values, list | tuple) or not all(isinstance(item, str) for item in values):
            raise RequestError(f"{name}={value!r}: give a text or a list of texts.")
        return tuple(values)

    def flag(self, name: str) -> bool:
        value = self._fields.get(name)
        if value is not None and not isinstance(value, bool):
            raise RequestError(f"{name}={value!r}: give true or false.")
        return bool(value)

    def numbers(self, parameters: dict[str, str]) -> dict[str, Any]:
        """Return the values that were given, by the names of the parameters that check them."""
        values = {parameter: self._fields.get(name) for name, parameter in parameters.items()}
        return {parameter: value for parameter, value in values.items() if value is not None}

    def sampling(self) -> Sampling:
        return Sampling(**self.numbers({knob: knob for knob in KNOBS}))

    def steering(self) -> Steering:
        return Steering(
            mode=self.choice("steer", SteeringMode) or SteeringMode.plain,
            base=self.choice("base", ContrastBase) or ContrastBase.head,
            **self.numbers({rule: rule for rule in RULES if rule not in ("steer", "base")}),
        )
