"""Writing that either happens whole or not at all, with the reason when it does not."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nano_llm.errors import FullDiskError, OutputError

SEAL = "seal"
"""Name under which a manifest has its own hash."""
_TRIED_BYTES = 1 << 16
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder (paths.outputs, paths.cache)",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder (paths.outputs, paths.cache)",
    errno.EACCES: "permission denied; choose a folder that you may write to",
    errno.EPERM: "permission denied; choose a folder that you may write to",
    errno.ENOENT: "it or its folder has vanished; was it moved or deleted while in use?",
    errno.ENOTDIR: "a part of its path is a file, not a folder; choose another place",
    errno.EFBIG: "files may not become so large here (ulimit -f); raise the limit or choose another folder",
    errno.EIO: "the disk reports a fault; look after it, or choose another one",
}


@contextlib.contextmanager
def explained_writes(path: Path) -> Iterator[None]:
    """Turn what the operating system says of a failed write into one sentence that helps.

    Raises:
        OutputError: The block raised an OSError.
        FullDiskError: For want of space.
    """
    try:
        yield
    except OSError as error:
        raise explained(error, f"write {error.filename or path}") from error


def explained(error: OSError, aim: str | None = None) -> OutputError:
    """Return what the operating system says of a failure as one sentence that helps.

    Args:
        error: What the operating system says.
        aim: What could not be done, such as "write a.txt"; None: to use the file that the error names. Where it names
            none, a disk's failure is that of the terminal or of what stands in its place.
    """
    if aim is None and error.filename:
        aim = f"use {error.filename}"
    elif aim is None:
        aim = "write the output of this command" if error.errno in _REMEDIES else "go on"
    reason = _REMEDIES.get(error.errno or 0, error.strerror or str(error))
    kind = FullDiskError if error.errno in _NO_SPACE else OutputError
    return kind(f"Cannot {aim}: {reason}.")


def demand_writable(folder: Path) -> None:
    """Make sure that files can be written in a folder, or in the nearest one above it where it is not there yet.

    A few bytes are written for it, to a file without a name that is gone at once: neither the permissions nor the free
    space that a file system tells of are always what it does.

    Raises:
        OutputError: They cannot, and why.
    """
    try:
        with tempfile.TemporaryFile(dir=_nearest(folder)) as file:
            file.write(bytes(_TRIED_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise explained(error, f"write in {folder}") from error


def free_bytes(folder: Path) -> int:
    """Return the space that is left where a folder lies, or is to lie.

    Raises:
        OutputError: The disk does not tell.
    """
    try:
        return shutil.disk_usage(_nearest(folder)).free
    except OSError as error:
        raise explained(error, f"tell the space that is left for {folder}") from error


def _nearest(folder: Path) -> Path:
    """Return a folder, or the nearest place above it that exists, be it a folder or not."""
    whole = folder.absolute()
    return next(place for place in (whole, *whole.parents) if os.path.lexists(place))


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
            with os.fdopen(_open_temporary(temporary), "ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not is_at(file.fileno(), temporary):  # its last holder has just put it in its place
                    continue
                try:
                    file.truncate(0)
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                    temporary.replace(path)
                    _sync_folder(path.parent)
                finally:
                    if is_at(file.fileno(), temporary):
                        temporary.unlink()
            return


def _open_temporary(path: Path) -> int:
    """Open a temporary file to add to it, but none that somebody has planted or left who is not the one who writes.

    Raises:
        OutputError: There is one.
    """
    try:
        # Else a link of this name would lead the writing anywhere.
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EACCES, errno.EPERM, errno.EISDIR) and os.path.lexists(path):
            raise OutputError(f"Cannot write {path}: it was left there by somebody else; remove it.") from error
        raise


def _sync_folder(path: Path) -> None:
    """Wait until the disk knows the names in a folder: they outlive a loss of power as the files do."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # one may write in a folder that one may not list
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that have no such thing
            raise
    finally:
        os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the file that was opened is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def write_json(path: Path, value: Any) -> None:
    """Replace a file by a value as JSON, in the manner of `write_text`."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


class GrowingFile:
    """A text file that lines are added to, each handed to the operating system at once; use as a context."""

    def __init__(self, path: Path, errors: str = "strict") -> None:
        """Open the file, or create it; where a kill has cut its last line, the next one begins below it.

        Args:
            path: Of the file, in a folder that exists.
            errors: What becomes of characters that UTF-8 lacks, as for `open`.

        Raises:
            OutputError: It cannot be opened.
        """
        self._path = path
        with explained_writes(path):
            self._file = path.open("a", encoding="utf-8", errors=errors)
            if _is_torn(path):
                self._file.write("\n")

    def __enter__(self) -> "GrowingFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        # A full disk was reported when the line was added; closing would only say it again.
        with contextlib.suppress(OSError):
            self._file.close()

    def add(self, *lines: str) -> None:
        """Add lines.

        Raises:
            OutputError: They cannot be written, or the file has been deleted; a part of them may be there.
        """
        with explained_writes(self._path):
            if os.fstat(self._file.fileno()).st_nlink == 0:
                # What is written to a file that has been deleted is lost without a word.
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._path))
            self._file.writelines(f"{line}\n" for line in lines)
            self._file.flush()

    def sync(self) -> None:
        """Wait until the disk has all lines.

        Raises:
            OutputError: It does not take them.
        """
        with explained_writes(self._path):
            os.fsync(self._file.fileno())


def _is_torn(path: Path) -> bool:
    """Tell whether a file has content that does not end with its line."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


