"""Fields of requests, in the terms of `nano_llm.generation` and within the limits of a server."""

import secrets

from nano_llm.generation.events import EventKeys
from nano_llm.generation.request import KNOBS, Pairing
from nano_llm.generation.sampling import Sampling
from nano_llm.generation.steering import ContrastBase, Steering, SteeringMode
from nano_llm.serving.limits import Limits
from nano_llm.serving.problem import invalid, too_long
from nano_llm.serving.requests import Knobs, Steer


def short(name: str, text: str, most: int) -> str:
    """Return a text of at most so many characters.

    Raises:
        Problem: It is longer.
    """
    if len(text) > most:
        raise too_long(f"{name} has {len(text)} characters; at most {most} are read. Give fewer.", name)
    return text


def within(name: str, number: int, most: int) -> int:
    """Return a number of tokens that are told beside each token.

    Raises:
        Problem: It is above the most.
    """
    if number > most:
        raise invalid(f"{name}={number}: at most {most} are told beside each token. Give fewer.", name)
    return number


def num_new_of(given: int | None, limits: Limits, name: str, *, least: int = 1) -> int:
    """Return the most new tokens of a text.

    Raises:
        Problem: They are more than the limit, or fewer than the least.
    """
    number = min(limits.default_tokens, limits.max_tokens) if given is None else given
    if number > limits.max_tokens:
        raise too_long(f"{name}={number}: a text has at most {limits.max_tokens} new tokens. Give fewer.", name)
    if number < least:
        raise invalid(f"{name}={number}: give {least} or more.", name)
    return number


def stops_of(stop: str | list[str] | None, limits: Limits, name: str) -> tuple[str, ...]:
    """Return the strings that end a text.

    Raises:
        Problem: There are more than the limit.
    """
    stops = [stop] if isinstance(stop, str) else stop or []
    if len(stops) > limits.max_stops:
        raise invalid(
            f"{name}: there are {len(stops)} stop strings; at most {limits.max_stops} are searched for.", name
        )
    return tuple(stops)


def seed_of(given: int | None) -> int:
    """Return the seed, a new one if none is given."""
    # No more than what a float holds: readers of JSON in a browser have no other number.
    return secrets.randbelow(1 << 53) if given is None else given


def sampling_of(knobs: Knobs) -> Sampling:
    """Return the knobs of a request; raises `RequestError` if they do not go together."""
    return Sampling(**knobs.model_dump(include=set(KNOBS), exclude_none=True))


def steering_of(steer: Steer | None) -> Steering:
    """Return how a text is steered; raises `RequestError` if its options do not go together."""
    if steer is None:
        return Steering()
    return Steering(
        mode=SteeringMode(steer.mode),
        strength=steer.strength,
        base=ContrastBase(steer.base or "head"),
        plausibility=steer.plausibility or 0.0,
        posterior_scale=1.0 if steer.posterior_scale is None else steer.posterior_scale,
    )


def pairing_of(pair: str | None) -> Pairing:
    """Return whether two texts share their noise, as they do by default."""
    return Pairing(pair or "coupled")


def events_of(events: str | None) -> EventKeys:
    """Return what noise is keyed by."""
    return EventKeys(events or "event")
