"""What the log tells of errors that are nobody's wish."""

from nano_llm.serving.fault import trace_without_message


def failing(secret: str) -> None:
    try:
        raise ValueError(secret)
    except ValueError as error:
        raise RuntimeError(f"while reading {secret}") from error


def test_a_trace_tells_kinds_and_places_and_no_words() -> None:
    try:
        failing(" ".join(["a", "prompt"]))  # the lines of the source are told
    except RuntimeError as error:
        told = trace_without_message(error)
    assert told.startswith("RuntimeError\n")
    assert "from ValueError\n" in told
    assert told.count("in failing") == 2
    assert "a prompt" not in told