@contextlib.contextmanager
def replaced_folder(path: Path, spare: Path | None = None) -> Iterator[Path]:
    """Give an empty folder to fill, and put it in the place of ``path`` when the block ends well.

    At every moment a complete folder lies at ``path`` or, for the blink of the exchange, at ``spare`` or `retired`;
    after an error or a kill the old one is still there. What a kill leaves is cleared by the next exchange.

    Args:
        path: Of the folder, in one that exists.
        spare: Where the old folder is kept, in the place of the one kept before; None: it is not kept.

    Raises:
        OutputError: Anything in the block or the exchange could not be written.
    """
    temporary = _unfinished(path)
    with explained_writes(path):
        shutil.rmtree(temporary, ignore_errors=True)
        # Its parent is not made here: where that has vanished, so has all that belongs beside this folder.
        temporary.mkdir()
        try:
            yield temporary
            if path.exists():
                _retire(path if spare is None else spare)
                if spare is not None:
                    path.rename(spare)
            temporary.rename(path)
            _sync_folder(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        for folder in (path, spare or path):
            shutil.rmtree(retired(folder), ignore_errors=True)


def put_in_place(source: Path, path: Path) -> None:
    """Move a folder to ``path``; one that lies there is removed.

    Raises:
        OutputError: They cannot be moved.
    """
    with explained_writes(path):
        _retire(path)
        source.rename(path)
        _sync_folder(path.parent)
        shutil.rmtree(retired(path), ignore_errors=True)


def end_exchange(path: Path) -> None:
    """Clear what exchanges of a folder have left that were cut off; the newest whole folder comes to its place.

    Raises:
        OutputError: It cannot be moved there.
    """
    with explained_writes(path):
        shutil.rmtree(_unfinished(path), ignore_errors=True)
        if path.exists():
            shutil.rmtree(retired(path), ignore_errors=True)
        elif retired(path).exists():
            retired(path).rename(path)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def retired(path: Path) -> Path:
    """Name the place where an exchange keeps the old folder until the new one is there."""
    return path.with_name(f".{path.name}.old")


def _retire(path: Path) -> None:
    """Move a folder, if it is there, out of the way in one step: removing it takes many."""
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except OSError:  # the disk does not tell of it, but may move it
        pass
    shutil.rmtree(retired(path), ignore_errors=True)
    path.rename(retired(path))


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest with its own hash, so that damage to it is known from a change of format.

    The seal must stay the same in all formats to come.
    """
    return {**manifest, SEAL: _digest(manifest)}


def is_as_sealed(manifest: dict[str, Any]) -> bool:
    """Tell whether a manifest is as `sealed` returned it; one from before there were seals passes."""
    return SEAL not in manifest or manifest[SEAL] == _digest(
        {name: value for name, value in manifest.items() if name != SEAL}
    )


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
