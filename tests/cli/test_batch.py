"""Files of requests: one answer a line, whatever the line, and once only."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import odd_json
from nano_llm import checkpoint
from nano_llm.cli.batch import answer_requests
from nano_llm.cli.main import main
from nano_llm.generation.author import Author
from nano_llm.generation.request import COUNTERFACTUAL_FIELDS, REQUEST_FIELDS
from properties import examples
from torture_factor import FACTOR


def answer(model: Path, requests: Path, *arguments: str) -> int:
    out = str(requests.with_name("answers.jsonl"))
    return main(["generate", str(model), "--requests", str(requests), "--out", out, "--device", "cpu", *arguments])


def answers(requests: Path) -> list[dict[str, Any]]:
    lines = requests.with_name("answers.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    """Twelve good lines."""
    path = tmp_path / "requests.jsonl"
    lines = [{"outcome": "both", "num": 2, "tokens": 6, "seed": seed, "id": f"r{seed}"} for seed in range(12)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_answers_are_what_the_command_gives_for_each_line(
    capsys: pytest.CaptureFixture[str], two_heads: Path, requests: Path
) -> None:
    assert answer(two_heads, requests) == 0
    capsys.readouterr()
    told = answers(requests)
    assert [line["id"] for line in told] == [f"r{seed}" for seed in range(12)]
    assert main(["generate", str(two_heads), "--num", "2", "--tokens", "6", "--seed", "7", "--json"]) == 0
    single = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    assert [text["text"] for text in told[7]["texts"]] == single


def test_a_bad_line_gets_an_error_and_stops_nothing(two_heads: Path, tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    lines = [
        '{"outcome": "y1", "tokens": 4}',
        "{",
        "[1]",
        '{"temperature": -1}',
        '{"temprature": 1}',
        '{"tokens": "many"}',
        '{"prompt": "about xylophones"}',
        '{"text": "the plot is dull.", "label": "maybe"}',
        "[" * 100_000,
        "",
        '{"outcome": "y0", "tokens": 4}',
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert answer(two_heads, path) == 1
    told = answers(path)
    assert [line["line"] for line in told] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 11]
    assert ["error" in line for line in told] == [False, *[True] * 8, False]
    assert "did you mean temperature" in told[4]["error"]
    assert "xylophones" in told[6]["error"]


def test_a_line_may_ask_for_a_counterfactual(two_heads: Path, tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text(
        json.dumps({"text": "the plot is dull.", "label": "neg", "topic": "drama", "draws": 3}), encoding="utf-8"
    )
    assert answer(two_heads, path, "--tokens", "7", "--num", "5") == 0
    (line,) = answers(path)
    assert [text["outcome"] for text in line["texts"]] == ["y1"] * 3


def test_options_hold_for_lines_that_say_nothing_else(two_heads: Path, tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text('{}\n{"tokens": 3}\n', encoding="utf-8")
    assert answer(two_heads, path, "--tokens", "5", "--outcome", "y0") == 0
    assert [text["num_tokens"] for line in answers(path) for text in line["texts"]] == [5, 3]


@pytest.mark.parametrize(("num_answers", "num_bytes_lost"), [(5, 1), (10, 40), (12, 0)])
def test_batches_that_were_answered_whole_are_kept_and_the_rest_is_answered_as_if_nothing_had_happened(
    monkeypatch: pytest.MonkeyPatch, two_heads: Path, requests: Path, num_answers: int, num_bytes_lost: int
) -> None:
    assert answer(two_heads, requests) == 0
    file = requests.with_name("answers.jsonl")
    whole = file.read_bytes()
    first = b"".join(whole.splitlines(keepends=True)[:num_answers])
    file.write_bytes(first[: len(first) - num_bytes_lost])
    asked: list[int] = []
    commissions = Author.commissions

    def counting(author: Author, request: Any) -> Any:
        asked.append(request.seed)
        return commissions(author, request)

    monkeypatch.setattr(Author, "commissions", counting)
    assert answer(two_heads, requests) == 0
    # Eight lines ask for the 32 texts that are written together.
    assert asked == list(range({5: 0, 10: 8, 12: 12}[num_answers], 12))
    assert file.read_bytes() == whole
    asked.clear()
    assert answer(two_heads, requests) == 0
    assert asked == []


def test_answers_cut_off_at_any_byte_are_ended_byte_for_byte(two_heads: Path, requests: Path) -> None:
    lines = [{"tokens": 3 + n % 5, "seed": n, "num": 1 + n % 3, "top": n % 2} for n in range(30)]
    lines[3:3] = [{"temperature": -1}, {"text": "the plot is dull.", "label": "neg", "topic": "drama", "draws": 3}]
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    file = requests.with_name("answers.jsonl")
    assert answer(two_heads, requests) == 1
    whole = file.read_bytes()
    for cut in random.Random(0).sample(range(len(whole)), 4 * FACTOR):
        file.write_bytes(whole[:cut])
        assert answer(two_heads, requests) == 1
        assert file.read_bytes() == whole, f"cut at byte {cut}"


def test_answers_to_other_requests_are_not_mixed(
    capsys: pytest.CaptureFixture[str], two_heads: Path, one_head: Path, requests: Path
) -> None:
    assert answer(two_heads, requests) == 0
    before = requests.with_name("answers.jsonl").read_bytes()
    assert answer(two_heads, requests, "--temperature", "0.5") == 2
    assert "other requests" in capsys.readouterr().err
    assert answer(one_head, requests) == 2
    assert "another model" in capsys.readouterr().err
    requests.with_name("answers.jsonl").write_text("not ours\n", encoding="utf-8")
    assert answer(two_heads, requests) == 2
    requests.with_name("answers.jsonl").write_bytes(before)
    assert answer(two_heads, requests) == 0


@pytest.mark.parametrize("content", [b'{"outcome": "y1"}', b'{"outcome": "y1"}\n{"outcome": "y0"}', b"my notes"])
def test_a_file_that_is_not_ours_is_left_as_it_is(
    capsys: pytest.CaptureFixture[str], two_heads: Path, requests: Path, content: bytes
) -> None:
    requests.with_name("answers.jsonl").write_bytes(content)
    assert answer(two_heads, requests) == 2
    assert "no answers" in capsys.readouterr().err
    assert requests.with_name("answers.jsonl").read_bytes() == content


def test_a_first_answer_that_was_hardly_begun_is_answered_again(two_heads: Path, requests: Path) -> None:
    assert answer(two_heads, requests) == 0
    whole = requests.with_name("answers.jsonl").read_bytes()
    requests.with_name("answers.jsonl").write_bytes(whole[:4])
    assert answer(two_heads, requests) == 0
    assert requests.with_name("answers.jsonl").read_bytes() == whole


def test_a_file_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str], two_heads: Path, tmp_path: Path) -> None:
    assert answer(two_heads, tmp_path / "none.jsonl") == 2
    assert "none.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize("mine", ["a note without an end of line", "two\nlines", '{"line'])
def test_a_file_that_holds_no_answers_stays_as_it_is(two_heads: Path, requests: Path, mine: str) -> None:
    file = requests.with_name("answers.jsonl")
    file.write_text(mine, encoding="utf-8")
    is_ours = mine == '{"line'
    assert answer(two_heads, requests) == (0 if is_ours else 2)
    assert (file.read_text(encoding="utf-8") == mine) is not is_ours


def test_two_commands_do_not_write_answers_into_one_file(
    capsys: pytest.CaptureFixture[str], two_heads: Path, requests: Path
) -> None:
    lines = [{"outcome": "both", "num": 2, "tokens": 60, "seed": seed} for seed in range(160)]
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    file = requests.with_name("answers.jsonl")
    command = [sys.executable, "-m", "nano_llm.cli.main", "generate", str(two_heads), "--device", "cpu"]
    with subprocess.Popen([*command, "--requests", str(requests), "--out", str(file)]) as first:
        while not (file.exists() and file.stat().st_size):
            assert first.poll() is None, "it ended before it answered anything"
            time.sleep(0.01)
        first.send_signal(signal.SIGSTOP)
        before = file.read_bytes()
        status = answer(two_heads, requests)
        after = file.read_bytes()
        first.kill()
    assert status == 1
    assert f"Another command is writing the answers in {file}." in capsys.readouterr().err
    assert after == before
    assert len(before.splitlines()) < len(lines), "the first had nothing left to do"


def test_an_id_of_half_a_character_is_handed_through(two_heads: Path, tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text('{"id": "\\ud83d", "tokens": 3}\n{"tokens": 3}\n', encoding="utf-8")
    assert answer(two_heads, path) == 0
    assert [line.get("id") for line in answers(path)] == ["\ud83d", None]
    assert answer(two_heads, path) == 0


# -------------------------------------------------------------------------------------------- anything

NAMES = st.sampled_from([*REQUEST_FIELDS, *COUNTERFACTUAL_FIELDS, "id"])
COUNTERFACTUAL = {"text": "the plot is dull.", "label": "neg", "draws": 1}
SMALL = st.sampled_from([{"tokens": 2}, {"tokens": 1, "num": 2}, COUNTERFACTUAL])
ODD = odd_json.values | st.sampled_from(["y0", "both", "mixture", "cfg", "posterior", "position", "neg", "[REVIEW]"])
OBJECTS = st.tuples(SMALL, st.dictionaries(NAMES, ODD, max_size=3))
LINES = st.one_of(
    OBJECTS.map(lambda parts: json.dumps(parts[0] | parts[1]).encode()),
    odd_json.values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=20),
    st.sampled_from([b"", b"{", b"[" * 100_000, b'{"id":' * 5_000, b"\0", b"\xff", b"\xe2\x80\xa8", b"\r"]),
)


def no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


@pytest.fixture(scope="module")
def author(two_heads: Path) -> Author:
    return Author(checkpoint.load(two_heads), torch.device("cpu"), 8)


def answered(author: Author, place: Path, content: bytes) -> list[dict[str, Any]]:
    """Answer a file twice, the second time with nothing left to do, and read the answers strictly."""
    place.mkdir(exist_ok=True)
    requests, out = place / "requests.jsonl", place / "answers.jsonl"
    requests.write_bytes(content)
    out.unlink(missing_ok=True)
    num_failed = answer_requests(author, requests, out, {"tokens": 2}, fingerprint="f", censored=True)
    written = out.read_bytes()
    assert answer_requests(author, requests, out, {"tokens": 2}, fingerprint="f", censored=True) == num_failed
    assert out.read_bytes() == written
    told = [json.loads(line, parse_constant=no_constant) for line in written.decode().split("\n")[:-1]]
    assert sum("error" in answer for answer in told) == num_failed
    return told


@given(lines=st.lists(LINES, max_size=6))
@settings(max_examples=examples(25))
@example(lines=[b'{"id": NaN}', b'{"id": 1e999}', b'{"tokens": 1}'])
@example(lines=[b"\r\0", b'{"tokens": 1}\r'])
@example(lines=[b'{"id": ' + b"[" * n + b"]" * n + b"}" for n in range(900, 1000)])
@example(lines=[b'{"id": ' + b"9" * 4300 + b"}", b'{"seed": ' + b"9" * 4301 + b"}"])
@example(lines=[b'{"tokens": 1, "begin": "' + b"a" * 10_000_000 + b'"}', b'{"tokens": 1}'])
def test_every_line_has_one_answer_or_one_error(
    lines: list[bytes], author: Author, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = b"\n".join(lines)
    told = answered(author, tmp_path_factory.getbasetemp() / "any_lines", content)
    given = content.decode("utf-8-sig", errors="replace").split("\n")
    assert [answer["line"] for answer in told] == [n for n, line in enumerate(given, start=1) if line.strip()]
    for answer in told:
        assert ("error" in answer) is not ("texts" in answer)
        assert "error" not in answer or answer["error"]
        assert all(isinstance(text["text"], str) for text in answer.get("texts", []))
