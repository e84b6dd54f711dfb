"""What the log tells of errors that are nobody's wish."""

import traceback


def trace_without_message(error: BaseException) -> str:
    """Return where an error came from, without its words: they may quote a prompt."""
    causes: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        causes.append(f"{type(seen).__name__}\n{''.join(traceback.format_tb(seen.__traceback__))}")
        seen = seen.__cause__ or seen.__context__
    return "from ".join(causes)
