"""``nano-llm chat``: commands line by line until the input ends."""

import builtins
import io
from pathlib import Path

import pytest

from nano_llm.cli.main import main


def chat(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: Path, *lines: str, options: str = ""
) -> list[str]:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    assert main(["chat", str(model), "--device", "cpu", "--tokens", "6", *options.split()]) == 0
    return [line for line in capsys.readouterr().out.splitlines() if line.strip()]


def generated(capsys: pytest.CaptureFixture[str], model: Path, *arguments: str) -> list[str]:
    assert main(["generate", str(model), "--device", "cpu", "--tokens", "6", *arguments]) == 0
    return [line for line in capsys.readouterr().out.splitlines() if line.strip()]


def test_commands_write_what_generate_would(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, two_heads: Path
) -> None:
    shown = chat(capsys, monkeypatch, two_heads, "+", "-", "b", "q", "+")
    expected = generated(capsys, two_heads, "--outcome", "y1", "--seed", "0")
    expected += generated(capsys, two_heads, "--outcome", "y0", "--seed", "1")
    expected += generated(capsys, two_heads, "--outcome", "both", "--seed", "2")
    assert shown == expected


def test_settings_change_what_is_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, two_heads: Path
) -> None:
    lines = ("steer contrast", "strength 3", "temperature 0.5", "seed 9", "t the plot", "+", "s")
    *shown, settings = chat(capsys, monkeypatch, two_heads, *lines)
    steered = ("--steer", "contrast", "--strength", "3", "--temperature", "0.5", "--seed", "9", "--begin", "the plot")
    assert shown == generated(capsys, two_heads, "--outcome", "y1", *steered)
    assert "steer contrast, strength 3, temperature 0.5, seed 10, begin the plot" in settings


def test_a_setting_without_a_value_is_by_default_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, two_heads: Path
) -> None:
    shown = chat(capsys, monkeypatch, two_heads, "temperature 0", "temperature", "t dull", "t", "+")
    assert shown == generated(capsys, two_heads, "--outcome", "y1")


def test_mistakes_are_told_and_change_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, two_heads: Path
) -> None:
    mistakes = (
        "temperature -1",
        "temperature warm",
        "strength 2",
        "steer north",
        "sing",
        "t xylophones",
        "+",
        "t",
        "+",
    )
    shown = chat(capsys, monkeypatch, two_heads, *mistakes)
    assert len(shown) == 7
    assert "temperature=-1" in shown[0]
    assert "xylophones" in shown[5]
    assert shown[6:] == generated(capsys, two_heads, "--outcome", "y1")


def test_the_reviews_so_far_are_remembered(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, two_heads: Path
) -> None:
    written, *history = chat(capsys, monkeypatch, two_heads, "h", "+", "h")[1:]
    text = written.partition(": ")[2].removesuffix(" [...]")
    assert history == [f"+ seed 0: {text}"]


def test_the_mixture_is_refused_to_one_head_and_the_chat_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, one_head: Path
) -> None:
    refusal, review = chat(capsys, monkeypatch, one_head, "m", "-")
    assert "one" in refusal
    assert review.startswith("Y0 (negative), drama: ")


def test_an_interrupt_ends_the_review_and_not_the_chat(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, two_heads: Path
) -> None:
    from nano_llm.generation.writer import Writer

    step, calls = Writer.step, [0]

    def interrupted(writer: Writer) -> object:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return step(writer)

    monkeypatch.setattr(Writer, "step", interrupted)
    cut, whole = chat(capsys, monkeypatch, two_heads, "+", "+")
    assert cut.endswith(" (ended)")
    assert whole == generated(capsys, two_heads, "--outcome", "y1")[0]


def test_the_reviews_so_far_are_redacted_as_they_were_when_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, explicit_words: Path
) -> None:
    lines = ("t the fucking plot", "tokens 3", "+", "h")
    shown = chat(capsys, monkeypatch, explicit_words, *lines)
    assert shown[1:] == ["+ seed 0: the [redacted] plot"]
    shown = chat(capsys, monkeypatch, explicit_words, *lines, options="--no-censor")
    assert shown[1:] == ["+ seed 0: the fucking plot"]


def test_another_rule_takes_its_own_strength_and_base(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, two_heads: Path
) -> None:
    contrast = ("steer contrast", "base mixture", "strength 3", "plausibility 0.1")
    for other, told in (("plain", "steer plain, "), ("posterior", "steer posterior, "), ("", "")):
        *_, settings = chat(capsys, monkeypatch, two_heads, *contrast, f"steer {other}", "s")
        assert sorted(settings.split(", ")) == sorted(f"{told}plausibility 0.1, tokens 6".split(", "))
    *_, settings = chat(capsys, monkeypatch, two_heads, *contrast, "steer contrast", "s")
    assert "strength 3" in settings


def test_an_interrupt_of_a_line_at_a_terminal_asks_for_another(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, two_heads: Path
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    given = iter([KeyboardInterrupt(), "+", EOFError()])

    def typed(_: str) -> str:
        line = next(given)
        if isinstance(line, BaseException):
            raise line
        return line

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(builtins, "input", typed)
    assert main(["chat", str(two_heads), "--device", "cpu", "--tokens", "6"]) == 0
    reviews = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Y")]
    assert reviews == generated(capsys, two_heads, "--outcome", "y1")


def test_input_that_is_not_utf8_is_told_in_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, two_heads: Path
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"t caf\xe9\n+\n"), encoding="utf-8"))
    assert main(["chat", str(two_heads), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "UTF-8" in error
    assert error.count("\n") == 1
