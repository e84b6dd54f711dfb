"""What must hold when the disk fails a command: checked at a few places every day, at all of them in the long form."""

import random
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from full_disk import FillingDisk, SmallDisk
from nano_llm.errors import FullDiskError
from tiny_run import Run, assert_equal_runs, only_run

SHORT = ("trainer.max_steps=4", "trainer.eval_every=2", "trainer.checkpoint_minutes=0")
"""Overrides that make a tiny run shorter and let it save after each step."""


def some(num: int, of: int, seed: int = 0) -> list[int]:
    """Return so many of the numbers below another one."""
    return sorted(random.Random(seed).sample(range(of), min(num, of)))


def check_run_at_writes(run: Run, tmp_path: Path, num: int) -> str:
    """A run whose disk is full from a write on says so, and ends as if undisturbed once there is space.

    Returns:
        What was tried.
    """
    run(*SHORT, outputs="undisturbed")  # prepares the data, of which others have less to write
    with FillingDisk((tmp_path,)) as disk:
        run(*SHORT, outputs="counted")
    tried = some(num, disk.num_writes)
    for number in tried:
        outputs = f"full-from-{number}"
        with FillingDisk((tmp_path,), number), pytest.raises(FullDiskError, match=r"Cannot write .*the disk is full"):
            run(*SHORT, outputs=outputs)
        run(*SHORT, outputs=outputs)
        assert_equal_runs(only_run(tmp_path / "undisturbed"), only_run(tmp_path / outputs))
        assert leftovers(tmp_path / outputs) == []
    return f"a run, with a disk full from {len(tried)} of its {disk.num_writes} writes on"


def check_run_on_small_disks(run: Run, disk: SmallDisk, num: int) -> str:
    """The same on real disks, of sizes that the run does not fit on."""
    disk.resize(1 << 16)
    run(*SHORT, outputs=f"{disk.path.name}/undisturbed")
    undisturbed = only_run(disk.path / "undisturbed")
    needed = disk.used()
    tried, num_failed = some(num, needed // 4), 0
    for number in tried:
        disk.resize(needed + max(4, 4 * number))
        outputs = f"{disk.path.name}/{number}"
        failed = False
        try:
            run(*SHORT, outputs=outputs)
        except FullDiskError:
            failed = True
        disk.resize(1 << 16)
        num_failed += failed
        assert failed or 4 * number > needed // 2
        run(*SHORT, outputs=outputs)
        assert_equal_runs(undisturbed, only_run(disk.path / str(number)))
        assert leftovers(disk.path / str(number)) == []
        subprocess.run(["rm", "-rf", disk.path / str(number)], check=True)
    return f"a run, on {len(tried)} small disks, {num_failed} of them too small"


def check_command_at_writes(
    command: Callable[[Path], int], place: Path, num: int, capsys: pytest.CaptureFixture[str]
) -> str:
    """A command that writes files below a folder says that the disk is full, and leaves the same files once it is not.

    Args:
        command: Is given the folder and returns its exit status.
        place: In which folders are made.
        num: Of the writes that are tried.
        capsys: Of the test.

    Returns:
        What was tried.
    """
    (place / "undisturbed").mkdir(parents=True)
    with FillingDisk((place,)) as disk:
        assert command(place / "undisturbed") == 0
    assert disk.num_writes
    tried = some(num, disk.num_writes)
    for number in tried:
        folder = place / f"full-from-{number}"
        folder.mkdir()
        capsys.readouterr()
        with FillingDisk((place,), number):
            assert command(folder) == 1
        said = capsys.readouterr().err.splitlines()
        assert [line for line in said if line.startswith("Error: Cannot write")] == said[-1:]
        assert "the disk is full" in said[-1]
        assert command(folder) == 0
        assert contents(folder) == contents(place / "undisturbed")
    return f"{place.name}, with a disk full from {len(tried)} of its {disk.num_writes} writes on"


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def leftovers(folder: Path) -> list[Path]:
    """Return the temporary files below a folder."""
    return [path for path in folder.rglob("*") if path.name.endswith((".tmp", ".new", ".old", ".partial"))]


def flips(content: bytes, positions: Iterable[int]) -> Iterable[bytes]:
    """Yield a file with one bit flipped, for each position of a bit."""
    for position in positions:
        changed = bytearray(content)
        changed[position // 8] ^= 1 << position % 8
        yield bytes(changed)
