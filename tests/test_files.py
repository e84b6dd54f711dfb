"""Writing: whole or not at all, with a reason."""

import errno
import fcntl
import json
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from full_disk import small_disk
from nano_llm.errors import FullDiskError, OutputError
from nano_llm.files import (
    GrowingFile,
    demand_writable,
    explained_writes,
    free_bytes,
    is_as_sealed,
    put_in_place,
    replaced_folder,
    retired,
    sealed,
    write_json,
    write_text,
)

as_user = pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")


def exchange(place: Path, content: str) -> None:
    with replaced_folder(place / "f", place / "spare") as new:
        write_text(new / "value", content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_a_failed_write_keeps_the_old_text_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_what_a_kill_has_left_is_taken_up_by_the_next_writing(tmp_path: Path) -> None:
    (tmp_path / ".a.txt.tmp").write_text("a longer text that was never")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_what_a_living_writer_has_begun_is_left_alone_until_it_is_in_its_place(tmp_path: Path) -> None:
    path, temporary = tmp_path / "a.txt", tmp_path / ".a.txt.tmp"
    with temporary.open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = threading.Thread(target=write_text, args=(path, "second"))
        second.start()
        first.write("first")
        first.flush()
        second.join(timeout=0.2)
        assert second.is_alive()
        assert temporary.read_text() == "first"
        temporary.replace(path)
    second.join()
    assert path.read_text() == "second"
    assert names(tmp_path) == ["a.txt"]


def test_a_link_planted_in_the_place_of_a_temporary_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".a.json.tmp").symlink_to(tmp_path / "victim")
    with pytest.raises(OutputError, match=r"\.a\.json\.tmp: it was left there by somebody else; remove it"):
        write_json(tmp_path / "a.json", 1)
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "a.json").exists()


def test_a_new_file_has_the_rights_that_the_user_gives_new_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


@pytest.mark.parametrize("write", ["file", "folder"])
def test_a_name_is_on_disk_when_writing_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: str) -> None:
    real, synced = os.fsync, []

    def fsync(descriptor: int) -> None:
        real(descriptor)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            synced.append((os.fstat(descriptor).st_ino, names(tmp_path)))

    monkeypatch.setattr(os, "fsync", fsync)
    if write == "file":
        write_text(tmp_path / "a", "new")
    else:
        with replaced_folder(tmp_path / "a"):
            pass
    assert synced == [(tmp_path.stat().st_ino, ["a"])]


