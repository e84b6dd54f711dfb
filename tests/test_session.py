"""Runs from end to end: artefacts, resuming, and what goes wrong on the way."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from nano_llm import checkpoint, session
from nano_llm.config.compose import compose_config
from nano_llm.data.prepare import PreparedData, prepare
from nano_llm.errors import CheckpointError, DamagedCheckpointError, DataError, DivergedError, OutputError
from nano_llm.model.accounting import expected_parameters
from nano_llm.session import Session, run_session
from nano_llm.tracking.run_folder import RunFolder
from nano_llm.tracking.status import read_status
from nano_llm.training import loop
from tiny_run import TINY_RUN, Killed, Run, assert_equal_runs, damage, kill_after, metrics, only_run, weights


def test_a_run_leaves_every_artefact(run: Run, tmp_path: Path) -> None:
    summary = run()
    folder = only_run(tmp_path / "outputs")
    assert summary == json.loads((folder / "summary.json").read_text())
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    weights_and_more = {"model.safetensors", "config.json", "tokenizer.json", "metrics.json", "manifest.json"}
    assert present == {
        ".lock", "config.yaml", "overrides.yaml", "environment.json", "data.json", "metrics.jsonl", "status.json",
        "run.log", "summary.json", "evaluation/likelihood.json",
        *(f"checkpoints/best/{name}" for name in weights_and_more),
        *(f"checkpoints/last/{name}" for name in (*weights_and_more, "training.json", "training.safetensors")),
    }  # fmt: skip
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert {"val_ce", "val_bpb", "val_js", "test_bpb", "train_ce"} <= summary["metrics"].keys()
    assert summary["steps"] == 12


@pytest.mark.parametrize("kind", ["posterior_js", "bayes", "margin", "unlikelihood", "cad_pairs"])
def test_a_separation_term_is_logged_by_its_own_name(run: Run, tmp_path: Path, kind: str) -> None:
    summary = run(f"model/separation={kind}")
    assert summary is not None
    rows = metrics(only_run(tmp_path / "outputs"))
    trained = [row for row in rows if row["split"] == "train"]
    assert all(f"train_{kind}" in row and "train_js" not in row for row in trained)
    assert {"val_js", "val_ce"} <= summary["metrics"].keys()
    # Pairs come along in training only.
    assert (f"val_{kind}" in summary["metrics"]) is (kind != "cad_pairs")


def test_the_learned_scale_is_part_of_the_training_state_not_of_the_model(run: Run, tmp_path: Path) -> None:
    run("model/separation=bayes")
    saved = checkpoint.load(only_run(tmp_path / "outputs") / "checkpoints/last")
    assert saved.training is not None
    assert saved.training.tensors["objective.log_scale"].item() != pytest.approx(math.log(10), abs=1e-6)
    assert saved.training.tensors["objective.bias_K"].abs().max() > 0
    run(outputs="plain")
    plain = checkpoint.load(only_run(tmp_path / "plain") / "checkpoints/last")
    assert saved.weights.keys() == plain.weights.keys()


def test_data_that_change_after_they_have_named_a_run_are_not_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reviews = tmp_path / "imdb"
    reviews.mkdir()
    for split in ("train", "test"):
        lines = [f"a {'fine' if row % 2 else 'dull'} film of {split} {row},{row % 2}" for row in range(20)]
        (reviews / f"{split}.csv").write_text("\n".join(["text,label", *lines]))

    def changed_and_prepared(*arguments: Any) -> PreparedData:
        (reviews / "train.csv").write_text((reviews / "train.csv").read_text() + "\na dull film,0\na fine film,1\n")
        return prepare(*arguments)

    monkeypatch.setattr(session, "prepare", changed_and_prepared)
    own = (f"data.path={reviews}", f"paths.cache={tmp_path / 'cache'}", f"paths.outputs={tmp_path / 'outputs'}")
    where = ("data.cad=null", "data.movies=null", "data.tokenizer.vocab_size=280", "trainer.device=cpu")
    words = ["data=imdb", "scale=tiny", *where, *own]
    with pytest.raises(DataError, match=r"data=imdb have changed since the run \w+ was named by them"):
        run_session(compose_config(words), words, Console(quiet=True))
    folder = only_run(tmp_path / "outputs")
    assert read_status(folder).state == "failed"
    assert not (folder / "data.json").exists()


def test_pairs_are_asked_for_where_the_corpus_has_none(run: Run) -> None:
    with pytest.raises(DataError, match=r"kind=cad_pairs.*data\.num_pairs"):
        run("model/separation=cad_pairs", "data.num_pairs=0")


def test_weighting_reproduces_the_unweighted_run_where_treatment_is_balanced(run: Run, tmp_path: Path) -> None:
    run("data.confounding=0", outputs="plain")
    run("data.confounding=0", "model=tarnet_ipw", outputs="weighted")
    assert_equal_runs(only_run(tmp_path / "plain"), only_run(tmp_path / "weighted"))


def test_weighting_changes_training_where_the_topic_chooses_the_treatment(run: Run, tmp_path: Path) -> None:
    run(outputs="plain")
    run("model=tarnet_ipw", outputs="weighted")
    one, other = (weights(only_run(tmp_path / name)) for name in ("plain", "weighted"))
    assert any(not torch.equal(one[name], other[name]) for name in one)
    rows = metrics(only_run(tmp_path / "weighted"))
    first = next(row for row in rows if row["split"] == "train")
    plain = next(row for row in metrics(only_run(tmp_path / "plain")) if row["split"] == "train")
    # What is called CE stays unweighted: before weights have moved far, it is the plain run's.
    assert first["train_ce"] == pytest.approx(plain["train_ce"], rel=1e-2)
    assert first["train_loss"] != pytest.approx(plain["train_loss"], rel=1e-3)


def test_learning_lowers_the_loss(run: Run, tmp_path: Path) -> None:
    run("trainer.max_steps=80", "trainer.eval_every=40", "optimizer.lr=1e-2")
    rows = metrics(only_run(tmp_path / "outputs"))
    losses = [row["train_ce"] for row in rows if row["split"] == "train"]
    assert losses[0] > 5
    assert losses[-1] < 3


@pytest.mark.parametrize("model", ["s_plus", "t_learner", "tarnet_symmetric"])
def test_learners_with_two_outcomes_train_on_the_command_alone(run: Run, tmp_path: Path, model: str) -> None:
    summary = run(f"model={model}", "trainer.max_steps=2")
    folder = only_run(tmp_path / "outputs")
    loaded = checkpoint.load(folder / "checkpoints/last")
    assert summary is not None
    assert summary["steps"] == 2
    assert summary["parameters"] == expected_parameters(
        loaded.config.model, loaded.config.scale, loaded.tokenizer.vocab_size
    )
    assert loaded.config.model.num_outcomes == loaded.model().num_outcomes == 2
    assert json.loads((folder / "data.json").read_text())["settings"]["data.conditioning"] == "command"
    assert summary["metrics"]["val_js"] > 0


@pytest.mark.parametrize("model", ["s_plus", "t_learner"])
def test_separation_is_part_of_what_every_learner_minimises(run: Run, model: str) -> None:
    summary = run(f"model={model}", "model.separation.kind=js", "model.separation.weight=0.5", "trainer.max_steps=2")
    assert summary is not None
    assert summary["metrics"]["val_objective"] < summary["metrics"]["val_ce"]


def test_the_same_command_again_reports_and_changes_nothing(run: Run, tmp_path: Path) -> None:
    first = run()
    folder = only_run(tmp_path / "outputs")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert run() == first
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["optimizer=adamw", "model=vanilla"],
        ["trainer.num_micro_batches=3", "trainer.eval_every=null"],
        ["model/separation=bayes"],
        ["model/separation=cad_pairs"],
    ],
)
@pytest.mark.parametrize("cut", [4, 9])
def test_a_killed_run_resumes_bit_for_bit(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], cut: int
) -> None:
    """The cuts lie inside the first and the second epoch; two steps of work are lost each time."""
    run(*overrides, outputs="undisturbed")
    with monkeypatch.context() as faulty:
        kill_after(cut, faulty)
        with pytest.raises(Killed):
            run(*overrides, "trainer.checkpoint_minutes=0", outputs="cut")
    run(*overrides, "trainer.checkpoint_minutes=0", outputs="cut")
    assert_equal_runs(only_run(tmp_path / "undisturbed"), only_run(tmp_path / "cut"))


def command(tmp_path: Path, cache: Path, *overrides: str) -> list[str]:
    chosen = [*TINY_RUN, f"paths.outputs={tmp_path / 'outputs'}", f"paths.cache={cache}", *overrides]
    return [sys.executable, "-m", "nano_llm.run", *chosen]


def wait_for_step(outputs: Path, step: int) -> None:
    for _ in range(1200):
        time.sleep(0.05)
        for path in outputs.glob("*/*/seed-*/metrics.jsonl"):
            lines = path.read_text().splitlines()
            if lines and lines[-1].endswith("}") and json.loads(lines[-1])["step"] >= step:
                return
    raise AssertionError("the run never got there")


@pytest.mark.slow
def test_kill_9_of_the_process_loses_at_most_the_work_since_the_last_save(
    run: Run, tmp_path: Path, cache: Path
) -> None:
    long = ("trainer.max_steps=60", "trainer.checkpoint_minutes=0")
    process = subprocess.Popen(command(tmp_path, cache, *long))
    wait_for_step(tmp_path / "outputs", 10)
    process.kill()
    process.wait()
    assert json.loads((only_run(tmp_path / "outputs") / "status.json").read_text())["state"] == "running"
    run(*long)
    run(*long, outputs="undisturbed")
    assert_equal_runs(only_run(tmp_path / "undisturbed"), only_run(tmp_path / "outputs"))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_ends_the_process(
    run: Run, tmp_path: Path, cache: Path, number: signal.Signals, status: int
) -> None:
    long = ("trainer.max_steps=2000",)
    process = subprocess.Popen(command(tmp_path, cache, *long), stdout=subprocess.PIPE, text=True)
    wait_for_step(tmp_path / "outputs", 4)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert "the same command goes on" in output
    folder = only_run(tmp_path / "outputs")
    left = json.loads((folder / "status.json").read_text())
    assert (left["state"], left["reason"]) == ("stopped", number.name)
    saved = checkpoint.load(folder / "checkpoints/last")
    assert saved.metrics["step"] == left["step"]


@pytest.mark.slow
def test_a_run_goes_on_when_nobody_reads_its_output_any_more(run: Run, tmp_path: Path, cache: Path) -> None:
    """As with ``| head -1``."""
    process = subprocess.Popen(command(tmp_path, cache), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Run ")
    process.stdout.close()
    _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors.count("Nobody reads the output")) == (0, 1), errors
    run(outputs="undisturbed")
    assert_equal_runs(only_run(tmp_path / "undisturbed"), only_run(tmp_path / "outputs"))


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_signal_while_the_status_is_written_stops_the_run_in_good_order(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """At the first word of a run, and, a second time, at its last."""
    writes = RunFolder.set_status

    def interrupted(self: RunFolder, told: str, **details: Any) -> None:
        if told in ("running", state):
            os.kill(os.getpid(), signal.SIGTERM)
        writes(self, told, **details)

    monkeypatch.setattr(RunFolder, "set_status", interrupted)
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == 143
    status = json.loads((only_run(tmp_path / "outputs") / "status.json").read_text())
    assert (status["state"], status["reason"]) == ("stopped", "SIGTERM")
    monkeypatch.undo()
    assert run() is not None


def test_a_signal_after_the_last_score_leaves_a_finished_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = RunFolder.finish

    def interrupted(self: RunFolder, summary: dict[str, Any]) -> None:
        writes(self, summary)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(RunFolder, "finish", interrupted)
    assert run() is not None
    assert json.loads((only_run(tmp_path / "outputs") / "status.json").read_text())["state"] == "finished"


def test_a_session_stops_at_its_time_and_goes_on_in_the_next(run: Run, tmp_path: Path) -> None:
    assert run("trainer.session_minutes=1e-9") is None
    folder = only_run(tmp_path / "outputs")
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["reason"], status["step"]) == ("stopped", "session_minutes", 0)
    summary = run()
    assert summary is not None
    assert summary["steps"] == 12


def test_early_stopping_survives_a_cut(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (
        "optimizer.lr=1e-12",
        "optimizer=adamw",
        "trainer.patience=2",
        "trainer.max_steps=100",
        "trainer.eval_every=3",
    )
    run(*settings, outputs="undisturbed")
    validates = Session.on_validation

    def kill(self: Session, state: Any, figures: Any, is_best: bool) -> None:
        validates(self, state, figures, is_best)
        if state.spent.steps == 6:
            raise Killed

    monkeypatch.setattr(Session, "on_validation", kill)
    with pytest.raises(Killed):
        run(*settings, "trainer.checkpoint_minutes=0", outputs="cut")
    monkeypatch.undo()
    run(*settings, "trainer.checkpoint_minutes=0", outputs="cut")
    assert_equal_runs(only_run(tmp_path / "undisturbed"), only_run(tmp_path / "cut"))


@pytest.mark.parametrize("calls", [1, 3])
def test_a_signal_during_a_validation_keeps_the_state_and_repeats_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    run(outputs="undisturbed")
    between = Session._between_batches
    count = 0

    def interrupt(self: Session) -> None:
        nonlocal count
        count += 1
        if count == calls:
            os.kill(os.getpid(), signal.SIGTERM)
        between(self)

    monkeypatch.setattr(Session, "_between_batches", interrupt)
    with pytest.raises(SystemExit) as caught:
        run("trainer.eval_batch_size=4", outputs="cut")
    assert caught.value.code == 143
    monkeypatch.undo()
    run("trainer.eval_batch_size=4", outputs="cut")
    assert metrics(only_run(tmp_path / "undisturbed"))[-1]["step"] == metrics(only_run(tmp_path / "cut"))[-1]["step"]
    one, other = weights(only_run(tmp_path / "undisturbed")), weights(only_run(tmp_path / "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_second_signal_in_a_step_leaves_the_last_save_alone(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(outputs="undisturbed")
    real = loop.train_step
    steps = []

    def insist(*arguments: Any) -> torch.Tensor:
        steps.append(real(*arguments))
        if len(steps) == 7:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return steps[-1]

    monkeypatch.setattr(loop, "train_step", insist)
    with pytest.raises(SystemExit) as caught:
        run("trainer.checkpoint_minutes=0", outputs="cut")
    assert caught.value.code == 130
    monkeypatch.undo()
    folder = only_run(tmp_path / "cut")
    assert checkpoint.load(folder / "checkpoints/last").metrics["step"] == 6
    run("trainer.checkpoint_minutes=0", outputs="cut")
    assert_equal_runs(only_run(tmp_path / "undisturbed"), folder)


@pytest.mark.parametrize("name", ["status.json", "metrics.jsonl", "summary.json"])
def test_a_side_file_that_is_not_text_does_not_block_the_run(run: Run, tmp_path: Path, name: str) -> None:
    first = run()
    (only_run(tmp_path / "outputs") / name).write_bytes(b"\xff{")
    again = run()
    assert first is not None
    assert again is not None
    assert again["metrics"] == first["metrics"]


def test_an_early_end_still_logs_what_was_trained(run: Run) -> None:
    summary = run("trainer.max_steps=3", "trainer.log_every=50")
    assert summary is not None
    assert summary["metrics"]["train_ce"] > 1


def test_protocol_reference_scores_whole_reviews_for_bits_per_byte(run: Run, tmp_path: Path) -> None:
    """Its windows lose tails, so validations leave ``val_bpb`` out and the end scores covering windows."""
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    folder = tmp_path / "imdb/plain_text"
    folder.mkdir(parents=True)
    texts = [f"review {i} was {'very ' * (i % 40)}{word}." for i in range(20) for word in ("good", "bad")]
    for split in ("train", "test"):
        table = pyarrow.table({"text": texts, "label": [1, 0] * 20})
        parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    chosen = [
        "experiment=reference", f"data.path={tmp_path}/imdb", "data.movies=null",
        "data.window_length=64", "data.tokenizer.vocab_size=80",
        "scale=tiny", "trainer.max_epochs=1", "trainer.batch_size=8", "trainer.device=cpu",
        f"paths.cache={tmp_path}/cache", f"paths.outputs={tmp_path}/outputs",
    ]  # fmt: skip
    summary = run_session(compose_config(chosen), chosen, Console(quiet=True))
    assert summary is not None
    assert "val_bpb" in summary["metrics"]
    rows = [row for row in metrics(only_run(tmp_path / "outputs")) if row["split"] == "validation"]
    assert rows
    assert not any("val_bpb" in row for row in rows)


def test_a_loss_that_is_not_finite_ends_with_the_step_and_the_last_good_state(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"Step \d+ .*optimizer\.lr"):
        run("optimizer.lr=1e30", "optimizer.grad_clip=null", "trainer.checkpoint_minutes=0", "trainer.log_every=1")
    folder = only_run(tmp_path / "outputs")
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "failed"
    assert "not finite" in status["error"]
    assert "last good state" in status["error"]
    assert all(tensor.isfinite().all() for tensor in weights(folder).values())


def test_early_stopping_ends_after_patience(run: Run) -> None:
    summary = run("optimizer=adamw", "optimizer.lr=1e-12", "trainer.patience=2", "trainer.max_steps=100")
    assert summary is not None
    assert summary["steps"] <= 20
    assert summary["ended_by"] == "patience"


def test_a_full_disk_is_explained_and_the_old_checkpoint_stays(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 60:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        run("trainer.checkpoint_minutes=0")
    folder = only_run(tmp_path / "outputs")
    assert checkpoint.load(folder / "checkpoints/last").training is not None
    assert not list(folder.rglob("*.new")), "a half-written checkpoint was left behind"
    monkeypatch.undo()
    assert run("trainer.checkpoint_minutes=0") is not None


def cut_off(run: Run, monkeypatch: pytest.MonkeyPatch, cut: int, **places: str) -> None:
    """Carry out a run that saves at every step, and kill it at its first log row after a step."""
    rows = Session.on_step

    def kill(self: Session, state: Any, row: Any, share: float) -> None:
        rows(self, state, row, share)
        if state.spent.steps > cut:
            raise Killed

    monkeypatch.setattr(Session, "on_step", kill)
    with pytest.raises(Killed):
        run("trainer.checkpoint_minutes=0", **places)
    monkeypatch.undo()


@pytest.mark.parametrize("damaged", ["model.safetensors", "training.json", "manifest.json"])
@pytest.mark.parametrize("cut", [5, 9])
def test_a_damaged_last_checkpoint_is_told_and_the_one_before_gives_the_same_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str, cut: int
) -> None:
    """At step 5 lies a validation: the last save is after it, the one before the last is not."""
    run(outputs="undisturbed")
    cut_off(run, monkeypatch, cut, outputs="cut")
    folder = only_run(tmp_path / "cut")
    damage(folder / "checkpoints/last" / damaged)
    step = checkpoint.load(folder / "checkpoints/previous").metrics["step"]
    assert run("trainer.checkpoint_minutes=0", outputs="cut") is not None
    assert_equal_runs(only_run(tmp_path / "undisturbed"), folder)
    log = (folder / "run.log").read_text()
    assert re.search(rf"last is damaged: {re.escape(damaged)}.*goes on from \S+previous, after step {step}", log)
    # A finished run has no use for it.
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["best", "last"]


def cut_after_second_best(run: Run, monkeypatch: pytest.MonkeyPatch, **places: str) -> None:
    """Kill a run when the best checkpoint of step 10 is on disk, and the last one is of step 9."""
    validates = Session.on_validation

    def kill(self: Session, state: Any, figures: Any, is_best: bool) -> None:
        validates(self, state, figures, is_best)
        if state.spent.steps == 10:
            assert is_best
            raise Killed

    with monkeypatch.context() as faulty:
        faulty.setattr(Session, "on_validation", kill)
        with pytest.raises(Killed):
            run("trainer.checkpoint_minutes=0", **places)


def test_a_best_checkpoint_that_is_not_come_by_again_gives_way(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on devices that do not repeat steps exactly: here the steps after the cut are worth less than before it."""
    cut_after_second_best(run, monkeypatch)
    folder = only_run(tmp_path / "outputs")
    assert checkpoint.load(folder / "checkpoints/best").metrics["step"] == 10
    validate = Session._validate
    monkeypatch.setattr(Session, "_validate", lambda self: {n: v + 9 for n, v in validate(self).items()})
    summary = run()
    assert summary is not None
    best = checkpoint.load(folder / "checkpoints/best").metrics
    (row,) = (row for row in metrics(folder) if row["split"] == "validation" and row["step"] == best["step"])
    assert best["validation"] == {name: row[name] for name in best["validation"]}
    assert summary["metrics"]["val_ce"] == row["val_ce"]
    assert "`best` is of step 10, which is to be taken again" in (folder / "run.log").read_text()


