"""Writing: whole or not at all, with a reason."""

import fcntl
import json
import os
import stat
import threading
from pathlib import Path

import pytest

from nano_llm.errors import OutputError
from nano_llm.files import explained_writes, replaced_folder, retired, write_json, write_text

as_user = pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")


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
