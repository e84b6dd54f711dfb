"""Faults of the disk below whole commands: told in one sentence, and nothing is lost once they are mended."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from disk_faults import SHORT, check_command_at_writes, check_run_at_writes, check_run_on_small_disks
from full_disk import FillingDisk, small_disk
from nano_llm import checkpoint
from nano_llm.cli.main import main
from nano_llm.config.compose import compose_config
from nano_llm.errors import CheckpointError, DamagedCheckpointError, FullDiskError, OutputError
from nano_llm.session import Session, run_session
from tiny_run import TINY_RUN, Run, assert_equal_runs, damage, metrics, only_run

NOBODY = 65534


class Killed(BaseException):
    """Stands for a kill -9."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """Outputs of a finished run; to be copied."""
    outputs = tmp_path_factory.mktemp("finished") / "outputs"
    chosen = [*TINY_RUN, *SHORT, f"paths.outputs={outputs}", f"paths.cache={cache}"]
    run_session(compose_config(chosen), chosen, Console(quiet=True))
    return outputs


@pytest.fixture
def trained(finished: Path, tmp_path: Path) -> Path:
    """Folder of a finished run below ``tmp_path / trained``."""
    shutil.copytree(finished, tmp_path / "trained")
    return only_run(tmp_path / "trained")


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    path = tmp_path / "requests.jsonl"
    lines = [{"outcome": "both", "num": 16, "tokens": 4, "seed": seed} for seed in range(3)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that every user may look into, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextlib.contextmanager
def as_somebody() -> Iterator[None]:
    """Act as a user whom permissions bind: the superuser's are not looked at."""
    is_superuser = os.geteuid() == 0
    if is_superuser:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_superuser:
            os.seteuid(0)


def after_step(monkeypatch: pytest.MonkeyPatch, step: int, fault: Callable[[], None]) -> None:
    """Let something happen when a run tells of its first row after a step."""
    rows, done = Session.on_step, []

    def disturbed(self: Session, state: Any, row: Any, share: float) -> None:
        rows(self, state, row, share)
        if state.spent.steps > step and not done:
            done.append(step)
            fault()

    monkeypatch.setattr(Session, "on_step", disturbed)


# ------------------------------------------------------------------------------------------- full


def test_a_run_on_a_disk_that_is_full_from_any_write_on_ends_as_if_undisturbed_once_it_is_not(
    run: Run, tmp_path: Path
) -> None:
    check_run_at_writes(run, tmp_path, num=5)


def test_a_run_on_a_real_disk_that_is_too_small_ends_as_if_undisturbed_once_it_is_large_enough(
    run: Run, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 1 << 16) as disk:
        check_run_on_small_disks(run, disk, num=3)


