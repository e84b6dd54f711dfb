"""Exports on the Hugging Face Hub, by `huggingface_hub` of the extra `hf`."""

from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path

from nano_llm.errors import OutputError, RequestError


def check_login(repository: str) -> None:
    """Check that a repository can be named so, and that its owner could be logged in: before anything is written.

    Raises:
        RequestError: The name is none or lacks its owner, nobody is logged in, or the Hub does not know the token.
        OutputError: The Hub cannot be reached.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise RequestError(f"--push {repository}: {error}") from error
    if "/" not in repository:
        raise RequestError(
            f"--push {repository}: it lacks its owner, without whom nobody can load it. Name it as owner/name, such as "
            f"me/{repository}."
        )
    if get_token() is None:
        raise RequestError(
            "--push: nobody is logged in to the Hugging Face Hub. Log in with `hf auth login`, or set HF_TOKEN."
        )
    with _explained("log in to"):
        HfApi().whoami()


def push(folder: Path, repository: str) -> str:
    """Upload an export and return its address; a repository that is not there is made, a private one.

    Args:
        folder: Of the export.
        repository: ``owner/name``.

    Raises:
        RequestError: The Hub refuses the token.
        OutputError: The Hub cannot be reached, or does not take the files.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with _explained(f"write {repository} on"):
        made = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=made.repo_id, commit_message="Upload an export of nano_llm")
    return str(made)


@contextmanager
def _explained(aim: str) -> Iterator[None]:
    """Raise what the Hub or the network says as an error of ours; a mistake of the program stays one."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]  # the client's own

    try:
        yield
    except (HTTPError, OSError, RuntimeError, ValueError) as error:  # RuntimeError: an upload of a large file failed
        said = " ".join(str(error).split())[:300]
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            raise RequestError(
                f"The Hub refuses to let you {aim} it: {said} Log in with `hf auth login`, with a token that may write."
            ) from error
        if isinstance(error, ValueError) and not isinstance(error, JSONDecodeError):
            raise OutputError(
                f"Cannot {aim} the Hub at {constants.ENDPOINT}: it does not take what it was given ({said}). The "
                "network is not at fault. Report this, and leave out --push to have the folder alone."
            ) from error
        raise OutputError(
            f"Cannot {aim} the Hub at {constants.ENDPOINT} ({type(error).__name__}: {said}). Look after the network "
            "and give the same command again, or leave out --push."
        ) from error