def test_json_refuses_what_json_cannot_say(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert names(tmp_path) == []


def test_a_folder_is_exchanged_whole(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with replaced_folder(tmp_path / "f") as new:
            write_json(new / "value.json", content)
    assert json.loads((tmp_path / "f/value.json").read_text()) == "new"
    assert names(tmp_path) == ["f"]


def test_an_error_while_filling_keeps_the_old_folder(tmp_path: Path) -> None:
    with replaced_folder(tmp_path / "f") as new:
        write_text(new / "value", "old")
    with pytest.raises(OutputError, match="disk is full"), replaced_folder(tmp_path / "f") as new:
        write_text(new / "value", "half")
        raise OSError(28, "No space left on device")
    assert (tmp_path / "f/value").read_text() == "old"
    assert names(tmp_path) == ["f"]


def test_leftovers_of_a_kill_during_the_exchange_do_not_hinder(tmp_path: Path) -> None:
    with replaced_folder(tmp_path / "f") as new:
        write_text(new / "value", "old")
    (tmp_path / "f").rename(retired(tmp_path / "f"))
    (tmp_path / ".f.new").mkdir()
    with replaced_folder(tmp_path / "f") as new:
        write_text(new / "value", "new")
    assert (tmp_path / "f/value").read_text() == "new"


def test_the_old_folder_is_kept_where_it_is_to_be(tmp_path: Path) -> None:
    for content in ("oldest", "older", "old", "new"):
        exchange(tmp_path, content)
    assert (tmp_path / "f/value").read_text() == "new"
    assert (tmp_path / "spare/value").read_text() == "old"
    assert names(tmp_path) == ["f", "spare"]


class Killed(BaseException):
    """Stands for a kill -9."""


def test_a_kill_at_any_moment_of_an_exchange_loses_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, remove = Path.rename, shutil.rmtree
    for fatal in range(100):
        place = tmp_path / str(fatal)
        place.mkdir()
        for content in ("older", "old"):
            exchange(place, content)
        moments = iter(range(100))

        def moment(moments: Iterator[int] = moments, fatal: int = fatal) -> None:
            if next(moments) >= fatal:
                raise Killed

        def counted_rename(self: Path, target: Path, moment: Callable[[], None] = moment) -> Path:
            moment()
            return rename(self, target)

        def counted_remove(path: Path, ignore_errors: bool, moment: Callable[[], None] = moment) -> None:
            moment()
            remove(path, ignore_errors=ignore_errors)

        monkeypatch.setattr(Path, "rename", counted_rename)
        monkeypatch.setattr(shutil, "rmtree", counted_remove)
        try:
            exchange(place, "new")
            survived = True
        except Killed:
            survived = False
        monkeypatch.undo()
        newest = next(path for path in (place / "f", place / "spare") if path.exists())
        assert (newest / "value").read_text() in ("old", "new")
        exchange(place, "newer")
        assert (place / "f/value").read_text() == "newer"
        assert (place / "spare/value").read_text() in ("old", "new")
        assert names(place) == ["f", "spare"]
        if survived:
            assert fatal >= 8
            return
    raise AssertionError("the exchange never ends")


def test_a_folder_is_not_put_where_its_parent_has_vanished(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="vanished"), replaced_folder(tmp_path / "gone/f"):
        pass
    assert names(tmp_path) == []


def test_a_folder_is_moved_into_the_place_of_another(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with replaced_folder(tmp_path / name) as new:
            write_text(new / "value", name)
    put_in_place(tmp_path / "b", tmp_path / "a")
    assert (tmp_path / "a/value").read_text() == "b"
    assert names(tmp_path) == ["a"]


def test_a_growing_file_gets_whole_lines_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("old\n")
    with GrowingFile(path) as file:
        file.add("one", "two")
        assert path.read_text() == "old\none\ntwo\n"


def test_a_line_that_a_kill_has_torn_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("whole\nto")
    for line in ("one", "two"):
        with GrowingFile(path) as file:
            file.add(line)
    assert path.read_text() == "whole\nto\none\ntwo\n"


def test_a_growing_file_that_was_deleted_is_told(tmp_path: Path) -> None:
    with GrowingFile(tmp_path / "a.jsonl") as file:
        file.add("one")
        (tmp_path / "a.jsonl").unlink()
        with pytest.raises(OutputError, match=r"a\.jsonl: it or its folder has vanished"):
            file.add("two")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_growing_file_on_a_full_disk_is_told_once() -> None:
    with GrowingFile(Path("/dev/full")) as file, pytest.raises(FullDiskError, match="disk is full"):
        file.add("one")


def test_a_seal_finds_each_change(tmp_path: Path) -> None:
    manifest = sealed({"format": 1, "hashes": {"a": "0", "b": "1"}})
    assert is_as_sealed(json.loads(json.dumps(manifest)))
    assert not is_as_sealed({**manifest, "format": 2})
    assert not is_as_sealed({**manifest, "more": None})
    assert not is_as_sealed({**manifest, "hashes": {"a": "0"}})
    assert is_as_sealed({"format": 1})


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, FullDiskError), (errno.EDQUOT, FullDiskError)])
def test_want_of_space_is_an_error_of_its_own(tmp_path: Path, number: int, kind: type[OutputError]) -> None:
    with pytest.raises(kind), explained_writes(tmp_path):
        raise OSError(number, os.strerror(number))


def test_a_vanished_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="vanished"):
        write_text(tmp_path / "gone" / "a.txt", "x")


@as_user
def test_a_read_only_folder_is_explained(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(OutputError, match="permission denied"):
        write_text(tmp_path / "a.txt", "x")


def test_an_unforeseen_reason_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Too many links"), explained_writes(tmp_path):
        raise OSError(31, "Too many links")


def test_a_folder_is_tried_where_it_is_or_would_be_made(tmp_path: Path) -> None:
    demand_writable(tmp_path)
    demand_writable(tmp_path / "not/there/yet")
    assert free_bytes(tmp_path / "not/there/yet") > 0
    assert not names(tmp_path)


def test_a_disk_that_takes_no_more_is_found_by_trying(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 256) as disk:
        assert 0 < free_bytes(disk.path / "cache") <= 256 << 10
        demand_writable(disk.path / "cache")
        (disk.path / "filler").write_bytes(bytes(220 << 10))
        with pytest.raises(FullDiskError, match="the disk is full; free some space"):
            demand_writable(disk.path / "cache")
        (disk.path / "filler").unlink()
        disk.make_read_only()
        with pytest.raises(OutputError, match="the file system is read-only"):
            demand_writable(disk.path)
        disk.make_writable()


@as_user
def test_a_folder_that_one_may_not_write_to_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="permission denied"):
        demand_writable(tmp_path / "cache")
    tmp_path.chmod(0o700)