def test_a_file_of_requests_is_answered_on_once_there_is_space(
    trained: Path, requests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def generate(folder: Path) -> int:
        out = str(folder / "answers.jsonl")
        return main(["generate", str(trained), "--requests", str(requests), "--out", out, "--device", "cpu"])

    check_command_at_writes(generate, tmp_path / "places", 3, capsys)
    with small_disk(tmp_path / "disk", 8) as disk:
        assert generate(disk.path) == 1
        assert "answers.jsonl: the disk is full" in capsys.readouterr().err
        assert not (disk.path / "answers.jsonl").read_bytes().endswith(b"\n")
        disk.resize(1024)
        assert generate(disk.path) == 0
        answers = tmp_path / "places/undisturbed/answers.jsonl"
        assert (disk.path / "answers.jsonl").read_bytes() == answers.read_bytes()


def test_a_report_is_written_once_there_is_space(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def report(folder: Path) -> int:
        return main(["report", str(trained.parents[1]), "--to", str(folder / "report")])

    check_command_at_writes(report, tmp_path / "places", 3, capsys)


def test_an_evaluation_is_written_once_there_is_space(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluate(folder: Path) -> int:
        return main(["evaluate", str(trained), "--metrics", "bpb", "--to", str(folder / "records"), "--device", "cpu"])

    check_command_at_writes(evaluate, tmp_path / "places", 2, capsys)


def test_the_spare_checkpoint_is_given_up_before_the_run_is(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", 1 << 16) as disk:
        run(*SHORT, outputs="undisturbed")

        def fill() -> None:
            disk.resize(disk.used() + 8)

        # From here on there is room for what is there, not for one checkpoint more.
        after_step(monkeypatch, 2, fill)
        run(*SHORT, outputs="disk/outputs")
        folder = only_run(disk.path / "outputs")
        assert_equal_runs(only_run(tmp_path / "undisturbed"), folder)
        assert "the disk is full" in (folder / "run.log").read_text()
        assert re.search("`previous` was removed to make room for `(best|last)`", (folder / "run.log").read_text())


def test_a_spare_that_a_kill_has_left_aside_is_given_up_too(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*SHORT, outputs="undisturbed")
    saves, refused = checkpoint.save, []

    def save(folder: Path, **given: Any) -> None:
        left = folder.with_name(".previous.old")
        if not refused and folder.with_name("previous").exists():
            folder.with_name("previous").rename(left)
        if left.exists():
            refused.append(folder)
            raise FullDiskError("Cannot write it: the disk is full.")
        saves(folder, **given)

    monkeypatch.setattr(checkpoint, "save", save)
    run(*SHORT)
    assert len(refused) == 1
    assert_equal_runs(only_run(tmp_path / "undisturbed"), only_run(tmp_path / "outputs"))


def test_a_spare_checkpoint_is_not_given_up_for_a_damaged_last(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filling = FillingDisk((tmp_path,), full_from=0)

    def fail() -> None:
        damage(only_run(tmp_path / "outputs") / "checkpoints/last/model.safetensors")
        filling.__enter__()

    after_step(monkeypatch, 2, fail)
    try:
        with pytest.raises(OutputError, match="disk is full"):
            run(*SHORT)
    finally:
        filling.__exit__()
    assert checkpoint.load(only_run(tmp_path / "outputs") / "checkpoints/previous").training is not None


COMMANDS = {
    "help": ["--help"],
    "help of a command": ["generate", "--help"],
    "generate": ["generate", "RUN", "--tokens", "4"],
    "generate --json": ["generate", "RUN", "--tokens", "4", "--json"],
    "report": ["report", "STUDY"],
    "status": ["status", "STUDY", "--once"],
    "evaluate": ["evaluate", "RUN", "--metrics", "bpb"],
    "evaluate --list": ["evaluate", "--list"],
    "prepare": ["prepare", "data=scm", "scale=tiny", "paths.cache=CACHE", "data.num_train=60"],
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("name", COMMANDS)
def test_output_that_goes_nowhere_is_an_error_in_one_sentence(
    name: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"RUN": trained, "STUDY": trained.parents[1], "CACHE": tmp_path / "cache"}
    words = COMMANDS[name]
    for word, place in places.items():
        words = [given.replace(word, str(place)) for given in words]
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(words) == 1
        monkeypatch.undo()
    assert capsys.readouterr().err.splitlines()[-1].startswith("Error: Cannot write the output of this command: the d")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_run_whose_output_goes_nowhere_says_why_it_ends(run: Run, cache: Path, tmp_path: Path) -> None:
    chosen = [*TINY_RUN, *SHORT, f"paths.outputs={tmp_path / 'outputs'}", f"paths.cache={cache}"]
    with Path("/dev/full").open("w") as full:
        with pytest.raises(FullDiskError, match="the output of this"):
            run_session(compose_config(chosen), chosen, Console(file=full))
        # Else its closing would fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    status = json.loads((only_run(tmp_path / "outputs") / "status.json").read_text())
    assert (status["state"], status["error"][:46]) == ("failed", "Cannot write the output of this command: the d")
    assert run(*SHORT) is not None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("module", ["nano_llm.cli.main", "nano_llm.run"])
def test_a_process_whose_output_goes_nowhere_ends_without_a_traceback(module: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Error: Cannot write the output of this command: the disk is full; free some space or choose another folder "
        "(paths.outputs, paths.cache)."
    ]


# -------------------------------------------------------------------------- read-only, not permitted


def test_a_read_only_disk_takes_no_run_but_gives_what_it_has(
    run: Run, requests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 1 << 16) as disk:
        run(*SHORT, outputs="disk/outputs")
        folder = only_run(disk.path / "outputs")
        disk.make_read_only()
        with pytest.raises(OutputError, match=r"Cannot write .*: the file system is read-only"):
            run(*SHORT, "seed=1", outputs="disk/outputs")
        with pytest.raises(OutputError, match="read-only"):
            run(*SHORT, f"paths.cache={disk.path}/cache", outputs="elsewhere")
        assert main(["generate", str(folder), "--tokens", "4", "--device", "cpu"]) == 0
        assert main(["report", str(folder.parents[1]), "--to", str(tmp_path / "report")]) == 0
        capsys.readouterr()
        out = str(disk.path / "answers.jsonl")
        for command in (
            ["generate", str(folder), "--requests", str(requests), "--out", out, "--device", "cpu"],
            ["generate", str(folder), "--html", f"{disk.path}/page.html", "--tokens", "4", "--device", "cpu"],
            ["report", str(folder.parents[1])],
            ["evaluate", str(folder), "--metrics", "bpb", "--device", "cpu"],
            ["prepare", "data=scm", "data.num_train=60", f"paths.cache={disk.path}/cache"],
        ):
            assert main(command) == 1
            assert "the file system is read-only" in capsys.readouterr().err.splitlines()[-1]
        disk.make_writable()
        assert run(*SHORT, "seed=1", outputs="disk/outputs") is not None


def test_a_folder_that_may_not_be_written_to_is_explained(run: Run, open_place: Path) -> None:
    open_place.chmod(0o555)
    with as_somebody(), pytest.raises(OutputError, match=rf"Cannot write {open_place}\S*: permission denied"):
        run(*SHORT, f"paths.outputs={open_place}/outputs")
    open_place.chmod(0o755)


@pytest.mark.parametrize("closed", ["checkpoints", "checkpoints/last/model.safetensors", "checkpoints/last"])
def test_a_checkpoint_that_may_not_be_read_is_not_taken_for_none_or_for_a_damaged_one(
    run: Run, open_place: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    places = (f"paths.outputs={open_place}/outputs", f"paths.cache={open_place}/cache")

    def kill() -> None:
        raise Killed

    after_step(monkeypatch, 2, kill)
    with pytest.raises(Killed):
        run(*SHORT, *places)
    monkeypatch.undo()
    folder = only_run(open_place / "outputs")
    for path in (open_place / "outputs").rglob("*"):
        path.chmod(0o777 if path.is_dir() else 0o666)
    (open_place / "outputs").chmod(0o777)
    before = metrics(folder)
    (folder / closed).chmod(0)
    with as_somebody():
        with pytest.raises(CheckpointError, match="permission denied") as caught:
            run(*SHORT, *places)
        assert main(["generate", str(folder / "checkpoints/last"), "--device", "cpu"]) in (1, 2)
    assert not isinstance(caught.value, DamagedCheckpointError)
    assert metrics(folder) == before
    (folder / closed).chmod(0o777)
    assert run(*SHORT, *places) is not None


# --------------------------------------------------------------------------------------- vanished


@pytest.mark.parametrize("vanishing", ["the run", "outputs", "its checkpoints", "its metrics"])
def test_a_folder_that_vanishes_in_training_ends_the_run_and_is_not_made_anew(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vanishing: str
) -> None:
    outputs = tmp_path / "outputs"

    def place() -> Path:
        folder = only_run(outputs)
        inside = {"its checkpoints": folder / "checkpoints", "its metrics": folder / "metrics.jsonl"}
        return {"the run": folder, "outputs": outputs, **inside}[vanishing]

    gone = []

    def remove() -> None:
        gone.append(place())
        shutil.rmtree(gone[0]) if gone[0].is_dir() else gone[0].unlink()

    after_step(monkeypatch, 2, remove)
    with pytest.raises(OutputError, match="vanished"):
        run(*SHORT)
    assert not gone[0].exists()
    monkeypatch.undo()
    assert run(*SHORT) is not None


def test_a_run_whose_folder_is_moved_away_ends_and_goes_on_once_it_is_back(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*SHORT, outputs="undisturbed")
    after_step(monkeypatch, 2, lambda: (tmp_path / "outputs").rename(tmp_path / "moved") and None)
    with pytest.raises(OutputError, match="vanished"):
        run(*SHORT)
    assert not (tmp_path / "outputs").exists()
    (tmp_path / "moved").rename(tmp_path / "outputs")
    run(*SHORT)
    assert_equal_runs(only_run(tmp_path / "undisturbed"), only_run(tmp_path / "outputs"))


def test_a_run_does_without_its_prepared_data_on_disk_once_it_has_begun(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*SHORT, outputs="undisturbed")
    cache = tmp_path / "own cache"
    after_step(monkeypatch, 2, lambda: shutil.rmtree(cache))
    run(*SHORT, f"paths.cache='{cache}'", outputs="cut")
    assert_equal_runs(only_run(tmp_path / "undisturbed"), only_run(tmp_path / "cut"))


# ---------------------------------------------------------------------------------------- damaged


@pytest.mark.parametrize("name", ["windows-train.tokens.npy", "train.texts.npy", "manifest.json"])
def test_a_flipped_bit_in_prepared_data_is_found_at_the_start_and_the_data_are_built_anew(
    run: Run, tmp_path: Path, name: str
) -> None:
    run(*SHORT, f"paths.cache={tmp_path}/cache", outputs="undisturbed")
    (path,) = (tmp_path / "cache").glob(f"*/{name}")
    damage(path)
    run(*SHORT, f"paths.cache={tmp_path}/cache", outputs="cut")
    folder = only_run(tmp_path / "cut")
    assert f"rebuilding {path.parent}: " in (folder / "run.log").read_text()
    assert_equal_runs(only_run(tmp_path / "undisturbed"), folder)


@pytest.mark.parametrize("command", [["generate"], ["evaluate"], ["chat"], ["generate", "--json"]])
def test_a_command_that_meets_a_damaged_checkpoint_names_the_one_beside_it(
    command: list[str], trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(trained / "checkpoints/best/model.safetensors")
    assert main([command[0], str(trained), *command[1:], "--device", "cpu"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "model.safetensors missing or not as written" in said
    last = trained / "checkpoints/last"
    assert f"which has weights too: {last} (after step 4)" in said
    assert main(["generate", str(last), "--tokens", "4", "--device", "cpu"]) == 0


def test_a_checkpoint_of_a_run_that_has_lost_its_manifest_is_told_as_damaged(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained / "checkpoints/best/manifest.json").unlink()
    for name in (trained, trained / "checkpoints/best"):
        assert main(["generate", str(name), "--device", "cpu"]) == 1
        assert f"{trained}/checkpoints/last (after step 4)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["config.yaml", "overrides.yaml", "environment.json", "data.json", "run.log"])
def test_a_damaged_record_of_a_run_stands_in_the_way_of_nothing(run: Run, trained: Path, name: str) -> None:
    (trained / name).write_bytes(b"\xff{")
    assert run(*SHORT, outputs="trained") is not None
    assert main(["report", str(trained.parents[1])]) == 0
    assert main(["status", str(trained.parents[1]), "--once"]) == 0
