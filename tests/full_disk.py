"""Disks that are full: real ones, of a few pages of memory, and one that is full from a certain write on."""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class SmallDisk:
    """A file system of a given size that is held in memory."""

    def __init__(self, path: Path, kibibytes: int) -> None:
        self.path = path
        path.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={kibibytes}k", "nano_llm_test")

    def resize(self, kibibytes: int) -> None:
        self._mount("-o", f"remount,size={kibibytes}k")

    def make_read_only(self) -> None:
        self._mount("-o", "remount,ro")

    def make_writable(self) -> None:
        self._mount("-o", "remount,rw")

    def used(self) -> int:
        """Return the KiB in use."""
        return shutil.disk_usage(self.path).used // 1024

    def close(self) -> None:
        # Lazily: a failed test may have left a file of it open.
        subprocess.run(["umount", "-l", self.path], check=True)

    def _mount(self, *arguments: str) -> None:
        subprocess.run(["mount", *arguments, self.path], check=True, capture_output=True)


@contextlib.contextmanager
def small_disk(path: Path, kibibytes: int) -> Iterator[SmallDisk]:
    """Mount a small disk; where that is not allowed, skip the test."""
    try:
        disk = SmallDisk(path, kibibytes)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("file systems may not be mounted here")
    try:
        yield disk
    finally:
        disk.close()


class FillingDisk:
    """Refuses to write below some folders from its n-th write on; counts the writes while it is used as a context.

    A write is what takes space: a file that is opened for writing, content that is handed to the disk, a new folder.
    """

    def __init__(self, folders: tuple[Path, ...], full_from: int | None = None) -> None:
        """Prepare.

        Args:
            folders: That lie on the disk.
            full_from: Number of the first write that fails, from 0; None: none fails.
        """
        self.num_writes = 0
        self._folders = tuple(map(str, folders))
        self._full_from = full_from
        self._is_inside = False
        self._fsync = os.fsync

    def __enter__(self) -> "FillingDisk":
        _in_use.append(self)
        os.fsync = self._counted_fsync
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync = self._fsync
        _in_use.remove(self)

    def hear(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "os.mkdir" or (event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR)):
            self._is_inside = str(given[0]).startswith(self._folders)
            self._write(str(given[0]))

    def _counted_fsync(self, descriptor: int) -> None:
        # Of the file that was opened last.
        self._write(None)
        self._fsync(descriptor)

    def _write(self, path: str | None) -> None:
        self.num_writes += self._is_inside
        if self._is_inside and self._full_from is not None and self.num_writes > self._full_from:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


_in_use: list[FillingDisk] = []


def _audit(event: str, given: tuple[Any, ...]) -> None:
    for disk in _in_use:
        disk.hear(event, given)


# An auditor stays for the life of the process; it does nothing while no disk is in use.
sys.addaudithook(_audit)
