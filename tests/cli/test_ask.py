"""``nano-llm ask``: what is sent, and what of the answer is shown. The server here only plays its part."""

import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nano_llm.cli.main import main


@dataclass
class Played:
    """What a server of the tests answers, and what it was asked."""

    url: str
    status: int = 200
    content_type: str = "text/event-stream"
    content: str = "data: [DONE]\n\n"
    asked: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)

    @property
    def body(self) -> Any:
        return json.loads(self.asked[-1][1])


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    monkeypatch.delenv("NANO_LLM_API_KEY", raising=False)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.asked.append((self.path, body, dict(self.headers)))
            self.send_response(server.status)
            self.send_header("Content-Type", server.content_type)
            self.end_headers()
            self.wfile.write(server.content.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = Played(f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        http.shutdown()
        thread.join()


def ask(capsys: pytest.CaptureFixture[str], played: Played, *arguments: str) -> str:
    assert main(["ask", "--url", played.url, *arguments]) == 0
    return capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str, status: int) -> str:
    assert main(["ask", *arguments]) == status
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    return error


def stream_of(*events: object, last: object = "[DONE]") -> str:
    lines = [f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in (*events, last)]
    return ": ping\n\n" + "".join(lines)


def chunk(index: int, text: str, finish: str | None = None) -> dict[str, object]:
    return {"choices": [{"index": index, "text": text, "logprobs": None, "finish_reason": finish}]}


def test_a_prompt_is_sent_and_the_text_is_shown(capsys: pytest.CaptureFixture[str], played: Played) -> None:
    played.content = stream_of(chunk(0, "was “fine”"), chunk(0, ". really"), chunk(0, "", "stop"), {"choices": []})
    assert ask(capsys, played, 'the "acting"') == "was “fine”. really\n\n"
    assert played.asked[0][0] == "/v1/completions"
    assert played.body == {"prompt": 'the "acting"', "echo": True, "stream": True}
    assert "Authorization" not in played.asked[0][2]


def test_without_a_prompt_the_model_begins(capsys: pytest.CaptureFixture[str], played: Played) -> None:
    ask(capsys, played)
    assert played.body == {"prompt": "", "stream": True}


def test_options_become_fields(capsys: pytest.CaptureFixture[str], played: Played) -> None:
    options = (
        "--outcome y1 --num 2 --tokens 9 --seed 3 --temperature 0.5 --stop a --stop b --steer contrast --strength 2"
    )
    ask(capsys, played, "x", *options.split())
    assert played.body == {
        "prompt": "x",
        "echo": True,
        "stream": True,
        "n": 2,
        "max_tokens": 9,
        "seed": 3,
        "temperature": 0.5,
        "stop": ["a", "b"],
        "nano_llm": {"outcome": 1, "steer": {"mode": "contrast", "strength": 2.0}},
    }


def test_both_outcomes_are_shown_one_below_the_other(capsys: pytest.CaptureFixture[str], played: Played) -> None:
    played.content = stream_of(
        chunk(0, "dull"), chunk(1, "great"), chunk(1, " fun", "length"), chunk(0, " film", "stop"), chunk(2, "", "stop")
    )
    shown = ask(capsys, played, "x", "--outcome", "both")
    assert shown == "Y0 (negative): dull film\n\nY1 (positive): great fun [...]\n\nY0 (negative): \n\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_prompt_comes_from_a_file_or_the_standard_input(
    encoding: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    played: Played,
    tmp_path: Path,
) -> None:
    content = "le “film”\r\nwas\r\n".encode(encoding)
    (tmp_path / "prompt.txt").write_bytes(content)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    for name in ("-", str(tmp_path / "prompt.txt")):
        ask(capsys, played, "--file", name)
        assert played.body["prompt"] == "le “film”\nwas"


def test_a_body_is_sent_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, played: Played
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'\xef\xbb\xbf{\r\n"prompt": "caf\xc3\xa9"}\r\n')))
    played.content, played.content_type = '{"choices": [{"text": "né"}]}', "application/json"
    shown = ask(capsys, played, "--body", "-", "--route", "/generate")
    assert json.loads(shown) == {"choices": [{"text": "né"}]}
    assert "né" in shown
    assert played.asked[0][:2] == ("/generate", '{\n"prompt": "café"}\n'.encode())


