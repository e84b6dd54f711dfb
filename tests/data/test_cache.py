"""Folders that are complete or not there: damage, races, deaths."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nano_llm.data.arrays import load_array, save_array
from nano_llm.data.cache import MANIFEST, DamagedFolderError, Manifest, _locked, open_or_build, read_manifest
from nano_llm.errors import OutputError
from nano_llm.files import SEAL

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
BUILDER = """
import sys, time
from pathlib import Path
from nano_llm.data.cache import open_or_build
target, runs, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])

def build(folder):
    with runs.open("a") as stream:
        stream.write("run\\n")
    (folder / "a.txt").write_text("content")
    time.sleep(seconds)
    return {"name": "a"}

print(open_or_build(target, build, lambda manifest: None, lambda line: None)["name"])
"""


def silent(_: str) -> None: ...


def wanted(manifest: Manifest) -> str | None:
    return None if manifest.get("name") == "a" else "it is another one"


def build_a(folder: Path) -> Manifest:
    (folder / "a.txt").write_text("content of a")
    (folder / "b.txt").write_text("content of b")
    return {"name": "a"}


def refuse_to_build(folder: Path) -> Manifest:
    raise AssertionError(f"{folder} should have been found")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def start_builder(target: Path, runs: Path, seconds: float) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-c", BUILDER, str(target), str(runs), str(seconds)]
    return subprocess.Popen(arguments, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_folder_is_built_once_and_then_opened(tmp_path: Path) -> None:
    target = tmp_path / "cache" / "a"
    built = open_or_build(target, build_a, wanted, silent)
    assert open_or_build(target, refuse_to_build, wanted, silent) == built
    assert names(target) == ["a.txt", "b.txt", MANIFEST]
    assert names(tmp_path / "cache") == ["a"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "a.txt").write_text("cont"), "a.txt has 4 bytes, its manifest says 12"),
        (lambda folder: (folder / "a.txt").write_text("content of X"), "a.txt does not have the checksum"),
        (lambda folder: (folder / "b.txt").unlink(), "b.txt cannot be read"),
        (lambda folder: (folder / MANIFEST).unlink(), "no manifest.json"),
        (lambda folder: (folder / MANIFEST).write_text('{"name": "a"'), "manifest.json is unreadable"),
        (lambda folder: (folder / MANIFEST).write_text('["a"]'), "manifest.json is unreadable"),
        (lambda folder: (folder / MANIFEST).write_bytes(b"\xff"), "manifest.json is unreadable"),
        (lambda folder: (folder / MANIFEST).write_text('{"name": "b", "files": {}}'), "another one"),
    ],
)
def test_a_damaged_or_foreign_folder_is_rebuilt_and_said_so(
    damage: Callable[[Path], object], reason: str, tmp_path: Path
) -> None:
    target = tmp_path / "a"
    built = open_or_build(target, build_a, wanted, silent)
    damage(target)
    lines: list[str] = []
    assert open_or_build(target, build_a, wanted, lines.append) == built
    assert [line for line in lines if "rebuilding" in line and reason in line] == lines
    assert len(lines) == 1
    assert read_manifest(target) == built
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_interrupted_build_leaves_nothing(error: BaseException, tmp_path: Path) -> None:
    def interrupted(folder: Path) -> Manifest:
        build_a(folder)
        raise error

    with pytest.raises(type(error)):
        open_or_build(tmp_path / "a", interrupted, wanted, silent)
    assert names(tmp_path) == []


def test_a_disk_that_fills_up_is_an_output_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)  # the manifest is the last that needs room
    with pytest.raises(OutputError, match="disk is full"):
        open_or_build(tmp_path / "a", build_a, wanted, silent)
    assert names(tmp_path) == []


def test_a_cache_that_cannot_be_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"Cannot write .*file"):
        open_or_build(tmp_path / "file" / "a", build_a, wanted, silent)


def test_a_fault_that_is_no_failed_write_keeps_its_name(tmp_path: Path) -> None:
    def unheard(folder: Path) -> Manifest:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        open_or_build(tmp_path / "a", unheard, wanted, silent)
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_array_that_does_not_fit_says_why() -> None:
    with pytest.raises(OutputError, match="disk is full"):
        save_array(Path("/dev/full"), np.zeros(100_000))


@pytest.mark.parametrize("shape", [(0,), (3,), (2, 3)])
def test_arrays_survive_the_disk(shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape).T
    save_array(tmp_path / "x.npy", array)
    for mapped in (False, True):
        again = load_array(tmp_path / "x.npy", mapped=mapped)
        assert again.dtype == array.dtype
        assert np.array_equal(again, array)


def test_of_two_processes_one_builds_and_both_have_it(tmp_path: Path) -> None:
    cache, runs = tmp_path / "cache", tmp_path / "runs"
    processes = [start_builder(cache / "a", runs, 0.4) for _ in range(3)]
    assert [process.communicate(timeout=30)[0] for process in processes] == ["a\n"] * 3
    assert runs.read_text() == "run\n"
    assert names(cache) == ["a"]
    assert names(cache / "a") == ["a.txt", MANIFEST]


def test_what_a_killed_process_left_is_removed_by_the_next_call_whatever_it_wants(tmp_path: Path) -> None:
    cache, runs = tmp_path / "cache", tmp_path / "runs"
    process = start_builder(cache / "dead", runs, 60)
    wait_for(runs.exists)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert names(cache) == ["dead.partial"]
    open_or_build(cache / "a", build_a, wanted, silent)
    assert names(cache) == ["a"]


def test_a_killed_process_does_not_stand_in_the_way_of_its_own_data(tmp_path: Path) -> None:
    cache, runs = tmp_path / "cache", tmp_path / "runs"
    process = start_builder(cache / "a", runs, 60)
    wait_for(runs.exists)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    open_or_build(cache / "a", build_a, wanted, silent)
    assert names(cache) == ["a"]
    assert names(cache / "a") == ["a.txt", "b.txt", MANIFEST]


def test_an_exchange_that_a_kill_cut_short_is_ended_by_the_next_call(tmp_path: Path) -> None:
    target = tmp_path / "a"
    open_or_build(target, build_a, wanted, silent)
    (target / "lock").touch()
    (tmp_path / "a.damaged").mkdir()
    open_or_build(target, refuse_to_build, wanted, silent)
    assert names(tmp_path) == ["a"]
    assert names(target) == ["a.txt", "b.txt", MANIFEST]


def test_an_exchange_of_a_living_process_is_left_to_it(tmp_path: Path) -> None:
    target = tmp_path / "a"
    open_or_build(target, build_a, wanted, silent)
    (tmp_path / "a.damaged").mkdir()
    with (target / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        open_or_build(target, refuse_to_build, wanted, silent)
        assert names(tmp_path) == ["a", "a.damaged"]
        assert "lock" in names(target)


def test_what_a_living_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    with _locked(tmp_path / "b.partial", silent) as partial:
        (partial / "half").write_text("half")
        open_or_build(tmp_path / "a", build_a, wanted, silent)
        assert (partial / "half").read_text() == "half"
    assert names(tmp_path) == ["a"]


def test_a_waiting_process_says_so(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    process = start_builder(tmp_path / "a", runs, 0.5)
    wait_for(runs.exists)
    lines: list[str] = []
    open_or_build(tmp_path / "a", refuse_to_build, wanted, lines.append)
    process.communicate()
    assert lines == ["another process is preparing a; waiting for it"]


def test_a_manifest_checks_only_what_it_lists(tmp_path: Path) -> None:
    open_or_build(tmp_path / "a", build_a, wanted, silent)
    (tmp_path / "a" / "notes.md").write_text("mine")
    assert json.loads((tmp_path / "a" / MANIFEST).read_text()) == read_manifest(tmp_path / "a")
    with pytest.raises(DamagedFolderError, match="no manifest"):
        read_manifest(tmp_path / "nowhere")


def test_every_bit_of_the_manifest_is_guarded(tmp_path: Path) -> None:
    target = tmp_path / "a"
    sound = open_or_build(target, build_a, wanted, silent)
    content = (target / MANIFEST).read_bytes()
    for position in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        (target / MANIFEST).write_bytes(flipped)
        try:
            found = read_manifest(target)
        except DamagedFolderError:
            continue
        # Only the seal's own name is left without a guard, as folders from before there were seals have none.
        assert SEAL not in found
        assert {name: found[name] for name in sound if name != SEAL}.items() <= sound.items()


def test_every_bit_of_a_file_is_guarded(tmp_path: Path) -> None:
    target = tmp_path / "a"
    open_or_build(target, build_a, wanted, silent)
    content = (target / "a.txt").read_bytes()
    for position in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        (target / "a.txt").write_bytes(flipped)
        with pytest.raises(DamagedFolderError, match=r"a\.txt does not have the checksum"):
            read_manifest(target)


def test_a_manifest_from_before_there_were_seals_is_read(tmp_path: Path) -> None:
    target = tmp_path / "a"
    sound = open_or_build(target, build_a, wanted, silent)
    old = {name: value for name, value in sound.items() if name != SEAL}
    (target / MANIFEST).write_text(json.dumps(old))
    assert open_or_build(target, refuse_to_build, wanted, silent) == old


def test_a_leftover_that_cannot_be_removed_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a.partial/half").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"Cannot write \S+half"), _locked(tmp_path / "a.partial", silent):
        pass
