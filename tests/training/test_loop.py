"""Whole runs that meet bad numbers, and runs that are to be equal or to differ."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from nano_llm import checkpoint, identity, learner
from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Precision
from nano_llm.errors import ConfigError, DivergedError
from nano_llm.model import dropout
from nano_llm.session import Session, run_session
from nano_llm.tracking.status import read_object
from nano_llm.training import loop, watch
from nano_llm.training.group import Alone
from nano_llm.training.machine import Machine
from nano_llm.training.step import MEASURED
from tiny_run import TINY_RUN, Killed, Run, assert_equal_runs, kill_after, metrics, only_run, weights

STEPS_AN_EPOCH, BATCH = 8, 8

# A batch is poisoned through the chances of its treatments, by which this model divides the loss of a window.
WEIGHTED = "model=tarnet_ipw"
NAN, OVERFLOW, SPIKE, GRADIENT_OVERFLOW = math.nan, 0.0, 1e-4, 1e-30
"""Chances that make a loss NaN, infinite, thousands of times its size, or finite but too steep for fp16."""

SKIP = "trainer.bad_steps=skip"
SAVE_EACH_STEP = "trainer.checkpoint_minutes=0"
ANYWHERE = "trainer.device=auto"
"""For fp16, which the settings allow on a GPU only; `fp16` gives the CPU for one."""

Poison = Callable[[dict[int, float]], None]


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Poison:
    """Have the batches of chosen steps, counted from 1 over all sessions, carry a chance of their treatment 1."""
    real = loop.batches

    def choose(chances: dict[int, float]) -> None:
        def poisoned(*arguments: Any) -> Iterator[Any]:
            for batch, cursor in real(*arguments):
                step = cursor.epoch * STEPS_AN_EPOCH + cursor.position // BATCH
                if step in chances:
                    batch.propensity_B[batch.treatment_B == 1] = chances[step]
                yield batch, cursor

        monkeypatch.setattr(loop, "batches", poisoned)

    return choose


@pytest.fixture
def fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in fp16 on the CPU, which is slow but real: overflow, scale and all."""
    monkeypatch.setattr(identity, "find_machine", lambda *_: Machine(torch.device("cpu"), Precision.fp16))


@pytest.fixture
def short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know spikes after four steps already."""
    monkeypatch.setattr(watch, "NUM_RECENT", 8)


def numbers(self: Session) -> dict[str, torch.Tensor]:
    """Return copies of all weights and moments."""
    training = self._training
    tensors = {**training.model.state_dict(), **training.optimizer.tensors()}
    return {name: tensor.clone() for name, tensor in tensors.items()}


@pytest.fixture
def numbers_after(monkeypatch: pytest.MonkeyPatch) -> dict[int, dict[str, torch.Tensor]]:
    """Weights and moments after each step of the next run that logs every step."""
    seen = {}
    rows = Session.on_step

    def remember(self: Session, state: Any, row: Any, share: float) -> None:
        rows(self, state, row, share)
        seen[state.spent.steps] = numbers(self)

    monkeypatch.setattr(Session, "on_step", remember)
    return seen


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def finite(tensors: dict[str, torch.Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors.values())


def log(folder: Path) -> str:
    return (folder / "run.log").read_text()


# ------------------------------------------------------------------------------------------------- stop


@pytest.mark.parametrize("chance", [NAN, OVERFLOW])
def test_a_poisoned_batch_stops_the_run_names_its_step_and_keeps_the_state_before_it(
    run: Run, tmp_path: Path, poison: Poison, chance: float
) -> None:
    poison({7: chance})
    with pytest.raises(DivergedError, match=r"Step 7 met .*not finite \(loss (nan|inf), .*after step 6\."):
        run(WEIGHTED, SAVE_EACH_STEP)
    folder = only_run(tmp_path / "outputs")
    status = read_object(folder / "status.json") or {}
    assert status["state"] == "failed"
    assert "Step 7" in status["error"]
    assert checkpoint.load(folder / "checkpoints/last").metrics["step"] == 6
    assert finite(weights(folder, "last"))


def test_a_bad_step_found_only_when_figures_are_fetched_has_reached_no_checkpoint(
    run: Run, tmp_path: Path, poison: Poison
) -> None:
    """Its update was applied, and so were two more: none of them may be kept."""
    run(WEIGHTED, "trainer.eval_every=3", outputs="undisturbed")
    best = checkpoint.load(only_run(tmp_path / "undisturbed") / "checkpoints/best")
    assert best.metrics["step"] > 6
    poison({7: NAN})
    with pytest.raises(DivergedError, match=r"Step 7 .*No checkpoint had been saved yet"):
        run(WEIGHTED, "trainer.eval_every=3", "trainer.log_every=50")
    folder = only_run(tmp_path / "outputs")
    assert not (folder / "checkpoints/last").exists()
    best = checkpoint.load(folder / "checkpoints/best")
    assert best.metrics["step"] == 6
    assert finite(best.weights)


def test_a_stopped_run_goes_on_under_skip_as_if_it_had_always_skipped(run: Run, tmp_path: Path, poison: Poison) -> None:
    poison({7: NAN})
    run(WEIGHTED, SKIP, outputs="skipping")
    with pytest.raises(DivergedError, match=r"trainer\.bad_steps=skip"):
        run(WEIGHTED, SAVE_EACH_STEP, outputs="stopped")
    summary = run(WEIGHTED, SAVE_EACH_STEP, SKIP, outputs="stopped")
    assert summary is not None
    assert (summary["steps"], summary["skipped_steps"]) == (12, 1)
    assert_equal_runs(only_run(tmp_path / "skipping"), only_run(tmp_path / "stopped"))


@pytest.mark.usefixtures("short_memory")
def test_a_spike_stops_the_run_and_names_its_step(run: Run, tmp_path: Path, poison: Poison) -> None:
    poison({7: SPIKE})
    with pytest.raises(DivergedError, match=r"Step 7 met a spike: .*trainer\.spike_factor.*after step 6\."):
        run(WEIGHTED, SAVE_EACH_STEP, "trainer.spike_factor=10")
    assert checkpoint.load(only_run(tmp_path / "outputs") / "checkpoints/last").metrics["step"] == 6


def test_a_spike_passes_where_none_is_watched_for(run: Run, poison: Poison) -> None:
    poison({7: SPIKE})
    summary = run(WEIGHTED)
    assert summary is not None
    assert (summary["steps"], summary["skipped_steps"]) == (12, 0)


def test_weights_that_overflow_in_an_update_are_not_kept(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All figures of the step were finite: the next one would tell, too late for what was saved between."""
    real, steps = loop.train_step, []

    def overflow(model: Any, *arguments: Any) -> torch.Tensor:
        steps.append(real(model, *arguments))
        if len(steps) == 6:
            next(model.parameters()).data[0] *= torch.finfo(torch.float32).max
            next(model.parameters()).data[0] *= torch.finfo(torch.float32).max
        return steps[-1]

    monkeypatch.setattr(loop, "train_step", overflow)
    with pytest.raises(DivergedError, match=r"Step 6 left weights that are not finite.*after step 5\."):
        run(SAVE_EACH_STEP)
    folder = only_run(tmp_path / "outputs")
    assert finite(weights(folder, "last"))
    assert finite(weights(folder, "best"))


