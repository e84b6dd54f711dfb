"""Keys of a server, as it and its clients spell them; needs no package."""

from nano_llm.errors import RequestError

KEY_VARIABLE = "NANO_LLM_API_KEY"
"""Where a server and its clients look for the key, which no list of processes shows there."""


def checked_key(key: str, source: str = "A key") -> str:
    """Return a key without the spaces around it, which no header keeps.

    Args:
        key: As it was given.
        source: Where it comes from, for the message; the key itself is never told.

    Raises:
        RequestError: A header could not hold it.
    """
    spelled = key.strip(" \t")
    if not spelled:
        raise RequestError(f"{source} is empty. Give a key, as `openssl rand -hex 16` makes, or none.")
    if not spelled.isprintable():
        raise RequestError(
            f"{source} has a character that cannot be printed, such as the end of a line. Give a key without."
        )
    return spelled
