"""Requests: what each option takes, what a refusal says, and that nothing but refusals comes of nonsense."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano_llm.errors import RequestError
from nano_llm.generation.events import EventKeys
from nano_llm.generation.request import (
    MAX_SEED,
    CounterfactualRequest,
    Pairing,
    Request,
    Wanted,
    check_seed,
    read_counterfactual_request,
    read_request,
)
from nano_llm.generation.sampling import Sampling
from nano_llm.generation.steering import ContrastBase, Steering, SteeringMode
from properties import examples

REVIEW = {"text": "a dull film.", "label": "neg"}


def refusal(read: Any, fields: dict[str, Any]) -> str:
    with pytest.raises(RequestError) as refused:
        read(fields)
    assert refused.value.exit_status == 2
    return str(refused.value)


def test_nothing_asked_is_the_default_request() -> None:
    assert read_request({}) == Request()
    assert read_request(dict.fromkeys(["outcome", "num", "stop", "temperature", "steer", "begin"])) == Request()
    assert read_counterfactual_request(REVIEW) == CounterfactualRequest("a dull film.", 0)


def test_every_field_of_a_request_is_read() -> None:
    fields = {
        "outcome": "y1",
        "pair": "independent",
        "num": 3,
        "tokens": 7,
        "seed": MAX_SEED,
        "prompt": "about",
        "begin": "a ",
        "stop": ["x", "y"],
        "stop_newline": True,
        "events": "position",
        "top": 4,
        "temperature": 0,
        "top_k": 5,
        "top_p": 0.5,
        "min_p": 0.1,
        "repetition_penalty": 1.5,
        "steer": "contrast",
        "strength": 2,
        "base": "mixture",
        "plausibility": 0.1,
        "posterior_scale": 0.3,
    }
    assert read_request(fields) == Request(
        wanted=Wanted.y1,
        pair=Pairing.independent,
        num_texts=3,
        num_tokens=7,
        seed=MAX_SEED,
        prompt="about",
        begin="a ",
        stop=("x", "y"),
        stop_newline=True,
        events=EventKeys.position,
        num_top=4,
        sampling=Sampling(0, 5, 0.5, 0.1, 1.5),
        steering=Steering(SteeringMode.contrast, 2, ContrastBase.mixture, 0.1, 0.3),
    )
    assert read_request({"topic": "drama", "stop": "x"}) == Request(topic="drama", stop=("x",))


def test_every_field_of_a_counterfactual_is_read() -> None:
    fields = {
        "text": "fine.",
        "label": "pos",
        "topic": "drama",
        "draws": 2,
        "keep_prefix": 1,
        "similarity": 0.5,
        "tokens": 9,
        "seed": 3,
        "events": "position",
        "temperature": 0.5,
        "steer": "cfg",
    }
    assert read_counterfactual_request(fields) == CounterfactualRequest(
        text="fine.",
        label=1,
        topic="drama",
        num_draws=2,
        keep_prefix=1,
        similarity=0.5,
        num_tokens=9,
        seed=3,
        events=EventKeys.position,
        sampling=Sampling(temperature=0.5),
        steering=Steering(SteeringMode.cfg),
    )


WRONG_IN_BOTH = [
    ({"tokens": 0}, "tokens=0: give a whole number from 1 to 10000."),
    ({"tokens": 1.0}, "tokens=1.0: give a whole number"),
    ({"tokens": True}, "tokens=True: give a whole number"),
    ({"seed": -1}, f"seed=-1: give a whole number from 0 to {MAX_SEED}."),
    ({"seed": MAX_SEED + 1}, "seed=9223372036854775808: give"),
    ({"seed": "7"}, "seed='7': give"),
    ({"topic": 3}, "topic=3: give a text."),
    ({"events": "word"}, "events='word': give one of event, position."),
    ({"events": ["event"]}, "give one of event, position."),
    ({"temperature": -0.5}, "temperature=-0.5: give a finite number of at least 0"),
    ({"temperature": "hot"}, "temperature='hot': give"),
    ({"top_k": 1.5}, "top_k=1.5: give a whole number"),
    ({"top_p": 0}, "top_p=0: give a number above 0"),
    ({"min_p": 2}, "min_p=2: give a number from 0 to 1"),
    ({"repetition_penalty": 0}, "repetition_penalty=0: give"),
    ({"steer": "hard"}, "steer='hard': give one of plain, contrast, cfg, posterior, mixture."),
    ({"strength": 2}, "strength=2: steering mode plain has no strength"),
    ({"steer": "cfg", "strength": -1}, "strength=-1: give"),
    ({"base": "mixture"}, "base=mixture: steering mode plain has no base"),
    ({"base": 1}, "base=1: give one of head, mixture."),
    ({"plausibility": 2}, "plausibility=2: give"),
    ({"posterior_scale": 0.5}, "posterior_scale=0.5: steering mode plain reads no posterior"),
    ({"steer": "mixture"}, "--steer mixture is"),
    ({"temprature": 1}, "has no field 'temprature'; did you mean temperature?"),
    ({"": 1}, "has no field ''; known here: "),
]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        *WRONG_IN_BOTH,
        ({"num": 0}, "num=0: give a whole number from 1 to 10000."),
        ({"top": -1}, "top=-1: give a whole number of at least 0."),
        ({"outcome": "y2"}, "outcome='y2': give one of y0, y1, both, mixture, prompt."),
        ({"outcome": {}}, "outcome={}: give one of"),
        ({"pair": "twin"}, "pair='twin': give one of coupled, independent."),
        ({"begin": ["a"]}, "begin=['a']: give a text."),
        ({"prompt": " \n"}, "The prompt is empty. Leave it out"),
        ({"prompt": "a", "topic": "drama"}, "give --prompt or --topic, not both"),
        ({"prompt": "a\ud800"}, r"prompt: character 1 (counted from 0), '\ud800', is half of a character"),
        ({"begin": "\udfff"}, "begin: character 0"),
        ({"stop": 3}, "stop=3: give a text or a list of texts."),
        ({"stop": ["a", 3]}, "stop=['a', 3]: give a text or a list of texts."),
        ({"stop": ""}, "A stop string is empty"),
        ({"stop": ["a"] * 17}, "There are 17 stop strings"),
        ({"stop_newline": "yes"}, "stop_newline='yes': give true or false."),
        ({"stop_newline": 1}, "stop_newline=1: give true or false."),
        ({"outcome": "mixture", "steer": "cfg"}, "leave out --steer cfg, or ask for an outcome"),
        ({"outcome": "mixture", "plausibility": 0.1}, "plausibility=0.1: it is judged by the wanted head"),
        ({"outcome": "y0", "steer": "mixture"}, "ask for it by --outcome mixture"),
        ({"text": "a"}, "A request has no field 'text'"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(fields: dict[str, Any], words: str) -> None:
    assert words in refusal(read_request, fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        *WRONG_IN_BOTH,
        ({"text": None}, "The review is empty. Give its text."),
        ({"text": " \n"}, "The review is empty. Give its text."),
        ({"text": "a\ud800"}, r"text: character 1 (counted from 0), '\ud800', is half of a character"),
        ({"text": 5}, "text=5: give a text."),
        ({"label": None}, "needs the label of its review, neg or pos"),
        ({"label": "good"}, "label='good': give one of neg, pos."),
        ({"label": 1}, "label=1: give one of neg, pos."),
        ({"draws": 0}, "draws=0: give a whole number from 1 to 256."),
        ({"keep_prefix": -1}, "keep_prefix=-1: give a whole number of at least 0."),
        ({"similarity": 1.1}, "similarity=1.1: give a number from 0 to 1."),
        ({"similarity": float("nan")}, "similarity=nan: give a number from 0 to 1."),
        ({"prompt": "a"}, "A counterfactual has no field 'prompt'"),
    ],
)
def test_what_no_counterfactual_can_be_is_refused_by_its_name(fields: dict[str, Any], words: str) -> None:
    assert words in refusal(read_counterfactual_request, REVIEW | fields)


def test_a_label_is_a_sentiment() -> None:
    with pytest.raises(RequestError, match="label=2: a sentiment is 0"):
        CounterfactualRequest("a", 2)


def test_the_mixture_can_be_asked_for_with_all_that_it_reads() -> None:
    steering = Steering(SteeringMode.mixture, posterior_scale=0.4)
    fields = {"outcome": "mixture", "steer": "mixture", "posterior_scale": 0.4}
    assert read_request(fields) == Request(wanted=Wanted.mixture, steering=steering)
    with pytest.raises(RequestError, match="--outcome mixture"):
        replace(Request(), steering=steering)


@pytest.mark.parametrize("seed", [0, 1, MAX_SEED])
def test_seeds_are_what_64_bits_hold(seed: int) -> None:
    check_seed(seed)
    assert read_request({"seed": seed}).seed == seed


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["y0", "both", "mixture", "coupled", "cfg", "posterior", "position", "neg", "\ud800"]),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=3), parts, max_size=2),
    max_leaves=4,
)
names = st.sampled_from(
    [
        *("outcome", "pair", "num", "tokens", "seed", "topic", "prompt", "begin", "stop", "stop_newline", "events"),
        *("top", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "steer", "strength", "base"),
        *("plausibility", "posterior_scale", "text", "label", "draws", "keep_prefix", "similarity"),
    ]
)
objects = st.dictionaries(names, values, max_size=6) | st.dictionaries(names | st.text(max_size=8), values, max_size=6)


@given(objects)
@settings(max_examples=examples(250))
def test_no_object_is_answered_with_anything_but_a_request_or_a_refusal(fields: dict[str, Any]) -> None:
    for read in (read_request, read_counterfactual_request):
        for given_fields in (fields, REVIEW | fields):
            try:
                assert isinstance(read(given_fields), Request | CounterfactualRequest)
            except RequestError as error:
                str(error).encode()  # a sentence that can be printed