@pytest.mark.parametrize("body", ['{"both_reviews": true}', '{"nano_llm": {"outcome": "both"}}'])
def test_both_outcomes_of_a_body_have_headings(
    body: str, capsys: pytest.CaptureFixture[str], played: Played, tmp_path: Path
) -> None:
    (tmp_path / "body.json").write_text(body)
    played.content = stream_of(chunk(0, "dull", "stop"), chunk(1, "great", "stop"))
    shown = ask(capsys, played, "--body", str(tmp_path / "body.json"))
    assert shown == "Y0 (negative): dull\n\nY1 (positive): great\n\n"


def test_chat_streams_are_shown_too(capsys: pytest.CaptureFixture[str], played: Played, tmp_path: Path) -> None:
    (tmp_path / "body.json").write_text("[")  # no JSON, which is for the server to say
    deltas = [({"role": "assistant", "content": ""}, None), ({"content": "fine"}, None), ({}, "stop")]
    played.content = stream_of(
        *({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} for delta, finish in deltas)
    )
    assert ask(capsys, played, "--body", str(tmp_path / "body.json"), "--route", "/v1/chat/completions") == "fine\n\n"


def test_counterfactuals_are_shown_under_their_outcome(
    capsys: pytest.CaptureFixture[str], played: Played, tmp_path: Path
) -> None:
    (tmp_path / "body.json").write_text("{}")
    events = {
        "start": {"columns": [{"outcome": 1, "prompt": "x"}], "source": {"text": "dull", "label": 0}},
        "step": {"columns": [[{"text": "gr"}, {"text": "eat"}]]},
        "end": {"columns": [{"finish_reason": "stop", "num_tokens": 2}]},
    }
    played.content = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events.items())
    shown = ask(capsys, played, "--body", str(tmp_path / "body.json"), "--route", "/v1/counterfactual")
    assert shown == "Y1 (positive): great\n\n"


@pytest.mark.parametrize("from_where", ["option", "environment"])
def test_the_key_is_sent(
    from_where: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, played: Played
) -> None:
    if from_where == "environment":
        monkeypatch.setenv("NANO_LLM_API_KEY", "schlüssel")
    ask(capsys, played, *(["--api-key", "schlüssel"] if from_where == "option" else []))
    assert played.asked[0][2]["Authorization"].encode("latin-1") == "Bearer schlüssel".encode()


def test_what_a_server_refuses_is_told(capsys: pytest.CaptureFixture[str], played: Played) -> None:
    played.status, played.content_type = 400, "application/json"
    played.content = '{"error": {"message": "n: give a whole number, not 0.", "code": "invalid_value"}}'
    assert "n: give a whole number, not 0." in refusal(capsys, "--url", played.url, status=1)
    played.content = "<html>"
    assert "answers 400 Bad Request" in refusal(capsys, "--url", played.url, status=1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (stream_of(chunk(0, "begun"), {"error": {"message": "The server is shutting down."}}), "is shutting down"),
        (stream_of(chunk(0, "begun"), last=chunk(0, " and")), "broke off"),
    ],
)
def test_a_stream_that_does_not_come_to_its_end_is_a_failure(
    content: str, words: str, capsys: pytest.CaptureFixture[str], played: Played
) -> None:
    played.content = content
    assert main(["ask", "--url", played.url]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("begun")
    assert words in captured.err


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("text/event-stream", 'data: {"x'),
        ("text/event-stream", "data: 1"),
        ("text/html", "<html>"),
        ("application/json", '{"choices": ['),
    ],
)
def test_an_answer_that_cannot_be_read_is_a_failure(
    content_type: str, content: str, capsys: pytest.CaptureFixture[str], played: Played
) -> None:
    played.content_type, played.content = content_type, content
    assert "See whether --url is a server of `nano-llm serve`" in refusal(capsys, "--url", played.url, status=1)


