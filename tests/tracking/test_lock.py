"""Who is at work in a folder."""

import threading
from pathlib import Path

import pytest

from nano_llm.tracking import lock
from nano_llm.tracking.lock import is_held, take_hold


def test_a_folder_is_held_until_its_holder_lets_go(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    with take_hold(tmp_path):
        assert is_held(tmp_path)
        with pytest.raises(BlockingIOError):
            take_hold(tmp_path)
    assert not is_held(tmp_path)
    take_hold(tmp_path).close()


def test_looking_writes_nothing(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "nowhere")
    assert not is_held(tmp_path)
    assert not list(tmp_path.iterdir())


def test_somebody_who_looks_does_not_keep_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look takes hold for an instant; it is asked again meanwhile."""
    monkeypatch.setattr(lock, "LOOK_SECONDS", 20.0)
    looking = take_hold(tmp_path)
    threading.Timer(0.1, looking.close).start()
    take_hold(tmp_path).close()
