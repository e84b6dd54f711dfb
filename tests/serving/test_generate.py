from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from nano_llm.serving.app import create_app
from serving.servers import open_byte_author, served


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with served(open_byte_author("model=tarnet")) as service:
        yield TestClient(create_app(service))


def generated(client: TestClient, **body: Any) -> dict[str, str]:
    answer = client.post("/generate", json={"max_tokens": 20, "seed": 5} | body)
    assert answer.status_code == 200, answer.text
    told: dict[str, str] = answer.json()
    return told


def completed(client: TestClient, **body: Any) -> str:
    fields = {"prompt": "", "max_tokens": 20, "seed": 5, "stop": "\n"} | body
    return str(client.post("/v1/completions", json=fields).json()["choices"][0]["text"])


def test_a_review_is_what_a_completion_with_the_same_fields_is(client: TestClient) -> None:
    told = generated(client, job_id="a", head_id=1)
    assert told == {"job_id": "a", "output": completed(client, nano_llm={"outcome": 1})}
    assert generated(client)["output"] == completed(client)
    assert generated(client, job_id=None)["job_id"] != generated(client)["job_id"]


def test_both_reviews_are_the_reviews_of_either_head(client: TestClient) -> None:
    told = generated(client, job_id="a", both_reviews=True)
    assert told == {
        "job_id": "a",
        "output_y0": generated(client, head_id=0)["output"],
        "output_y1": generated(client, head_id=1)["output"],
    }


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"method": "greedy", "top_k": 3}, {"temperature": 0}),
        ({"method": "top_k", "top_k": 3, "top_p": 0.1}, {"top_k": 3}),
        ({"method": "top_p", "top_k": 3, "top_p": 0.1}, {"top_p": 0.1}),
        ({"top_k": 30, "top_p": 0.5}, {"top_k": 30, "top_p": 0.5}),
        ({"top_p": 1.0, "method": "top_p"}, {}),
        ({"temperature": 0.5, "repetition_penalty": 1.5}, {"temperature": 0.5, "repetition_penalty": 1.5}),
        ({"stop_sequence": "e"}, {"stop": ["e", "\n"]}),
        ({"stop_sequence": ""}, {}),
        ({"shared_head": False, "no_sanitize": True, "no_censor": False}, {}),
    ],
)
def test_fields_mean_what_they_say(client: TestClient, fields: dict[str, Any], same: dict[str, Any]) -> None:
    assert generated(client, **fields)["output"] == completed(client, **same)


def test_a_text_ends_at_a_line_feed_unless_told_otherwise(client: TestClient) -> None:
    whole = (generated(client, seed=seed, no_stop_newline=True, max_tokens=64) for seed in range(100))
    seed, text = next((seed, told["output"]) for seed, told in enumerate(whole) if "\n" in told["output"])
    assert generated(client, seed=seed, max_tokens=64)["output"] == text.split("\n")[0]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"shared_head": True}, "unsupported", "shared_head"),
        ({"no_censor": True}, "unsupported", "no_censor"),
        ({"both_reviews": True, "head_id": 1}, "invalid_value", "head_id"),
        ({"head_id": 2}, "invalid_value", "head_id"),
        ({"head_id": True}, "invalid_value", "head_id"),
        ({"method": "beam"}, "invalid_value", "method"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"response_file": "x"}, "invalid_value", "response_file"),
    ],
)
def test_what_cannot_be_had_is_refused(client: TestClient, fields: dict[str, Any], code: str, param: str) -> None:
    answer = client.post("/generate", json=fields)
    assert answer.status_code == 400
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)


def test_a_server_that_redacts_nothing_redacts_where_asked() -> None:
    with served(open_byte_author("model=tarnet"), censored=False) as service:
        client = TestClient(create_app(service))
        for no_censor in (None, True, False):
            assert generated(client, no_censor=no_censor)["output"]