def test_the_address_of_openais_clients_and_a_route_without_its_slash_will_do(
    capsys: pytest.CaptureFixture[str], played: Played, tmp_path: Path
) -> None:
    body = tmp_path / "body.json"
    body.write_text("{}")
    address = f"{played.url}/v1/"
    assert main(["ask", "--url", address, "--body", str(body), "--route", "v1/counterfactual"]) == 0
    assert played.asked[-1][0] == "/v1/counterfactual"


def test_tls_that_the_server_does_not_speak_is_told(capsys: pytest.CaptureFixture[str], played: Played) -> None:
    said = refusal(capsys, "--url", played.url.replace("http:", "https:"), status=1)
    assert "but not by TLS" in said
    assert "begins with http://" in said


def test_where_no_server_is_it_says_how_to_start_one(capsys: pytest.CaptureFixture[str], played: Played) -> None:
    said = refusal(capsys, "--url", "http://127.0.0.1:1", status=1)
    assert "No server answers at http://127.0.0.1:1" in said
    assert "nano-llm serve RUN" in said


URLS = [
    "127.0.0.1:18080",
    "ftp://x",
    "http://",
    "http://x:port",
    "http://[1",
    "http://a b",
    "http://x/é",
    "http://x/a b",
]


@pytest.mark.parametrize("url", [*URLS, f"http://{'x' * 64}.example", "http://\udcff"])
def test_an_address_that_is_none_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "give an address such as" in refusal(capsys, "--url", url, status=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x", "--file", "y"], "two prompts"),
        (["x", "--body", "y"], "leave out a prompt"),
        (["--body", "y", "--tokens", "3"], "leave out --tokens"),
        (["--strength", "3"], "--steer"),
        (["--file", "/nowhere"], "cannot read /nowhere"),
        (["--body", "/nowhere"], "cannot read /nowhere"),
    ],
)
def test_what_does_not_go_together_is_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refusal(capsys, *arguments, status=2)


@pytest.mark.parametrize("route", ["/v1/é", "/a b", "", "/a\nb"])
def test_a_route_that_is_none_is_refused(
    route: str, capsys: pytest.CaptureFixture[str], played: Played, tmp_path: Path
) -> None:
    body = tmp_path / "body.json"
    body.write_text("{}")
    arguments = ["--url", played.url, "--body", str(body), "--route", route]
    assert "give one of the server's, such as /v1/completions" in refusal(capsys, *arguments, status=2)
    assert played.asked == []


@pytest.mark.parametrize(("key", "words"), [("abc\n", "has a character that cannot be printed"), (" ", "is empty")])
def test_a_key_that_is_none_is_refused_and_not_told(
    key: str, words: str, capsys: pytest.CaptureFixture[str], played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"--api-key {words}" in refusal(capsys, "--url", played.url, "--api-key", key, status=2)
    monkeypatch.setenv("NANO_LLM_API_KEY", key)
    said = refusal(capsys, "--url", played.url, status=2)
    assert f"NANO_LLM_API_KEY {words}" in said
    assert "abc" not in said


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("content_type", "content", "shown", "sent"),
    [
        ("text/event-stream", None, "a]0;b\tc\nd\n\n", "a\x1b]0;b\x07\tc\n\x9b\rd\n\n"),
        ("application/json", '"a\x9bb"', '"ab"\n', '"a\x9bb"\n'),
    ],
)
def test_a_terminal_is_not_steered(
    content_type: str, content: str | None, shown: str, sent: str, played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    played.content_type = content_type
    played.content = content or stream_of(chunk(0, "a\x1b]0;b\x07\tc\n\x9b\rd", "stop"))
    for out, expected in ((Terminal(), shown), (io.StringIO(), sent)):
        monkeypatch.setattr("sys.stdout", out)
        assert main(["ask", "--url", played.url]) == 0
        assert out.getvalue() == expected


def test_an_error_of_a_server_steers_no_terminal(capsys: pytest.CaptureFixture[str], played: Played) -> None:
    played.status, played.content = 400, json.dumps({"error": {"message": "no\x1b[2J"}})
    assert refusal(capsys, "--url", played.url, status=1) == "Error: no[2J\n"
