"""Several processes train one model: real ones, two of them, over gloo on the CPU."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from nano_llm import checkpoint
from nano_llm.config.compose import compose_config
from nano_llm.errors import GroupError
from nano_llm.session import Session, run_session
from nano_llm.tracking.lock import take_hold
from nano_llm.training.group import Alone
from tiny_run import TINY_RUN, Run, only_run

TESTS = Path(__file__).parents[1]
SECONDS = 240.0
"""For a whole job, its start included, on a busy machine."""
ENDING_SECONDS = 60.0
"""For the end of a job once a process was killed, on a busy machine: long for seconds, short for waiting in vain."""

PLAIN = ("model.dropout=0", "optimizer=adamw", "data.num_train=57")
"""Settings under which one process and two differ by rounding only; the last batch of an epoch has a single row."""

DROPOUT = ("model.dropout=0.1", "trainer.checkpoint_minutes=0")
TIMES = {"training_seconds", "tokens_per_second"}


def start(*command: str, rank: int | None = None, port: int = 0) -> subprocess.Popen[str]:
    """Start a command, as a process of a job of two if it has a rank."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    if rank is not None:
        environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        environment |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


Ended = tuple[int, str, str]
"""Exit status, standard output, standard error."""


def ended(process: subprocess.Popen[str]) -> Ended:
    try:
        output, errors = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, output, errors


def job(*arguments: str) -> list[Ended]:
    """Carry out a job of `group_jobs` by two processes, without torchrun; return how each has ended."""
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    script = str(TESTS / "group_jobs.py")
    processes = [start(script, *arguments, rank=rank, port=port) for rank in (0, 1)]
    return [ended(process) for process in processes]


def seconds_since_the_kill(output: str) -> float:
    """Return how long ago the process was killed that has said so."""
    (told,) = re.findall(r"^killed at (\S+)$", output, re.MULTILINE)
    return time.time() - float(told)


def torchrun(*command: str) -> subprocess.Popen[str]:
    return start("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command)


def settings(tmp_path: Path, cache: Path, *overrides: str, outputs: str = "outputs") -> list[str]:
    return [*TINY_RUN, f"paths.outputs={tmp_path / outputs}", f"paths.cache={cache}", *overrides]


def rows(run_folder: Path) -> list[dict[str, Any]]:
    read = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in read]


def weights(run_folder: Path) -> dict[str, torch.Tensor]:
    return load_file(run_folder / "checkpoints/last/model.safetensors")


def status(run_folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((run_folder / "status.json").read_text())
    return told


def assert_same_learning(one: Path, other: Path) -> None:
    """Rounding apart, two runs are one: nats within 1e-4 of their size, weights within 1e-3 of a unit."""
    assert one.parent.name == other.parent.name, "the number of processes is no part of a run's id"
    for row, twin in zip(rows(one), rows(other), strict=True):
        assert row.keys() == twin.keys()
        assert [row[name] for name in ("split", "step", "tokens", "share")] == [
            twin[name] for name in ("split", "step", "tokens", "share")
        ]
        for name in row.keys() & {"train_loss", "train_ce", "val_ce", "val_bpb", "train_cad_pairs"}:
            assert row[name] == pytest.approx(twin[name], rel=1e-4)
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=1e-3, rtol=0)