def test_a_best_checkpoint_that_is_come_by_again_is_the_same(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(outputs="undisturbed")
    cut_after_second_best(run, monkeypatch, outputs="cut")
    run(outputs="cut")
    assert_equal_runs(only_run(tmp_path / "undisturbed"), only_run(tmp_path / "cut"))
    states = [checkpoint.load(only_run(tmp_path / name) / "checkpoints/last") for name in ("undisturbed", "cut")]
    one, other = (state.training.values["loop"] for state in states if state.training is not None)
    assert (one["best_value"], one["num_worse"]) == (other["best_value"], other["num_worse"])


@pytest.mark.parametrize("is_there", [True, False])
def test_a_best_checkpoint_that_is_lost_in_training_is_told_and_the_next_validation_takes_its_place(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    """Here no later validation is as good as the one whose weights are lost."""
    cut_off(run, monkeypatch, 6)
    folder = only_run(tmp_path / "outputs")
    best = folder / "checkpoints/best"
    assert checkpoint.load(best).metrics["step"] == 5
    if is_there:
        damage(best / "model.safetensors")
    else:
        shutil.rmtree(best)
    validate = Session._validate
    monkeypatch.setattr(Session, "_validate", lambda self: {n: v + 9 for n, v in validate(self).items()})
    summary = run()
    assert summary is not None
    row = min((row for row in metrics(folder) if row["step"] > 6 and "val_bpb" in row), key=lambda row: row["val_bpb"])
    assert (summary["best_step"], summary["metrics"]["val_bpb"]) == (row["step"], row["val_bpb"])
    first = next(row for row in metrics(folder) if row["split"] == "validation")
    lost = rf"`best` is missing or damaged; it had val_bpb {first['val_bpb']:.4f}. The result.*still to come"
    assert re.search(lost, (folder / "run.log").read_text())


def test_a_best_checkpoint_that_is_not_this_runs_is_refused_before_training(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(run, monkeypatch, 6)
    run("seed=1", outputs="other")
    folder = only_run(tmp_path / "outputs")
    strange, own = only_run(tmp_path / "other") / "checkpoints/best", folder / "checkpoints/best"
    shutil.rmtree(own)
    shutil.copytree(strange, own)
    rows = metrics(folder)
    with pytest.raises(CheckpointError, match=r"saved by another run: .*figures are those of `best`.*delete \S+"):
        run()
    assert metrics(folder) == rows


@pytest.mark.parametrize("other", ["optimizer.lr=0.002", "seed=1", "model=vanilla", "data.num_train=61"])
def test_a_checkpoint_of_another_run_is_not_gone_on_from(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    run("trainer.session_minutes=1e-9")
    run("trainer.session_minutes=1e-9", other, outputs="other")
    own, strange = (only_run(tmp_path / name) / "checkpoints/last" for name in ("outputs", "other"))
    own.rename(tmp_path / "kept")
    shutil.copytree(strange, own)
    with pytest.raises(CheckpointError, match=r"cannot go on from \S+/last. It was saved by another run: .*delete"):
        run()
    shutil.rmtree(own)
    (tmp_path / "kept").rename(own)
    assert run() is not None


@pytest.mark.parametrize("told", [{}, {"step": 5}, {"step": 5, "validation": {"val_ce": 1.0}}, {"validation": []}])
def test_a_best_checkpoint_that_tells_no_validation_is_refused(
    run: Run, tmp_path: Path, told: dict[str, object]
) -> None:
    run()
    folder = only_run(tmp_path / "outputs")
    best = checkpoint.load(folder / "checkpoints/best")
    checkpoint.save(
        folder / "checkpoints/best", config=best.config, tokenizer=best.tokenizer, model=best.model(), metrics=told
    )
    (folder / "summary.json").unlink()
    with pytest.raises(CheckpointError, match=r"metrics\.json of `best` does not tell the step and the figures"):
        run()


def test_what_a_kill_in_an_exchange_has_left_is_cleared_by_the_next_session(run: Run, tmp_path: Path) -> None:
    run("trainer.session_minutes=1e-9")
    checkpoints = only_run(tmp_path / "outputs") / "checkpoints"
    for name in (".best.new", ".last.new", ".last.old"):
        (checkpoints / name).mkdir()
    (checkpoints / "best").mkdir()
    (checkpoints / "best").rename(checkpoints / ".best.old")
    run("trainer.session_minutes=1e-9")
    # The only one of its name comes to its place again, whatever it is worth.
    assert sorted(path.name for path in checkpoints.iterdir()) == ["best", "last", "previous"]


def test_rows_are_on_disk_before_a_checkpoint_after_them(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, saves = os.fsync, Session._save
    synced: list[tuple[int, int]] = []
    unsynced: list[int] = []

    def fsync(descriptor: int) -> None:
        real(descriptor)
        synced.append((os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))

    def save(self: Session, name: str, *given: Any) -> None:
        path = only_run(tmp_path / "outputs") / "metrics.jsonl"
        if name == "last" and (path.stat().st_ino, path.stat().st_size) not in synced:
            unsynced.append(path.stat().st_size)
        saves(self, name, *given)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Session, "_save", save)
    run("trainer.checkpoint_minutes=0", "trainer.log_every=1")
    assert synced
    assert not unsynced


def test_a_damaged_checkpoint_is_refused_not_restarted_from(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(run, monkeypatch, 4)
    folder = only_run(tmp_path / "outputs")
    for name in ("last", "previous"):
        damage(folder / "checkpoints" / name / "model.safetensors")
    rows = metrics(folder)
    for _ in range(2):
        with pytest.raises(DamagedCheckpointError, match=r"last is damaged: model.*previous is damaged.*delete \S+"):
            run()
    assert metrics(folder) == rows
    assert json.loads((folder / "status.json").read_text())["state"] == "failed"


def test_a_damaged_best_checkpoint_at_the_end_names_what_else_there_is(run: Run, tmp_path: Path) -> None:
    run()
    folder = only_run(tmp_path / "outputs")
    (folder / "summary.json").unlink()
    damage(folder / "checkpoints/best/model.safetensors")
    with pytest.raises(DamagedCheckpointError, match=r"best is damaged.*/last \(after step 12\).*delete \S+"):
        run()


def test_a_run_that_has_lost_its_checkpoints_says_that_it_begins_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(outputs="undisturbed")
    cut_off(run, monkeypatch, 4, outputs="cut")
    folder = only_run(tmp_path / "cut")
    shutil.rmtree(folder / "checkpoints")
    run(outputs="cut")
    assert "starting at step 0, not after step 6" in (folder / "run.log").read_text()
    assert_equal_runs(only_run(tmp_path / "undisturbed"), folder)


def test_a_row_told_after_the_last_save_is_not_told_twice(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal in a validation saves the step before its row is told; the row of the next session may outlive it."""
    run(outputs="undisturbed")
    between, validates = Session._between_batches, Session.on_validation

    def interrupt(self: Session) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        between(self)

    def kill(self: Session, state: Any, figures: Any, is_best: bool) -> None:
        validates(self, state, figures, is_best)
        raise Killed

    monkeypatch.setattr(Session, "_between_batches", interrupt)
    with pytest.raises(SystemExit):
        run(outputs="cut")
    monkeypatch.undo()
    monkeypatch.setattr(Session, "on_validation", kill)
    with pytest.raises(Killed):
        run(outputs="cut")
    monkeypatch.undo()
    run(outputs="cut")
    assert_equal_runs(only_run(tmp_path / "undisturbed"), only_run(tmp_path / "cut"))


def test_two_processes_cannot_hold_one_run(run: Run, tmp_path: Path) -> None:
    run("trainer.session_minutes=1e-9")
    folder = only_run(tmp_path / "outputs")
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl,sys,time; f=open(sys.argv[1],'a'); fcntl.flock(f,fcntl.LOCK_EX);"
         "print('held',flush=True); time.sleep(60)", str(folder / ".lock")],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    try:
        holder.stdout.readline()
        with pytest.raises(OutputError, match="Another process"):
            run()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_debug_overfit_drives_a_batch_to_near_zero(tmp_path: Path, cache: Path) -> None:
    chosen = ["debug=overfit", "scale=tiny", "trainer.batch_size=4", f"paths.cache={cache}"]
    summary = run_session(compose_config([*chosen, f"paths.outputs={tmp_path}"]), chosen, Console(quiet=True))
    assert summary is not None
    assert summary["metrics"]["train_ce"] < 0.3
    assert math.isfinite(summary["metrics"]["val_bpb"])


def test_metrics_survive_a_torn_line(run: Run, tmp_path: Path) -> None:
    run("trainer.session_minutes=1e-9")
    path = only_run(tmp_path / "outputs") / "metrics.jsonl"
    path.write_text('{"split": "train", "step": 99, "tra')
    assert run() is not None
    assert [row["step"] for row in metrics(path.parent)] == [2, 4, 5, 6, 8, 10, 10, 12, 12]


def test_no_temporary_file_is_left_behind(run: Run, tmp_path: Path) -> None:
    run()
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith((".tmp", ".new", ".old"))]
