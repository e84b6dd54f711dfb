from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from nano_llm.serving.app import create_app
from serving.authors import open_author
from serving.servers import open_byte_author, served


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with served(open_byte_author("model=tarnet")) as service:
        yield TestClient(create_app(service))


@pytest.mark.parametrize("text", ["", "the film", "ünïcödé 🎬\n", "a prompt [REVIEW]", "[SENTIMENT] positive [REVIEW]"])
def test_text_survives_the_round_trip(client: TestClient, text: str) -> None:
    told = client.post("/tokenize", json={"prompt": text}).json()
    assert told["count"] == len(told["tokens"])
    assert client.post("/detokenize", json={"tokens": told["tokens"]}).json() == {"prompt": text}


def test_tokens_mean_what_their_text_means(client: TestClient) -> None:
    text = "a prompt [REVIEW] the film"
    tokens = client.post("/tokenize", json={"prompt": text}).json()["tokens"]
    asked = {"seed": 1, "max_tokens": 8, "echo": True, "logprobs": 0}
    one, other = (
        client.post("/v1/completions", json=asked | {"prompt": prompt}).json()["choices"] for prompt in (text, tokens)
    )
    assert one == other


def test_what_has_no_tokens_or_text_is_refused(client: TestClient) -> None:
    for path, body in (
        ("/detokenize", {"tokens": [10**9]}),
        ("/detokenize", {"tokens": [-1]}),
        ("/detokenize", {"tokens": [0] * 601}),
        ("/tokenize", {"prompt": "x" * 601}),
        ("/tokenize", {}),
    ):
        assert client.post(path, json=body).status_code == 400
    with served(open_author("model=tarnet")) as service:
        answer = TestClient(create_app(service)).post("/tokenize", json={"prompt": "the xylophone"})
        assert answer.status_code == 400
        assert "'xylophone'" in answer.json()["error"]["message"]
