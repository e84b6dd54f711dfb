import re
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from nano_llm.serving.app import create_app
from nano_llm.serving.service import Service
from serving.authors import open_author
from serving.servers import served


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with served(open_author("model=tarnet")) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    return TestClient(create_app(service))


def test_the_page_and_all_it_names_are_served(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in page.headers["content-security-policy"]
    named = re.findall(r'(?:src|href)="(static/[^"]+)"', page.text)
    assert named
    for path in named:
        assert client.get(f"/{path}").status_code == 200
    assert client.get("/static/page.js").headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("path", ["/static/app.py", "/static/..%2Fapp.py", "/static/%2e%2e/app.py", "/docs", "/redoc"])
def test_nothing_else_is(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_a_key_opens_what_is_not_open_to_all(service: Service) -> None:
    client = TestClient(create_app(service, keys=["secret"]))
    for path in ("/", "/static/page.js", "/health", "/ready"):
        assert client.get(path).status_code == 200
    for path in ("/v1/models", "/version", "/metrics", "/openapi.json"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"Authorization": "Bearer secret"}).status_code == 200


def test_a_byte_order_mark_is_no_part_of_a_body(client: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client.post("/v1/completions", content=b'\xef\xbb\xbf{"max_tokens": 1}', headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"{}", None, 415, "content_type"),
        (b"{}", "text/plain", 415, "content_type"),
        (b"{", "application/json", 400, "invalid_value"),
        (b"\xff\xfe\xfd", "application/json", 400, "invalid_value"),
        (b"[]", "application/json", 400, "invalid_value"),
        (b"null", "application/json", 400, "invalid_value"),
        (b"", "application/json", 400, "invalid_value"),
        (b'{"temperature": NaN}', "application/json", 400, "invalid_value"),
        (b'{"temperature": 1e999}', "application/json", 400, "invalid_value"),
        (b'{"prompt": "\\ud800"}', "application/json", 400, "invalid_value"),
        (b'{"prompt": [[' + b"9" * 30 + b"]]}", "application/json", 400, "invalid_value"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "application/json", 400, "invalid_value"),
        (b"[" * 100_000, "application/json", 400, "invalid_value"),
        (b'{"prompt": "' + b"x" * (1 << 20) + b'"}', "application/json", 413, "body_too_large"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(
    client: TestClient, body: bytes, content_type: str | None, status: int, code: str
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = client.post("/v1/completions", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_every_answer_names_its_request(client: TestClient) -> None:
    answer = client.post("/v1/completions", json={"n": 0}, headers={"x-request-id": "mine"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (400, "mine")
