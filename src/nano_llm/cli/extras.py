"""Packages that only some commands need."""

import importlib
from collections.abc import Iterable

from nano_llm.errors import RequestError


def require(names: Iterable[str], *, extra: str, purpose: str) -> None:
    """Check that the packages of an extra are installed.

    Raises:
        RequestError: One is not.
    """
    try:
        for name in names:
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise RequestError(f"{purpose} needs {error.name}: pip install 'nano-llm[{extra}]'.") from error
