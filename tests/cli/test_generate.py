"""``nano-llm generate``: what is printed, what is refused, and how."""

import json
from pathlib import Path

import pytest

from nano_llm.cli.main import main


def generate(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["generate", *map(str, arguments), "--device", "cpu"]) == 0
    return capsys.readouterr().out


def texts(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, object]]:
    return [json.loads(line) for line in generate(capsys, *arguments, "--json").splitlines()]


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["generate", *map(str, arguments), "--device", "cpu"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_both_outcomes_are_written_one_below_the_other(capsys: pytest.CaptureFixture[str], two_heads: Path) -> None:
    out = generate(capsys, two_heads, "--tokens", 6, "--num", 2)
    headings = [line.partition(":")[0] for line in out.splitlines() if line]
    expected = ["Y0 (negative), drama", "Y1 (positive), drama", "Y0 (negative), comedy", "Y1 (positive), comedy"]
    assert headings == expected


def test_text_and_json_tell_the_same(capsys: pytest.CaptureFixture[str], two_heads: Path) -> None:
    shown = [line.partition(": ")[2] for line in generate(capsys, two_heads, "--tokens", 9).splitlines() if line]
    told = texts(capsys, two_heads, "--tokens", 9)
    assert [line.removesuffix(" [...]") for line in shown] == [text["text"] for text in told]
    assert all(text["finish"] == "length" for text in told)


def test_a_seed_gives_the_same_text_alone_and_with_others(capsys: pytest.CaptureFixture[str], two_heads: Path) -> None:
    many = texts(capsys, two_heads, "--tokens", 12, "--num", 5, "--seed", 3)
    alone = texts(capsys, two_heads, "--tokens", 12, "--outcome", "y1", "--seed", 3)
    other = texts(capsys, two_heads, "--tokens", 12, "--outcome", "y1", "--seed", 4)
    assert alone[0]["text"] == many[1]["text"]
    assert other[0]["text"] != alone[0]["text"]


def test_json_tells_what_the_heads_said_of_each_token(capsys: pytest.CaptureFixture[str], two_heads: Path) -> None:
    (text,) = texts(capsys, two_heads, "--outcome", "mixture", "--tokens", 5, "--top", 3)
    assert text["outcome"] is None
    tokens = text["tokens"]
    assert isinstance(tokens, list)
    assert "".join(token["text"] for token in tokens) == text["text"]
    for token in tokens:
        assert len(token["log_p"]) == 2
        assert 0 <= token["divergence"] <= 0.7
        assert [len(top) for top in token["top"]] == [3, 3]
        for log_p, top in zip(token["log_p"], token["top"], strict=True):
            assert log_p <= top[0][1]


def test_one_head_writes_both_outcomes_by_its_prompts(capsys: pytest.CaptureFixture[str], one_head: Path) -> None:
    negative, positive = texts(capsys, one_head, "--tokens", 5)
    assert "negative" in str(negative["prompt"])
    assert "positive" in str(positive["prompt"])
    assert all(token["divergence"] is None for token in negative["tokens"])  # type: ignore[attr-defined]


def test_a_model_without_outcomes_writes_a_review(capsys: pytest.CaptureFixture[str], one_law: Path) -> None:
    (text,) = texts(capsys, one_law, "--tokens", 5)
    assert text["outcome"] is None
    assert generate(capsys, one_law, "--tokens", 5).startswith("review, drama: ")


def test_a_prompt_of_ones_own_and_a_beginning(capsys: pytest.CaptureFixture[str], two_heads: Path) -> None:
    (text,) = texts(
        capsys, two_heads, "--outcome", "y0", "--tokens", 6, "--prompt", "about horror", "--begin", "the plot is"
    )
    assert text["prompt"] == "about horror [REVIEW]"
    assert text["topic"] is None
    assert str(text["text"]).startswith("the plot is ")


def test_a_stop_string_ends_a_text(capsys: pytest.CaptureFixture[str], two_heads: Path) -> None:
    (whole,) = texts(capsys, two_heads, "--outcome", "y0", "--tokens", 12)
    word = str(whole["text"]).split()[4]
    (cut,) = texts(capsys, two_heads, "--outcome", "y0", "--tokens", 12, "--stop", word)
    assert cut["finish"] == "stop"
    assert cut["text"] == str(whole["text"]).partition(word)[0]


def test_a_page_shows_the_texts(capsys: pytest.CaptureFixture[str], two_heads: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    (text,) = texts(capsys, two_heads, "--outcome", "y0", "--tokens", 8, "--html", page)
    html = page.read_text(encoding="utf-8")
    assert all(f"{word}<" in html for word in str(text["text"]).replace(",", "").replace(".", "").split())


@pytest.mark.parametrize("page", ["missing/page.html", "."])
def test_a_page_that_cannot_be_is_told_before_anything_is_written(
    capsys: pytest.CaptureFixture[str], two_heads: Path, tmp_path: Path, page: str
) -> None:
    assert main(["generate", str(two_heads), "--json", "--html", str(tmp_path / page)]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert "Name a file" in error
    assert list(tmp_path.iterdir()) == []


def test_a_page_tells_no_explicit_word_of_the_options_either(explicit_words: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    command = ["generate", str(explicit_words), "--begin", "the fucking plot", "--tokens", "4", "--html", str(page)]
    assert main(command) == 0
    assert "fucking" not in page.read_text(encoding="utf-8")
    assert main([*command, "--no-censor"]) == 0
    assert "the fucking plot" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--temperature=-1"], "temperature"),
        (["--prompt="], "prompt is empty"),
        (["--prompt", "about horror " * 200], "at most"),
        (["--prompt", "about xylophones"], "xylophones"),
        (["--begin", "the plot is xylophonic"], "xylophonic"),
        (["--topic", "westerns"], "drama"),
        (["--top-p", "0"], "top_p"),
        (["--num", "0"], "num"),
        (["--tokens", "0"], "tokens"),
        (["--seed=-1"], "seed"),
        (["--stop="], "stop string is empty"),
        (["--strength", "2"], "strength"),
        (["--outcome", "mixture", "--steer", "contrast"], "mixture"),
        (["--out", "answers.jsonl"], "--requests"),
        (["--top", "3"], "--json"),
        (["--num", "1000000"], "10000"),
        (["--tokens", "1000000"], "10000"),
        (["--requests", "requests.jsonl"], "--out"),
    ],
)
def test_bad_input_gives_one_sentence(
    capsys: pytest.CaptureFixture[str], two_heads: Path, arguments: list[str], told: str
) -> None:
    assert told in refusal(capsys, two_heads, *arguments)


@pytest.mark.parametrize("arguments", [["--outcome", "mixture"], ["--steer", "posterior"]])
def test_what_needs_two_heads_is_refused_to_one(
    capsys: pytest.CaptureFixture[str], one_head: Path, arguments: list[str]
) -> None:
    assert "two" in refusal(capsys, one_head, *arguments)


@pytest.mark.parametrize("outcome", ["y0", "y1", "both"])
def test_an_outcome_is_refused_where_the_model_has_none(
    capsys: pytest.CaptureFixture[str], one_law: Path, outcome: str
) -> None:
    assert "one head" in refusal(capsys, one_law, "--outcome", outcome)


def test_an_unknown_run_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "nowhere" in refusal(capsys, tmp_path / "nowhere")
    assert "no run" in refusal(capsys, "latest", "--outputs", tmp_path)
