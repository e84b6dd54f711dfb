"""The environment record: enough to repeat a run, no secrets."""

import subprocess
from pathlib import Path

import pytest

from nano_llm.tracking.environment import VARIABLES, environment, git_state


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_variables_outside_the_list_stay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    recorded = environment()
    assert set(recorded["variables"]) <= set(VARIABLES)
    assert "secret" not in str(recorded)
    assert recorded["packages"]["torch"]


def test_a_checkout_is_named_by_commit_and_change(tmp_path: Path) -> None:
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("one")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    clean = git_state(tmp_path)
    assert clean is not None
    assert (len(clean["commit"]), clean["dirty"], clean["diff_sha256"]) == (40, False, None)
    (tmp_path / "code.py").write_bytes(b"two \xff")
    changed = git_state(tmp_path)
    assert changed is not None
    assert changed["dirty"]
    assert changed["diff_sha256"]


def test_new_files_count_as_a_change_where_code_and_configuration_lie(tmp_path: Path) -> None:
    git(tmp_path, "init")
    for folder in ("package", "conf"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "code").write_text("one")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    for name, is_dirty in (("page.html", False), ("package/new.py", True), ("conf/new.yaml", True)):
        (tmp_path / name).write_text("two")
        state = git_state(tmp_path / "package")
        assert state is not None
        assert (state["dirty"], state["diff_sha256"]) == (is_dirty, None)
        (tmp_path / name).unlink()


def test_a_package_that_a_checkout_does_not_track_is_not_named_by_it(tmp_path: Path) -> None:
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("one")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    (tmp_path / "site-packages").mkdir()
    assert git_state(tmp_path / "site-packages") is None


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
