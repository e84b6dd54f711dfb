"""Bodies that are nearly right: valid ones of every route with something done to them. One seed, one sequence."""

import copy
import http.client
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

COMPLETION = {
    "prompt": ["the film", "best"],
    "max_tokens": 4,
    "n": 2,
    "seed": 3,
    "stop": ["zz"],
    "temperature": 0.9,
    "top_k": 20,
    "top_p": 0.9,
    "min_p": 0.01,
    "repetition_penalty": 1.1,
    "logprobs": 3,
    "echo": True,
    "stream": True,
    "stream_options": {"include_usage": True},
    "user": "somebody",
    "nano_llm": {
        "outcome": "both",
        "pair": "coupled",
        "steer": {"mode": "contrast", "strength": 0.5, "base": "head", "plausibility": 0.1},
        "events": "event",
        "trace": True,
        "top": 2,
    },
}
CHAT = {
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "write a review"}]},
        {"role": "assistant", "content": "the film"},
    ],
    "max_completion_tokens": 4,
    "logprobs": True,
    "top_logprobs": 2,
    "n": 1,
    "seed": 5,
    "nano_llm": {"outcome": 1, "steer": {"mode": "posterior", "strength": 2.0, "posterior_scale": 0.5}},
}
VALID: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/completions", COMPLETION),
    ("/v1/completions", {"prompt": [100, 101, 102], "max_tokens": 1, "echo": True, "logprobs": 1}),
    ("/v1/chat/completions", CHAT),
    ("/v1/counterfactual", {"begin": "the film", "max_tokens": 4, "seed": 1, "pair": "independent", "top": 2}),
    (
        "/v1/counterfactual",
        {"text": "the film is best.", "label": "pos", "keep_prefix": 2, "similarity": 0.5, "max_tokens": 4, "seed": 1},
    ),
    (
        "/generate",
        {"job_id": "j", "prompt": "write", "both_reviews": True, "max_tokens": 4, "method": "top_p", "top_p": 0.9},
    ),
    ("/generate", {"head_id": 0, "max_tokens": 4, "stop_sequence": "z", "no_stop_newline": True, "no_censor": False}),
    ("/tokenize", {"prompt": "the film", "model": None}),
    ("/detokenize", {"tokens": [100, 101, 102]}),
)
"""Routes, and bodies that they take."""
STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    0.5,
    5.0,
    1e-300,
    1e300,
    float("inf"),
    float("nan"),
    1 << 31,
    1 << 63,
    1 << 64,
    -(1 << 63),
    10**400,
    "",
    " ",
    "0",
    "both",
    "\0",
    "\ud800",
    "../..",
    "é\u202e🎬",
    "[REVIEW]",
    "<eos>",
    "a" * 700,
    [],
    [[]],
    [None],
    ["", ""],
    [0, -1],
    [1 << 40],
    {},
    {"": {}},
    {"mode": "plain"},
)
"""Values of all kinds, for fields of any."""

Mutation = Callable[[random.Random, Any], bytes]


def malformed(seed: int, num: int) -> Iterator[tuple[str, bytes]]:
    """Give routes and bodies; a few of them are valid all the same."""
    chance = random.Random(seed)
    for _ in range(num):
        path, body = chance.choice(VALID)
        yield path, chance.choice(MUTATIONS)(chance, copy.deepcopy(body))


def dropped(chance: random.Random, body: Any) -> bytes:
    place, name = _place(chance, body)
    del place[name]
    return _json(body)


def retyped(chance: random.Random, body: Any) -> bytes:
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        place, name = _place(chance, body)
        place[name] = copy.deepcopy(chance.choice(STRANGE))
    return _json(body)


def renamed(chance: random.Random, body: Any) -> bytes:
    place, name = _place(chance, body)
    if isinstance(place, dict):
        place[chance.choice(["", "Prompt", name + " ", "__proto__", "\ud800", "tools", "a" * 5000])] = place.pop(name)
    return _json(body)


def moved(chance: random.Random, body: Any) -> bytes:
    """One value in the place of another, which may hold it: a body in itself."""
    (place, name), (other, its_name) = _place(chance, body), _place(chance, copy.deepcopy(body))
    place[name] = other[its_name]
    return _json(body)


def repeated(chance: random.Random, body: Any) -> bytes:
    """A name that comes twice, or a list that is far too long."""
    place, name = _place(chance, body)
    if isinstance(place, list):
        place *= chance.choice([2, 100, 3000])
        return _json(body)
    content = _json(body)
    return b"{%s:%s,%s" % (json.dumps(name).encode(), _json(chance.choice(STRANGE)), content[1:])


def nested(chance: random.Random, body: Any) -> bytes:
    place, name = _place(chance, body)
    for _ in range(chance.choice([1, 10, 400])):
        place[name] = [place[name]] if chance.random() < 0.5 else {"a": place[name]}
    return _json(body)


def cut(chance: random.Random, body: Any) -> bytes:
    content = _json(body)
    return content[: chance.randrange(len(content))]


def flipped(chance: random.Random, body: Any) -> bytes:
    content = bytearray(_json(body))
    for _ in range(chance.choice([1, 1, 2, 8])):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(content)


def inserted(chance: random.Random, body: Any) -> bytes:
    content = _json(body)
    place = chance.randrange(len(content))
    part = chance.choice(
        [chance.randbytes(1 + chance.randrange(8)), b"1e999", b"-", b"NaN", b"\\ud800", b"/**/", b"[" * 5000]
    )
    return content[:place] + part + content[place:]


def respelled(chance: random.Random, body: Any) -> bytes:
    content = json.dumps(body)
    return chance.choice([b"\xef\xbb\xbf" + content.encode(), content.encode("utf-16"), content.encode("utf-32")])


MUTATIONS: tuple[Mutation, ...] = (
    dropped,
    retyped,
    retyped,
    retyped,
    renamed,
    moved,
    repeated,
    nested,
    cut,
    flipped,
    flipped,
    inserted,
    respelled,
)


def _place(chance: random.Random, body: Any) -> tuple[Any, Any]:
    """Return an object or a list somewhere in a body that is not empty, and a name or a place in it."""
    while True:
        name = chance.choice(list(body) if isinstance(body, dict) else range(len(body)))
        if not (isinstance(body[name], dict | list) and body[name]) or chance.random() < 0.3:
            return body, name
        body = body[name]


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


class Contract(AssertionError):
    """A body was answered in a way that is not promised."""


def check_answered(connection: http.client.HTTPConnection, path: str, body: bytes, key: str | None = None) -> int:
    """Send a body and check what comes; returns the status.

    Raises:
        Contract: It is neither an answer nor an error of our shape that blames the client.
    """
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    connection.request("POST", path, body, headers)
    with connection.getresponse() as answer:
        status, content = answer.status, answer.read()
    told = f"{path} {body[:2000]!r} was answered {status}: {content[:2000]!r}"
    if b"internal_error" in content or not (status == 200 or 400 <= status < 500):
        raise Contract(told)
    if status != 200:
        error = json.loads(content)["error"]
        if set(error) != {"message", "type", "param", "code"} or not (error["message"] and error["code"]):
            raise Contract(told)
    return status
