"""Both outcomes side by side, and the counterfactual of a review, as events."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from nano_llm.serving.app import create_app
from nano_llm.serving.service import Service
from serving.authors import open_author
from serving.servers import open_byte_author, served

PAIR = {"seed": 3, "max_tokens": 24}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with served(open_byte_author("model=tarnet")) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    return TestClient(create_app(service))


def events(client: TestClient, **body: Any) -> list[tuple[str, dict[str, Any]]]:
    answer = client.post("/v1/counterfactual", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    told = []
    for event in answer.text.removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        told.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return told


def columns(told: list[tuple[str, dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    steps = [event["columns"] for name, event in told if name == "step"]
    return [[token for step in steps for token in step[place] or []] for place in range(len(steps[0]))]


def text(tokens: list[dict[str, Any]]) -> str:
    return "".join([token["text"] for token in tokens])


def test_both_outcomes_are_told_step_by_step(service: Service, client: TestClient) -> None:
    told = events(client, **PAIR, top=2)
    names = [name for name, _ in told]
    assert names == ["start", *["step"] * (len(names) - 2), "end"]
    start, end = told[0][1], told[-1][1]
    prompt = service.author.template.prompt(1)
    assert start["columns"] == [{"outcome": 0, "prompt": prompt}, {"outcome": 1, "prompt": prompt}]
    assert (start["model"], start["seed"], start["source"]) == ("tiny", 3, None)

    both = columns(told)
    chat = client.post(
        "/v1/completions", json={"prompt": "", "both_reviews": True, **PAIR, "nano_llm": {"trace": True, "top": 2}}
    ).json()
    for tokens, choice, ending in zip(both, chat["choices"], end["columns"], strict=True):
        assert text(tokens) == choice["text"]
        assert tokens == choice["nano_llm"]["trace"]
        assert ending["finish_reason"] == choice["finish_reason"]
        assert ending["num_tokens"] == sum("token_id" in token for token in tokens)
        for token in tokens:
            if "token_id" in token:
                assert len(token["p"]) == 2
                assert 0 <= token["js"] <= 0.6932
                assert [len(likely) for likely in token["top"]] == [2, 2]
    assert end["usage"] == chat["usage"]
    assert [end["first_divergence"]] == chat["nano_llm"]["first_divergence"]
    assert end["changes"] is None


def test_what_both_begin_with_is_told_and_counted_as_read(service: Service, client: TestClient) -> None:
    told = events(client, **PAIR, begin="the film")
    both, end = columns(told), told[-1][1]
    num_given = len(service.author.tokenizer.encode("the film"))
    assert all(text(tokens).startswith("the film") for tokens in both)
    ids = [[token["token_id"] for token in tokens if "token_id" in token] for tokens in both]
    place = end["first_divergence"]
    assert ids[0][:place] == ids[1][:place]
    assert place >= num_given
    assert end["usage"]["completion_tokens"] == sum(column["num_tokens"] - num_given for column in end["columns"])


def test_independent_outcomes_differ_from_coupled_ones_in_one_text_at_least(client: TestClient) -> None:
    coupled, independent = (columns(events(client, **PAIR, pair=pair)) for pair in ("coupled", "independent"))
    assert coupled != independent


def test_a_review_is_told_beside_its_counterfactual(client: TestClient) -> None:
    review = "the film is the best film. films are films."
    told = events(client, text=f" {review}<br />", label="neg", seed=1)
    start, end = told[0][1], told[-1][1]
    assert start["source"] == {"text": review, "label": "neg"}
    assert [column["outcome"] for column in start["columns"]] == [1]
    (tokens,) = columns(told)
    assert all("top" in token for token in tokens if "token_id" in token)
    changes = end["changes"]
    assert "".join([change["text"] for change in changes if change["kind"] != "added"]) == review
    assert "".join([change["text"] for change in changes if change["kind"] != "removed"]) == text(tokens)
    assert end["first_divergence"] is None


def test_a_review_whose_tokens_all_stay_is_its_own_counterfactual(client: TestClient) -> None:
    told = events(client, text="the film is best.", label="pos", keep_prefix=1000, seed=1)
    (tokens,) = columns(told)
    assert text(tokens) == "the film is best."
    assert told[-1][1]["changes"] == [{"kind": "same", "text": "the film is best."}]


def test_words_of_a_review_are_redacted_everywhere(client: TestClient) -> None:
    told = events(client, text="the fucking film", label="pos", keep_prefix=1000, seed=1, top=0)
    assert "fuck" not in json.dumps(told)
    assert told[0][1]["source"]["text"] == "the [redacted] film"
    assert told[-1][1]["columns"][0]["num_redacted"] == 1


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"label": "neg"}, "label", "text"),
        ({"similarity": 0.5}, "similarity", "text"),
        ({"text": "a film"}, "label", "sentiment"),
        ({"text": "a film", "label": "neg", "begin": "a"}, "begin", "pair"),
        ({"text": "x" * 601, "label": "neg"}, "text", "at most 600"),
        ({"text": "", "label": "neg"}, None, "empty"),
        ({"max_tokens": 0}, "max_tokens", "1 or more"),
        ({"prompt": "a [REVIEW] b", "begin": "c"}, "begin", "one of them"),
        ({"steer": {"mode": "plain", "strength": 2}}, None, "strength"),
        ({"steer": {}}, "steer.mode", "missing"),
        ({"stream": True}, "stream", "no field"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_event(
    client: TestClient, body: dict[str, Any], param: str | None, message: str
) -> None:
    answer = client.post("/v1/counterfactual", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert message in answer.json()["error"]["message"]


def test_a_review_that_the_model_could_not_have_written_is_refused_with_a_status(client: TestClient) -> None:
    answer = client.post(
        "/v1/counterfactual", json={"text": "the film zzz", "label": "neg", "temperature": 0, "seed": 1}
    )
    assert answer.status_code == 400
    assert "probability 0" in answer.json()["error"]["message"]


def test_one_head_tells_of_reviews_where_its_prompt_names_their_sentiment() -> None:
    with served(open_author("model=vanilla")) as service:
        client = TestClient(create_app(service))
        refused = client.post("/v1/counterfactual", json=PAIR)
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "unsupported"
        review = client.post("/v1/completions", json={"prompt": "", **PAIR}).json()["choices"][0]["text"]
        told = events(client, text=review, label="pos", seed=1)
        assert [column["outcome"] for column in told[0][1]["columns"]] == [0]
        assert "negative" in told[0][1]["columns"][0]["prompt"]
        (tokens,) = columns(told)
        assert all(len(token["p"]) == 1 and "js" not in token for token in tokens)
        steered = client.post("/v1/counterfactual", json={"text": review, "label": "pos", "steer": {"mode": "cfg"}})
        assert steered.json()["error"]["code"] == "unsupported"
    with served(open_author("model=vanilla", "data.conditioning=command")) as service:
        answer = TestClient(create_app(service)).post("/v1/counterfactual", json={"text": "a", "label": "neg"})
        assert answer.json()["error"]["code"] == "unsupported"
