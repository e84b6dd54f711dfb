"""Folders that are written once: complete, or not there at all.

A folder is filled under the name ``<name>.partial`` and renamed when its manifest, written last, is on disk. The
process that fills it holds a lock inside; so a second one waits and then finds the work done, and a partial folder
whose lock is free belongs to a dead process and is removed by the next call.

``manifest.json`` holds whatever the writer says and a table of files:

    {"fingerprint": "9f2c...", ..., "files": {"tokenizer.json": {"bytes": 13021, "crc32": 2711508530}, ...},
     "seal": "77ab..."}

Every opening reads every file once and holds it against the table, and the manifest against its seal, a hash of its
other values: one flipped bit anywhere is found, and the folder is built again.
"""

import contextlib
import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nano_llm.files import explained_writes, is_as_sealed, is_at, sealed, write_json

MANIFEST = "manifest.json"
_LOCK = "lock"
_PARTIAL = ".partial"
_DAMAGED = ".damaged"
_CHUNK = 1 << 20

Manifest = dict[str, Any]


class DamagedFolderError(Exception):
    """A folder is not what its manifest says; the message is the reason."""


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder after checking each file's size and checksum.

    Raises:
        DamagedFolderError: The manifest is missing or unreadable, or a file differs from it.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if not is_as_sealed(manifest):
            raise DamagedFolderError(f"its {MANIFEST} is not as it was written")
        files = {str(name): (int(entry["bytes"]), int(entry["crc32"])) for name, entry in manifest["files"].items()}
    except FileNotFoundError:
        raise DamagedFolderError(f"it has no {MANIFEST}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFolderError(f"its {MANIFEST} is unreadable ({error})") from error
    for name, (num_bytes, checksum) in files.items():
        _check_file(folder / name, num_bytes, checksum)
    return dict(manifest)


def open_or_build(
    target: Path,
    build: Callable[[Path], Manifest],
    refusal: Callable[[Manifest], str | None],
    log: Callable[[str], None],
) -> Manifest:
    """Return the manifest of a sound folder at ``target``, building it first where there is none.

    Args:
        target: Where the folder is to be.
        build: Fills an empty folder and returns what its manifest is to say.
        refusal: Says why a sound folder is not the wanted one; None if it is.
        log: Receives a line when a folder is rebuilt, waited for or cleared away.

    Raises:
        OutputError: The folder cannot be written; nothing half-written is left at ``target``.
    """
    if (found := _open(target, refusal, log)) is not None:
        return found
    _clear_abandoned(target.parent, log)
    with _locked(target.with_name(target.name + _PARTIAL), log) as partial:
        # Whoever held the lock before may have done the work.
        if (found := _open(target, refusal, lambda _: None)) is not None:
            return found
        manifest = build(partial)
        with explained_writes(target):
            whole = _seal(partial, manifest)
            _replace(target, partial)
        return whole


def _open(target: Path, refusal: Callable[[Manifest], str | None], log: Callable[[str], None]) -> Manifest | None:
    if not target.exists():
        return None
    try:
        manifest = read_manifest(target)
        reason = refusal(manifest)
    except DamagedFolderError as error:
        reason = str(error)
    if reason is None:
        _end_exchange(target)
        return manifest
    log(f"rebuilding {target}: {reason}")
    return None


def _check_file(file: Path, num_bytes: int, checksum: int) -> None:
    try:
        actual = file.stat().st_size
        if actual != num_bytes:
            raise DamagedFolderError(f"{file.name} has {actual} bytes, its manifest says {num_bytes}")
        if _crc32(file) != checksum:
            raise DamagedFolderError(f"{file.name} does not have the checksum of its manifest")
    except OSError as error:
        raise DamagedFolderError(f"{file.name} cannot be read ({error.strerror})") from error


def _crc32(file: Path) -> int:
    checksum = 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _seal(folder: Path, manifest: Manifest) -> Manifest:
    files = {
        file.name: {"bytes": file.stat().st_size, "crc32": _crc32(file)}
        for file in sorted(folder.iterdir())
        if file.name != _LOCK
    }
    whole = sealed({**manifest, "files": files})
    write_json(folder / MANIFEST, whole)
    return whole


def _replace(target: Path, partial: Path) -> None:
    """Put the finished folder in its place; one that was found damaged makes way."""
    damaged = _damaged(target)
    shutil.rmtree(damaged, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        target.rename(damaged)
    partial.rename(target)
    shutil.rmtree(damaged, ignore_errors=True)
    # Unlocked last: while the lock file lies here, nobody else can take this folder for an unfinished one.
    (target / _LOCK).unlink()


def _end_exchange(target: Path) -> None:
    """Do for a process that was killed in `_replace` what was left to do there; a living one does it itself."""
    try:
        stream = os.open(target / _LOCK, os.O_RDWR)
    except OSError:  # there is none as a rule; in a cache of somebody else it is theirs
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(_damaged(target), ignore_errors=True)
        (target / _LOCK).unlink(missing_ok=True)
    except OSError:
        return
    finally:
        os.close(stream)


def _damaged(target: Path) -> Path:
    return target.with_name(target.name + _DAMAGED)


@contextlib.contextmanager
def _locked(partial: Path, log: Callable[[str], None]) -> Iterator[Path]:
    """Hold an empty partial folder; remove it if it still has its name at the end."""
    with explained_writes(partial):
        stream = _lock(partial, log)
    try:
        with explained_writes(partial):
            for leftover in partial.iterdir():
                if leftover.name != _LOCK:
                    leftover.unlink()
        yield partial
    finally:
        if is_at(stream, partial / _LOCK):
            shutil.rmtree(partial, ignore_errors=True)
        os.close(stream)


def _lock(partial: Path, log: Callable[[str], None]) -> int:
    while True:
        partial.mkdir(parents=True, exist_ok=True)
        try:
            stream = os.open(partial / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # its last holder has just renamed or removed it
            continue
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"another process is preparing {partial.name.removesuffix(_PARTIAL)}; waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        if is_at(stream, partial / _LOCK):
            return stream
        os.close(stream)


def _clear_abandoned(cache: Path, log: Callable[[str], None]) -> None:
    """Remove the partial folders whose owners are dead."""
    for partial in cache.glob(f"*{_PARTIAL}"):
        try:
            stream = os.open(partial / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            continue
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at(stream, partial / _LOCK):
                log(f"removing {partial}, left by a process that ended early")
                shutil.rmtree(partial, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(stream)