@pytest.mark.parametrize("overrides", [[], [SKIP]])
def test_a_validation_that_is_not_finite_stops_the_run_whatever_is_done_with_steps(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    real = learner.build_model

    def brittle(*arguments: Any) -> Any:
        model = real(*arguments)
        forward = model.forward
        monkeypatch.setattr(model, "forward", lambda *given: forward(*given) * (1 if model.training else math.nan))
        return model

    monkeypatch.setattr(learner, "build_model", brittle)
    with pytest.raises(DivergedError, match=r"validation after step 5 gave nan.*last good state .*after step 4\."):
        run(SAVE_EACH_STEP, *overrides)
    assert not (only_run(tmp_path / "outputs") / "checkpoints/best").exists()


# ------------------------------------------------------------------------------------------------- skip


@pytest.mark.usefixtures("short_memory")
@pytest.mark.parametrize("chance", [NAN, OVERFLOW, SPIKE])
def test_a_skipped_step_leaves_weights_and_moments_alone_and_is_told(
    run: Run, tmp_path: Path, poison: Poison, numbers_after: dict[int, dict[str, torch.Tensor]], chance: float
) -> None:
    poison({7: chance})
    summary = run(WEIGHTED, SKIP, "trainer.spike_factor=10", "trainer.log_every=1")
    assert summary is not None
    assert (summary["steps"], summary["skipped_steps"]) == (12, 1)
    assert equal(numbers_after[6], numbers_after[7])
    assert not equal(numbers_after[7], numbers_after[8])
    folder = only_run(tmp_path / "outputs")
    assert log(folder).count("was skipped") == 1
    assert "Step 7 was skipped: it met a " in log(folder)
    rows = {row["step"]: row for row in metrics(folder) if row["split"] == "train"}
    assert rows[7]["skipped_steps"] == 1
    assert "train_ce" not in rows[7], "what was not learned from enters no average"
    assert not any("skipped_steps" in row for step, row in rows.items() if step != 7)


def test_averages_are_over_the_steps_that_were_taken(run: Run, tmp_path: Path, poison: Poison) -> None:
    poison({7: NAN})
    run(WEIGHTED, SKIP, "trainer.log_every=1", outputs="single")
    run(WEIGHTED, SKIP, "trainer.log_every=2", outputs="pairs")
    single, pairs = (
        {row["step"]: row for row in metrics(only_run(tmp_path / name)) if row["split"] == "train"}
        for name in ("single", "pairs")
    )
    assert pairs[8]["train_ce"] == pytest.approx(single[8]["train_ce"])
    assert pairs[8]["skipped_steps"] == 1


@pytest.mark.usefixtures("short_memory")
@pytest.mark.parametrize("cut", [4, 8])
def test_a_killed_run_that_skips_resumes_bit_for_bit(
    run: Run, tmp_path: Path, poison: Poison, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    """The spikes are known by the steps before the cut only, so what is remembered of these must survive it."""
    poison({3: NAN, 6: SPIKE, 7: NAN, 9: SPIKE, 10: OVERFLOW})
    skipping = (WEIGHTED, SKIP, "trainer.spike_factor=10")
    summary = run(*skipping, outputs="undisturbed")
    assert summary is not None
    assert summary["skipped_steps"] == 5
    with monkeypatch.context() as faulty:
        kill_after(cut, faulty)
        with pytest.raises(Killed):
            run(*skipping, SAVE_EACH_STEP, outputs="cut")
    resumed = run(*skipping, SAVE_EACH_STEP, outputs="cut")
    assert resumed is not None
    assert resumed["skipped_steps"] == 5
    assert_equal_runs(only_run(tmp_path / "undisturbed"), only_run(tmp_path / "cut"))


def test_nothing_but_bad_batches_ends_the_run_and_names_the_last_good_state(
    run: Run, tmp_path: Path, poison: Poison
) -> None:
    poison(dict.fromkeys(range(4, 99), NAN))
    with pytest.raises(DivergedError, match=r"Steps 4 to 23 were all skipped; .*The last good state is .*last, after"):
        run(WEIGHTED, SKIP, SAVE_EACH_STEP, "trainer.max_steps=99", "trainer.eval_every=99")
    assert finite(weights(only_run(tmp_path / "outputs"), "last"))


def test_skipping_changes_nothing_where_no_step_is_bad(run: Run, tmp_path: Path) -> None:
    run(outputs="stop")
    run(SKIP, outputs="skip")
    one, other = only_run(tmp_path / "stop"), only_run(tmp_path / "skip")
    assert one.relative_to(tmp_path / "stop") == other.relative_to(tmp_path / "skip")
    assert_equal_runs(one, other)


class Elsewhere(Alone):
    """The group of a process that measures all steps well, while rank 0 has met a NaN in the seventh."""

    num_judged = 0

    def told(self, make: Any) -> Any:
        made = make()
        if not (isinstance(made, list) and len(made) == len(MEASURED)):
            return made
        self.num_judged += 1
        return [math.nan] * len(made) if self.num_judged == 7 else made


def test_all_processes_of_a_group_judge_a_step_by_the_figures_of_rank_0(tmp_path: Path, cache: Path) -> None:
    """Those of others may differ by rounding, and a verdict must not."""
    command = [*TINY_RUN, SKIP, f"paths.outputs={tmp_path}", f"paths.cache={cache}"]
    summary = run_session(compose_config(command), command, Console(quiet=True), Elsewhere())
    assert summary is not None
    assert summary["skipped_steps"] == 1
    assert "Step 7 was skipped" in log(only_run(tmp_path))


# ------------------------------------------------------------------------------------------------- fp16


@pytest.mark.usefixtures("fp16")
def test_fp16_skips_a_gradient_that_overflows_lowers_the_scale_and_goes_on(
    run: Run, tmp_path: Path, poison: Poison, numbers_after: dict[int, dict[str, torch.Tensor]]
) -> None:
    poison({7: GRADIENT_OVERFLOW})
    summary = run(WEIGHTED, ANYWHERE, "trainer.log_every=1")
    assert summary is not None
    assert (summary["steps"], summary["skipped_steps"]) == (12, 1)
    assert equal(numbers_after[6], numbers_after[7])
    assert not equal(numbers_after[7], numbers_after[8])
    folder = only_run(tmp_path / "outputs")
    assert "Step 7 was skipped: it met " in log(folder)
    assert "; the loss scale is now 32768." in log(folder)
    saved = checkpoint.load(folder / "checkpoints/last").training
    assert saved is not None
    assert saved.values["scaler"]["scale"] == 32768


@pytest.mark.usefixtures("fp16")
def test_fp16_does_not_explain_a_loss_that_is_not_finite(run: Run, poison: Poison) -> None:
    poison({7: NAN})
    with pytest.raises(DivergedError, match=r"Step 7 met .*loss nan"):
        run(WEIGHTED, ANYWHERE)


@pytest.mark.usefixtures("fp16")
def test_a_collapsed_loss_scale_ends_the_run_and_says_so(run: Run, tmp_path: Path, poison: Poison) -> None:
    """From 65536, the 17th overflow in a row takes the scale below 1."""
    poison(dict.fromkeys(range(5, 99), GRADIENT_OVERFLOW))
    with pytest.raises(
        DivergedError, match=r"loss scale of fp16 has collapsed to 0\.5 at step 21.*bf16.*last good state"
    ):
        run(WEIGHTED, ANYWHERE, SAVE_EACH_STEP, "trainer.max_steps=99", "trainer.eval_every=99")
    assert finite(weights(only_run(tmp_path / "outputs"), "last"))


# ------------------------------------------------------------------------------------------ determinism


@pytest.mark.usefixtures("determinism")
def test_deterministic_runs_are_equal_and_on_the_cpu_all_runs_are(run: Run, tmp_path: Path) -> None:
    kind = "model/separation=posterior_js"
    for name in ("one", "other"):
        run(kind, "trainer.deterministic=true", outputs=name)
    run(kind, outputs="plain")
    assert_equal_runs(only_run(tmp_path / "one"), only_run(tmp_path / "other"))
    assert_equal_runs(only_run(tmp_path / "one"), only_run(tmp_path / "plain"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.usefixtures("determinism")
@pytest.mark.parametrize("overrides", [["model=vanilla"], ["model/separation=js"], ["model/separation=posterior_js"]])
def test_deterministic_runs_are_equal_on_cuda(run: Run, tmp_path: Path, overrides: list[str]) -> None:
    large = ("scale=mini", "data.num_train=600", "trainer.max_steps=40", "trainer.batch_size=32")
    for name in ("one", "other"):
        run(*large, *overrides, "trainer.device=cuda", "trainer.deterministic=true", outputs=name)
    assert_equal_runs(only_run(tmp_path / "one"), only_run(tmp_path / "other"))


@pytest.mark.usefixtures("determinism")
def test_an_operation_that_may_not_repeat_is_refused_by_the_name_of_the_setting(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = learner.build_model

    def careless(*arguments: Any) -> Any:
        model = real(*arguments)
        model.register_forward_hook(
            lambda *_: torch.zeros(2).put_(torch.tensor([0, 0]), torch.ones(2)) and None  # two writers of one place
        )
        return model

    monkeypatch.setattr(learner, "build_model", careless)
    with pytest.raises(ConfigError, match=r"trainer\.deterministic=true.*PyTorch says: put_ "):
        run("trainer.deterministic=true")
    assert (read_object(only_run(tmp_path / "outputs") / "status.json") or {})["state"] == "failed"


# ------------------------------------------------------------------------------------------------ seeds


def compare_seeds(seen: Callable[[str], Any], run: Run, *overrides: str) -> tuple[Any, Any, Any]:
    """Return what two runs of one seed and one of another seed have shown."""
    found = []
    for seed, outputs in ((1, "one"), (1, "same"), (2, "two")):
        run(f"seed={seed}", *overrides, outputs=outputs)
        found.append(seen(outputs))
    return found[0], found[1], found[2]


def test_seeds_decide_the_initial_weights(run: Run, tmp_path: Path) -> None:
    """A session without time saves what it begins with."""
    one, same, two = compare_seeds(
        lambda outputs: weights(only_run(tmp_path / outputs)), run, "trainer.session_minutes=1e-9"
    )
    assert equal(one, same)
    drawn = [name for name in one if one[name].std() > 0 and "table" not in name]
    assert drawn
    assert not [name for name in drawn if torch.equal(one[name], two[name])]


def test_seeds_decide_the_order_of_the_windows(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[list[int]] = []
    real = loop.batches

    def recorded(*arguments: Any) -> Iterator[Any]:
        orders.append([])
        for batch, cursor in real(*arguments):
            orders[-1].extend(batch.review_B.tolist())
            yield batch, cursor

    monkeypatch.setattr(loop, "batches", recorded)
    one, same, two = compare_seeds(lambda _: orders[-1], run)
    assert one == same
    assert one != two
    assert sorted(one[:60]) == sorted(two[:60]), "an epoch has every window once, whatever its order"


def test_seeds_decide_what_is_dropped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[torch.Tensor] = []
    real = dropout.draw_keep_mask

    def recorded(*arguments: Any) -> torch.Tensor:
        masks.append(real(*arguments))
        return masks[-1]

    monkeypatch.setattr(dropout, "draw_keep_mask", recorded)

    def taken(_: str) -> list[torch.Tensor]:
        drawn = [mask.flatten() for mask in masks]
        masks.clear()
        return drawn

    one, same, two = compare_seeds(taken, run, "trainer.max_steps=2")
    assert one
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    for a, b in zip(one, two, strict=True):
        num_shared = min(len(a), len(b))  # batches of other windows have another width
        assert not torch.equal(a[:num_shared], b[:num_shared])
