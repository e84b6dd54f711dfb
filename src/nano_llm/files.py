"""Writing that either happens whole or not at all, with the reason when it does not."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nano_llm.errors import OutputError

_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder (paths.outputs, paths.cache)",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder (paths.outputs, paths.cache)",
    errno.EACCES: "permission denied; choose a folder that you may write to",
    errno.EPERM: "permission denied; choose a folder that you may write to",
    errno.ENOENT: "its folder has vanished; was it moved or deleted while in use?",
}


@contextlib.contextmanager
def explained_writes(path: Path) -> Iterator[None]:
    """Turn what the operating system says of a failed write into one sentence that helps.

    Raises:
        OutputError: The block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = _REMEDIES.get(error.errno or 0, error.strerror or str(error))
        raise OutputError(f"Cannot write {error.filename or path}: {reason}.") from error


def write_text(path: Path, text: str) -> None:
    """Replace a file by new text, in the manner of `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file by new content; a reader sees the old or the new one, never a part.

    Until then it lies in ``.<name>.tmp``, locked by whoever writes it: what a kill has left there is taken up by the
    next writing of the same file, and two writers wait for each other.

    Raises:
        OutputError: The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with explained_writes(path):
        while True:
            with temporary.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not is_at(file.fileno(), temporary):  # its last holder has just put it in its place
                    continue
                try:
                    file.truncate(0)
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                    temporary.replace(path)
                finally:
                    if is_at(file.fileno(), temporary):
                        temporary.unlink()
            return


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the file that was opened is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def write_json(path: Path, value: Any) -> None:
    """Replace a file by a value as JSON, in the manner of `write_text`."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


@contextlib.contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill, and put it in the place of ``path`` when the block ends well.

    At every moment a complete folder lies at ``path`` or, for the blink of the exchange, at `retired`; after an
    error or a kill the old one is still there.

    Raises:
        OutputError: Anything in the block or the exchange could not be written.
    """
    temporary, old = path.with_name(f".{path.name}.new"), retired(path)
    with explained_writes(path):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)
                path.rename(old)
            temporary.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def retired(path: Path) -> Path:
    """Name the place where `replaced_folder` keeps the old folder during the exchange."""
    return path.with_name(f".{path.name}.old")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
