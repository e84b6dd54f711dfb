"""``nano-llm counterfactual``: a review beside what it would have said."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from nano_llm.cli.main import main
from nano_llm.generation.redaction import Rules

REVIEW = "the plot is dull. i found the acting very boring. overall, the plot is quite disappointing."


def ask(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["counterfactual", *map(str, arguments), "--topic", "drama", "--device", "cpu"]) == 0
    return capsys.readouterr().out


@pytest.fixture
def review(tmp_path: Path) -> Path:
    path = tmp_path / "review.txt"
    path.write_text(REVIEW, encoding="utf-8")
    return path


def accounts(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ask(capsys, *arguments, "--json").splitlines()]


def test_both_texts_the_spread_and_the_caveat_are_shown(
    capsys: pytest.CaptureFixture[str], two_heads: Path, review: Path
) -> None:
    out = ask(capsys, two_heads, "--text", review, "--label", "neg", "--tokens", 20)
    assert "Y0 (negative), as given" in out
    assert "Y1 (positive), as it would have" in out
    assert "over 8 draws of noise: mean 0." in out
    assert "standard deviation" in out
    assert "cut short" in out
    assert "arXiv 2111.06888" in out


def test_text_may_come_on_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, two_heads: Path, review: Path
) -> None:
    from_file = accounts(capsys, two_heads, "--text", review, "--label", "pos", "--draws", 2)
    for content in (REVIEW.encode(), REVIEW.encode("utf-8-sig")):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert accounts(capsys, two_heads, "--text", "-", "--label", "pos", "--draws", 2) == from_file
    assert [text["outcome"] for text in from_file] == ["y0", "y0"]


def test_the_kept_prefix_stays(capsys: pytest.CaptureFixture[str], two_heads: Path, review: Path) -> None:
    kept = accounts(capsys, two_heads, "--text", review, "--label", "neg", "--keep-prefix", 10, "--draws", 3)
    assert all(text["text"].startswith("the plot is dull. i found the acting very") for text in kept)
    assert len({text["text"] for text in kept}) > 1


def test_the_share_of_changed_words_is_told(capsys: pytest.CaptureFixture[str], two_heads: Path, review: Path) -> None:
    num_tokens = 60
    whole = accounts(
        capsys, two_heads, "--text", review, "--label", "neg", "--keep-prefix", 500, "--tokens", num_tokens
    )
    assert all(REVIEW in text["text"] for text in whole)
    (other,) = accounts(capsys, two_heads, "--text", review, "--label", "neg", "--draws", 1)
    assert 0 < other["edit_share"] <= 1


def test_a_model_that_is_told_by_its_prompt_has_counterfactuals_too(
    capsys: pytest.CaptureFixture[str], one_head: Path, review: Path
) -> None:
    (text,) = accounts(capsys, one_head, "--text", review, "--label", "neg", "--draws", 1)
    assert "positive" in text["prompt"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--similarity", "1.5"], "similarity"),
        (["--draws", "0"], "draws"),
        (["--keep-prefix=-1"], "keep_prefix"),
        (["--temperature", "0"], "greedy"),
        (["--topic", "westerns"], "drama"),
    ],
)
def test_bad_input_gives_one_sentence(
    capsys: pytest.CaptureFixture[str], two_heads: Path, review: Path, arguments: list[str], told: str
) -> None:
    command = [
        "counterfactual",
        str(two_heads),
        "--text",
        str(review),
        "--label",
        "neg",
        "--topic",
        "drama",
        *arguments,
    ]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_topic_is_asked_for_where_prompts_name_one(
    capsys: pytest.CaptureFixture[str], two_heads: Path, review: Path
) -> None:
    assert main(["counterfactual", str(two_heads), "--text", str(review), "--label", "neg"]) == 2
    assert "drama, comedy" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_review_is_refused(
    capsys: pytest.CaptureFixture[str], two_heads: Path, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "empty.txt"
    path.write_text(text, encoding="utf-8")
    assert main(["counterfactual", str(two_heads), "--text", str(path), "--label", "neg"]) == 2
    assert "empty" in capsys.readouterr().err
    assert main(["counterfactual", str(two_heads), "--text", str(tmp_path / "none"), "--label", "neg"]) == 2


def test_a_review_that_is_not_utf8_is_refused_wherever_it_comes_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, two_heads: Path, tmp_path: Path
) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("the caf\u00e9 is dull.".encode("latin-1"))
    monkeypatch.setattr(
        "sys.stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes()), encoding="utf-8", errors="surrogateescape")
    )
    for text in (str(path), "-"):
        assert main(["counterfactual", str(two_heads), "--text", text, "--label", "neg", "--topic", "drama"]) == 2
        error = capsys.readouterr().err
        assert "utf-8" in error
        assert error.count("\n") == 1


def test_a_model_with_one_outcome_has_no_counterfactual(
    capsys: pytest.CaptureFixture[str], one_law: Path, review: Path
) -> None:
    assert main(["counterfactual", str(one_law), "--text", str(review), "--label", "neg"]) == 2
    assert "one outcome" in capsys.readouterr().err


def test_redaction_is_no_change(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, two_heads: Path, review: Path
) -> None:
    monkeypatch.setattr("nano_llm.generation.redaction.shipped_rules", lambda: Rules.of(["boring"], ["no such name"]))
    kept = ("--text", review, "--label", "neg", "--keep-prefix", 500, "--draws", 1)
    (text,) = accounts(capsys, two_heads, *kept)
    assert (text["num_redacted"], text["edit_share"]) == (1, 0.0)
    out = ask(capsys, two_heads, *kept)
    assert "boring" not in out
    assert "[-" not in out
    assert "mean 0.000" in out
