import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from nano_llm.errors import RequestError
from nano_llm.serving.app import File, create_app, page_files
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


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/health", "/ready"])
def test_what_is_open_to_all_may_be_asked_for_its_headers(client: TestClient, path: str) -> None:
    head, whole = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert head.headers["content-type"] == whole.headers["content-type"]


def test_what_is_no_file_of_a_page_is_left_out(tmp_path: Path) -> None:
    for name in ("index.html", "index.html~", ".page.js.swp", ".DS_Store"):
        (tmp_path / name).write_text(name)
    (tmp_path / "__pycache__").mkdir()
    assert page_files(tmp_path) == {"index.html": File(b"index.html", "text/html")}


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


@pytest.mark.parametrize("key", [" abc", "à", "clé-Å"])
def test_a_key_may_be_of_any_letters(service: Service, key: str) -> None:
    client = TestClient(create_app(service, keys=[key]))
    authorization = f"Bearer {key.strip()}".encode()
    assert client.get("/version", headers={"Authorization": authorization}).status_code == 200
    assert client.get("/version", headers={"Authorization": "Bearer "}).status_code == 401


def test_a_key_that_no_header_holds_is_refused(service: Service) -> None:
    with pytest.raises(RequestError, match="A key is empty"):
        create_app(service, keys=[""])


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