def stop_after(monkeypatch: pytest.MonkeyPatch, until: int) -> None:
    monkeypatch.setattr(
        Session, "stop_reason", lambda self: "session_minutes" if self._position()["step"] >= until else None
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """Return the outputs of one job of two processes that carries out many runs, one after the other."""
    if "PYTEST_XDIST_TESTRUNUID" not in os.environ:
        folder = tmp_path_factory.mktemp("together")
        work_together(folder, cache)
        return folder
    # All workers of a test run need it, and one is enough to do it.
    folder = tmp_path_factory.getbasetemp().parent / "together"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            work_together(folder, cache)
            (folder / "done").touch()
    return folder


def work_together(folder: Path, cache: Path) -> None:
    grown = settings(folder, cache, *PLAIN, outputs="grown")
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop_after(monkeypatch, 5)
        run_session(compose_config(grown), grown, Console(quiet=True))

    def session(outputs: str, *overrides: str, until: int | None = None) -> str:
        return json.dumps([settings(folder, cache, *overrides, outputs=outputs), until])

    endings = job(
        "together",
        str(folder),
        session("js", *PLAIN),
        session("pairs", *PLAIN, "model/separation=cad_pairs"),
        session("shrunk", *PLAIN, until=7),
        session("grown", *PLAIN),
        session("undisturbed", *DROPOUT),
        session("begun", *DROPOUT, until=0),
        session("cut", *DROPOUT, "tracker=tensorboard", until=7),
        session("cut", *DROPOUT, "tracker=tensorboard"),
    )
    assert [(code, output) for code, output, _ in endings] == [(0, ""), (0, "")], endings


def heard(work: Path) -> list[dict[str, Any]]:
    return [json.loads((work / f"heard-{rank}.json").read_text()) for rank in (0, 1)]


def test_what_rank_0_says_reaches_all(work: Path) -> None:
    for rank in heard(work):
        assert rank["told"] == [0, None, 0.1]
        assert rank["told_much"] == "é" * 5000
        assert rank["handed_out"] == {"a": [0.0] * 3000}
        assert rank["interrupted"] == "SIGTERM"


def test_rank_0_collects_what_each_process_has(work: Path) -> None:
    zero, one = heard(work)
    assert zero["collected"] == [[0, 7], [1, 7]]
    assert one["collected"] == [[1, 7]]


def test_others_of_a_machine_find_done_what_its_first_process_does(work: Path) -> None:
    assert [rank["prepared"] for rank in heard(work)] == ["by itself", "by rank 0"]


def test_gradients_and_figures_are_summed_and_a_parameter_without_one_stays_so(work: Path) -> None:
    for rank in heard(work):
        assert rank["gradients"] == [[[3.0] * 3] * 2, [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], None]
        assert rank["measured"] == [30.0, 60.0]


@pytest.mark.parametrize(("outputs", "overrides"), [("js", ()), ("pairs", ("model/separation=cad_pairs",))])
def test_two_processes_learn_what_one_does(
    run: Run, tmp_path: Path, work: Path, outputs: str, overrides: tuple[str, ...]
) -> None:
    run(*PLAIN, *overrides)
    one, two = only_run(tmp_path / "outputs"), only_run(work / outputs)
    assert_same_learning(one, two)
    assert "57 training windows, 2 x cpu" in (two / "run.log").read_text(), "some epochs end with an empty share"


def test_only_rank_0_writes_and_all_of_it_is_whole(run: Run, tmp_path: Path, work: Path) -> None:
    run(*PLAIN)
    one, two = only_run(tmp_path / "outputs"), only_run(work / "js")
    files = [{path.relative_to(folder) for path in folder.rglob("*")} for folder in (one, two)]
    assert files[0] == files[1]
    for which in ("best", "last"):
        checkpoint.load(two / "checkpoints" / which)
    assert status(two)["state"] == "finished"
    assert len((two / "run.log").read_text().split("training windows")) == 2
    for folder, number in ((one, 1), (two, 2)):
        assert json.loads((folder / "environment.json").read_text())["num_processes"] == number
        assert json.loads((folder / "summary.json").read_text())["num_processes"] == number


def test_only_rank_0_tracks(work: Path) -> None:
    """There is an event file for each of two sessions."""
    assert len(list((only_run(work / "cut") / "tensorboard").iterdir())) == 2


def test_a_run_goes_on_with_fewer_processes_or_with_more(run: Run, tmp_path: Path, work: Path) -> None:
    run(*PLAIN)
    one = only_run(tmp_path / "outputs")
    assert_same_learning(one, only_run(work / "grown"))
    assert checkpoint.load(only_run(work / "shrunk") / "checkpoints/last").metrics["step"] == 7
    run(*PLAIN, f"paths.outputs={work / 'shrunk'}")
    assert_same_learning(one, only_run(work / "shrunk"))


def test_a_cut_job_resumes_bit_for_bit_on_as_many_processes(work: Path) -> None:
    """With dropout: the random state of every process comes back."""
    undisturbed, cut = only_run(work / "undisturbed"), only_run(work / "cut")
    assert rows(undisturbed) == rows(cut)
    first, second = weights(undisturbed), weights(cut)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_each_process_drops_out_by_a_stream_of_its_own_and_rank_0_by_that_of_a_single_one(
    run: Run, tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 0)
    run(*DROPOUT)
    alone, both = (
        checkpoint.load(only_run(outputs) / "checkpoints/last").training
        for outputs in (tmp_path / "outputs", work / "begun")
    )
    assert alone is not None
    assert both is not None
    assert torch.equal(both.tensors["random.cpu"], alone.tensors["random.cpu"])
    assert not torch.equal(both.tensors["random.1.cpu"], alone.tensors["random.cpu"])
    assert "random.1.cpu" not in alone.tensors


# --------------------------------------------------------------------------------------------- failing

GONE = "Error: Rank {} of 2 has gone without a word"


def ours(errors: str) -> list[str]:
    """Return the lines of ours in what a job under torchrun has said; its own report follows."""
    return [line for line in errors.splitlines() if line.startswith("Error: ")]


@pytest.mark.slow
def test_kill_9_of_a_process_ends_the_job_with_a_clear_error_and_a_single_one_goes_on(
    run: Run, tmp_path: Path, cache: Path
) -> None:
    saving = (*PLAIN, "trainer.checkpoint_minutes=0")
    command = settings(tmp_path, cache, *saving, outputs="killed")
    code, output, errors = ended(torchrun(str(TESTS / "group_jobs.py"), "killed", "1", "7", *command))
    assert seconds_since_the_kill(output) < ENDING_SECONDS
    assert code == 1
    assert len(ours(errors)) == 1
    assert ours(errors)[0].startswith(GONE.format(1))
    assert "the same command goes on from the last checkpoint" in errors.lower()
    # The one traceback is torchrun's own.
    assert errors.count("Traceback (most recent call last)") == 1
    folder = only_run(tmp_path / "killed")
    told = status(folder)
    assert (told["state"], told["step"]) == ("failed", 6)
    assert told["error"] == ours(errors)[0].removeprefix("Error: ")
    run(*saving, outputs="killed")
    run(*saving)
    assert_same_learning(only_run(tmp_path / "outputs"), folder)


def test_when_rank_0_is_killed_the_others_say_so(run: Run, tmp_path: Path, cache: Path) -> None:
    command = settings(tmp_path, cache, "trainer.checkpoint_minutes=0")
    zero, one = job("killed", "0", "4", *command)
    assert seconds_since_the_kill(zero[1]) < ENDING_SECONDS
    assert zero[0] == -signal.SIGKILL
    assert (one[0], one[1]) == (1, "")
    assert one[2].startswith(GONE.format(0))
    assert "Traceback" not in one[2]
    summary = run("trainer.checkpoint_minutes=0")
    assert summary is not None
    assert summary["steps"] == 12


def test_rank_0_tells_why_another_process_has_failed(tmp_path: Path, cache: Path) -> None:
    zero, one = job("without_data", *settings(tmp_path, cache))
    reason = "Rank 1 of 2 has failed: data.path=/data: no such folder on this machine"
    assert (zero[0], zero[2]) == (1, f"Error: {reason}\n")
    assert one == (1, "", "")
    told = status(only_run(tmp_path / "outputs"))
    assert (told["state"], told["error"]) == ("failed", reason)


def test_a_failure_of_rank_0_is_one_error_and_ends_the_others(run: Run, tmp_path: Path, cache: Path) -> None:
    run("trainer.session_minutes=1e-9")
    with take_hold(only_run(tmp_path / "outputs")):
        zero, one = job("killed", "1", "99", *settings(tmp_path, cache))
    assert zero[0] == 1
    assert zero[2].startswith("Error: Another process (pid ")
    assert len(zero[2].splitlines()) == 1
    assert one == (1, "", "")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the names of threads from /proc")
def test_no_thread_that_has_spoken_outlives_a_failure(tmp_path: Path) -> None:
    for exit_status, output, errors in job("failing"):
        assert (exit_status, errors) == (0, "")
        before, after = json.loads(output)
        assert 0 < after < before, "only those of the group that meets are left: they have been asked nothing since"


@pytest.mark.slow
def test_a_signal_to_torchrun_saves_and_ends_every_process(run: Run, tmp_path: Path, cache: Path) -> None:
    long = ("trainer.max_steps=2000",)
    process = torchrun("-m", "nano_llm.run", *settings(tmp_path, cache, *long))
    for _ in range(4800):
        time.sleep(0.05)
        if any(len(path.read_text().splitlines()) > 2 for path in tmp_path.glob("outputs/*/*/seed-*/metrics.jsonl")):
            break
    process.send_signal(signal.SIGTERM)
    _, output, errors = ended(process)
    assert "Stopped (SIGTERM); the same command goes on from here." in output
    assert not ours(errors)
    folder = only_run(tmp_path / "outputs")
    told = status(folder)
    assert (told["state"], told["reason"]) == ("stopped", "SIGTERM")
    assert checkpoint.load(folder / "checkpoints/last").metrics["step"] == told["step"] > 0


def test_a_process_that_waits_in_vain_for_one_that_was_killed_is_ended(tmp_path: Path) -> None:
    zero, one = job("stuck")
    assert seconds_since_the_kill(one[1]) < ENDING_SECONDS
    assert one[0] == -signal.SIGKILL
    assert (zero[0], zero[1]) == (1, "")
    assert zero[2].startswith(GONE.format(1))
    assert len(zero[2].splitlines()) == 1


def test_a_process_that_is_ended_in_a_step_has_said_so_in_the_status_of_the_run(tmp_path: Path, cache: Path) -> None:
    zero, one = job("stuck_in_a_step", *settings(tmp_path, cache))
    assert seconds_since_the_kill(one[1]) < ENDING_SECONDS
    assert one[0] == -signal.SIGKILL
    assert zero[0] == 1
    told = status(only_run(tmp_path / "outputs"))
    assert told["state"] == "failed"
    assert zero[2] == f"Error: {told['error']}\n"
    assert zero[2].startswith(GONE.format(1))


class Deserted(Alone):
    """The group of a rank 0 whose others are all killed once training is over."""

    gone = dismissed = False

    def demand_whole(self) -> None:
        if self.gone and not self.dismissed:
            raise GroupError("Rank 1 of 2 has gone without a word")

    def dismiss(self) -> None:
        assert self.gone, "they are needed until training is over"
        self.dismissed = True


def test_rank_0_scores_in_peace_once_training_is_over(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, real = Deserted(), Session.train

    def train(self: Session) -> str | None:
        reason = real(self)
        group.gone = True
        return reason

    monkeypatch.setattr(Session, "train", train)
    command = settings(tmp_path, cache)
    assert run_session(compose_config(command), command, Console(quiet=True), group) is not None


def test_processes_that_do_not_come_are_named() -> None:
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    code, output, _ = ended(start(str(TESTS / "group_jobs.py"), "alone", rank=0, port=port))
    assert code == 1
    assert output.startswith(f"Rank 0 cannot meet the other 1 processes of this job at localhost:{port}: ")
