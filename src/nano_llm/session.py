"""One session of a run: data, model, objective, training, evaluation, and the folder that keeps them.

Of several processes that train one model, rank 0 leads: it holds the folder, prints, scores, and hears signals. The
others follow: they neither read nor write the folder.
"""

import math
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from signal import Signals
from typing import Any

from rich.console import Console

from nano_llm import checkpoint
from nano_llm.agreement import demand_agreement
from nano_llm.assessment import assess
from nano_llm.checkpoint import BEST, LAST, PREVIOUS, TrainingState
from nano_llm.config.identity import arm_id
from nano_llm.config.schema import Config, Suite
from nano_llm.data.identity import shaping_settings
from nano_llm.data.prepare import PreparedData, prepare
from nano_llm.data.template import Template
from nano_llm.errors import (
    CheckpointError,
    DamagedCheckpointError,
    DataError,
    DivergedError,
    FullDiskError,
    NanoLLMError,
)
from nano_llm.evaluation.likelihood import Likelihood, likelihood
from nano_llm.evaluation.records import records_folder
from nano_llm.files import explained, explained_writes
from nano_llm.identity import Located, Summary, finished_summary, identify, starts_anew
from nano_llm.interruption import Interrupted, Interruption
from nano_llm.learner import Learner, follow
from nano_llm.model.accounting import num_parameters
from nano_llm.model.language_model import LanguageModel
from nano_llm.tracking.console import ConsoleProgress
from nano_llm.tracking.run_folder import RunFolder
from nano_llm.tracking.tracker import Start
from nano_llm.tracking.trackers import Trackers
from nano_llm.training.group import ALONE, Group
from nano_llm.training.loop import Metrics
from nano_llm.training.machine import Machine, explained_refusals
from nano_llm.training.state import State

SESSION_MINUTES = "session_minutes"
"""Reason of a run that has stopped because ``trainer.session_minutes`` were over."""

COVERING = "validation_covering"
"""The windows that score every byte of the validation reviews, where ``validation`` has the reference's."""


def run_session(
    config: Config,
    overrides: Sequence[str],
    console: Console,
    group: Group = ALONE,
    *,
    heeds_second: bool = True,
) -> Summary | None:
    """Train a run to its end, or go on where it was left, or report that it is done.

    Args:
        config: The run.
        overrides: As typed, to be kept in its folder.
        console: Shows how it goes.
        group: The processes that train the model, this one among them.
        heeds_second: Whether a second signal ends a run that trains on the spot, without a save; never with several
            processes.

    Returns:
        The run's summary, as in its summary.json; None when it stopped at ``trainer.session_minutes``, and on all
        processes but rank 0.

    Raises:
        NanoLLMError: What the user can mend; the run's status says `failed` and why.
        SystemExit: Status 130 or 143 after SIGINT or SIGTERM; the run can resume.
    """
    located = identify(config, group.place)
    demand_agreement(located, group)
    group.use(located.machine.device)
    if group.place.rank:
        _follow(located, group)
        return None
    return _lead(located, overrides, console, group, heeds_second and group.place.size == 1)


def _follow(located: Located, group: Group) -> None:
    """Train beside rank 0 until it says that training is over; write nothing, say nothing.

    Raises:
        SystemExit: As for rank 0.
    """
    config, machine, _, _ = located
    is_finished = group.told(lambda: False)  # what rank 0 says
    if is_finished:
        return
    data = group.first_here(lambda: _prepare(located, lambda _: None))
    try:
        with explained_refusals():
            reason = follow(config, data, machine, group)
    except Interrupted as interrupted:
        reason = interrupted.reason
    _exit_after_signal(reason)


def _lead(
    located: Located, overrides: Sequence[str], console: Console, group: Group, heeds_second: bool
) -> Summary | None:
    """Carry a run out, alone or for all processes of a group."""
    _, _, run_id, path = located
    with (
        RunFolder(path, console) as folder,
        # They end last: whether an upload comes through changes nothing of what has become of the run.
        Trackers(folder) as trackers,
        Interruption(heeds_second=heeds_second) as interruption,
        group.last_words(lambda error: folder.fail(str(error), details=str(error))),
    ):
        summary = finished_summary(run_id, path)
        group.told(lambda: summary is not None)
        if summary is not None:
            console.print("This run is finished already; another seed or setting makes a new one.")
            console.print("\n".join(summary_lines(summary, path)), highlight=False, markup=False, soft_wrap=True)
            return summary
        try:
            reason, summary = _train_and_score(located, overrides, console, folder, trackers, interruption, group)
            interruption.settle()
        except Interrupted as interrupted:
            interruption.settle()
            reason = interrupted.reason
        except NanoLLMError as error:
            # A launcher asks those that are left to end; they say first why.
            interruption.settle()
            folder.fail(str(error), details=str(error))
            raise
        except OSError as error:
            interruption.settle()
            told = explained(error)
            folder.fail(str(told), details=traceback.format_exc())
            raise told from error
        except Exception as error:
            interruption.settle()
            folder.fail(f"{type(error).__name__}: {error}", details=traceback.format_exc())
            raise
        if reason is None:
            return summary
        folder.set_status("stopped", reason=reason)
        folder.say(f"Stopped ({reason}); the same command goes on from here.")
    _exit_after_signal(reason)
    return None


def _exit_after_signal(reason: str | None) -> None:
    """End the process as a signal asks for, if one is why the run has stopped."""
    if reason is not None and reason in Signals.__members__:
        raise SystemExit(Interrupted(reason).exit_status)


def _train_and_score(
    located: Located,
    overrides: Sequence[str],
    console: Console,
    folder: RunFolder,
    trackers: Trackers,
    interruption: Interruption,
    group: Group,
) -> tuple[str | None, Summary | None]:
    """Return why the run stopped early, or None and its summary."""
    config, machine, run_id, path = located
    try:
        folder.say(f"Run {path}")
        if starts_anew(path):
            folder.say("This run was finished, but its best checkpoint is gone: it starts anew.")
            shutil.rmtree(path / "checkpoints", ignore_errors=True)
            # Last, for it is what tells to start anew: without it, what is trained from here on is gone on with.
            (path / "summary.json").unlink(missing_ok=True)
        folder.set_status("running", phase="data")
        data = group.first_here(lambda: _prepare(located, folder.say))
        folder.describe(config, overrides, run_id, data.record, group.place.size)
        session = Session(config, run_id, data, machine, folder, trackers, console, interruption, group)
        with explained_refusals():
            reason = session.train()
            group.dismiss()
            return (None, session.finish()) if reason is None else (reason, None)
    except Interrupted as interrupted:
        interruption.settle()
        # The signal may be that of a launcher which has lost another process.
        group.demand_whole()
        return interrupted.reason, None


def _prepare(located: Located, say: Callable[[str], None]) -> PreparedData:
    """Return the data that the run was named by.

    Raises:
        DataError: They are missing or unfit, or others by now.
    """
    config = located.config
    cache = Path(config.paths.cache).expanduser()
    data = prepare(config.data, config.protocol, config.model.num_outcomes, cache, say)
    if arm_id(config, data.fingerprint) != located.run_id:
        raise DataError(
            f"The files of data={config.data.name} have changed since the run {located.run_id} was named by them. "
            "Where they are being copied or written still, wait for the end; then the same command begins a run of "
            "the new ones."
        )
    return data


class Session:
    """Training and scoring of one run; hears the loop and keeps what it tells."""

    def __init__(
        self,
        config: Config,
        run_id: str,
        data: PreparedData,
        machine: Machine,
        folder: RunFolder,
        trackers: Trackers,
        console: Console,
        interruption: Interruption,
        group: Group,
    ) -> None:
        self._config, self._run_id, self._data, self._machine = config, run_id, data, machine
        self._folder, self._trackers, self._interruption, self._group = folder, trackers, interruption, group
        self._began = time.monotonic()
        self._checkpoints = folder.path / "checkpoints"
        self._progress = ConsoleProgress(console, config.name)
        self._learner = Learner(config, data, machine, group, self._validate)
        self._model, self._objective = self._learner.model, self._learner.objective
        self._training = self._learner.training
        with explained_writes(self._checkpoints):
            self._checkpoints.mkdir(exist_ok=True)
        checkpoint.end_exchanges(self._checkpoints)
        self._take_up()
        state = self._training.state
        folder.open_metrics(state.spent.steps, state.untold)
        trackers.begin(Start(config, run_id, state.spent.steps))
        folder.say(
            f"{num_parameters(self._model):,} parameters, {len(data.windows['train']):,} training windows, "
            f"{_devices(group.place.size, machine)}, {machine.precision.name}"
        )

    # ------------------------------------------------------------------------------------- stages

    def train(self) -> str | None:
        """Run the loop; return None when training is finished, else why it stopped."""
        self._interruption.patient = True
        try:
            with self._progress:
                return self._training.run(self)
        except DivergedError as error:
            raise DivergedError(f"{error} {self._last_good_state()}") from error
        finally:
            self._interruption.patient = False

    def finish(self) -> Summary:
        """Score the best checkpoint once on what selected nothing, and sum up."""
        best, validated = self._load_best()
        model = best.model().to(self._machine.device)
        figures: dict[str, Any] = {"train_ce": self._training.state.train_ce, **validated}
        trainer = self._config.trainer
        if COVERING in self._data.windows:
            figures["val_bpb"] = self._score(model, COVERING, trainer.eval_reviews).bits_per_byte
        if "test" in self._data.windows and trainer.test_reviews != 0:
            test = self._score(model, "test", trainer.test_reviews)
            figures |= test.metrics("test")
        self._folder.write_evaluation("likelihood", {"step": best.metrics["step"], "metrics": figures})
        if trainer.evaluation is not Suite.none:
            figures |= self._assess(best, trainer.evaluation)
        summary = self._summary(best.metrics["step"], figures)
        # What follows is either done or not: it must not be told as stopped half-way.
        self._interruption.settle()
        # Of no more use: what is finished is not gone on with.
        checkpoint.remove(self._checkpoints / PREVIOUS)
        self._folder.finish(summary)
        self._folder.say("\n".join(summary_lines(summary, self._folder.path)))
        return summary

    def _load_best(self) -> tuple[checkpoint.Checkpoint, Metrics]:
        """Return the best checkpoint and its figures of validation.

        Raises:
            CheckpointError: It is damaged, or not one of this run.
        """
        try:
            best = checkpoint.load(self._checkpoints / BEST)
            self._demand_own(best)
            return best, _validation_figures(best)
        except CheckpointError as error:
            raise type(error)(
                f"{error} The run's figures are those of `{BEST}`: to train it again from step 0, delete "
                f"{self._checkpoints}."
            ) from error

    def _assess(self, best: checkpoint.Checkpoint, suite: Suite) -> dict[str, float]:
        """Put the best checkpoint through an evaluation suite; records go to the run's folder.

        Figures that are not finite, such as a ratio to nothing, are in the records only.
        """
        found = assess(
            best,
            self._data,
            self._machine,
            suite,
            records_folder(self._folder.path, BEST, suite),
            say=self._folder.log,
            on_batch=self._between_batches,
        )
        return {name: interval.value for name, interval in found.figures.items() if math.isfinite(interval.value)}

    # --------------------------------------------------------------------------- hearing the loop

    def on_step(self, state: State, metrics: Metrics, share: float) -> None:
        """Write and show a log row."""
        self._record("train", metrics)
        self._progress.step(state, metrics, share)

    def on_skip(self, state: State, why: str) -> None:
        """Say which step was skipped, and why."""
        self._folder.say(f"Step {state.spent.steps} was skipped: it {why}.")

    def on_validation(self, state: State, metrics: Metrics, is_best: bool) -> None:
        """Write and show a validation, and keep the weights when they are the best so far."""
        self._record("validation", metrics)
        self._progress.validation(state, metrics, is_best)
        if is_best:
            self._save(BEST, {"step": state.spent.steps, "validation": metrics})

    def on_save(self, state: State) -> None:
        """Keep everything that resuming needs."""
        self._folder.sync_metrics()
        self._save(LAST, {"step": state.spent.steps}, self._learner.state(), PREVIOUS)

    def stop_reason(self) -> str | None:
        """Stop on a signal, or when the session's time is over.

        Raises:
            GroupError: Another process has failed; a launcher sends a signal then, too.
        """
        self._group.demand_whole()
        self._folder.beat("training", **self._position())
        limit = self._config.trainer.session_minutes
        if limit is not None and time.monotonic() - self._began >= 60 * limit:
            return self._interruption.reason or SESSION_MINUTES
        return self._interruption.reason

    # ------------------------------------------------------------------------------------ helpers

    def _record(self, split: str, metrics: Metrics) -> None:
        row = {"split": split, **self._position(), **metrics}
        self._folder.append_metrics(row)
        self._trackers.log(row)

    def _take_up(self) -> None:
        """Go on from the newest checkpoint that is whole; where none was saved, begin, and say so if it is again."""
        loaded = checkpoint.load_newest(self._checkpoints, self._folder.say)
        best_step = None if loaded is None else self._best_step()
        try:
            if loaded is not None:
                self._demand_own(loaded)
                if best_step is None:
                    loaded = self._without_best(loaded)
            self._learner.take_up(loaded, best_step)
        except CheckpointError as error:
            raise CheckpointError(
                f"The run cannot go on from {self._checkpoints / LAST}. {error} Restore it from a copy, or delete "
                f"{self._checkpoints} to start again from step 0."
            ) from error
        if loaded is None:
            if (step := self._folder.logged_step()) is not None:
                self._folder.say(
                    f"No checkpoint was saved, or it was removed: starting at step 0, not after step {step}"
                )
            return
        state = self._training.state
        self._folder.say(f"Resuming after step {state.spent.steps}")
        if best_step is not None and best_step > state.evaluated_step:
            self._folder.say(
                f"The checkpoint `{BEST}` is of step {best_step}, which is to be taken again: the next validation "
                "replaces it."
            )

    def _best_step(self) -> int | None:
        """Return the step of the best checkpoint; None where it is missing or damaged.

        Raises:
            CheckpointError: It is sound, but none that this run can end with: it is told now, not after training.
        """
        try:
            best, _ = self._load_best()
        except DamagedCheckpointError:
            return None
        step: int = best.metrics["step"]
        return step

    def _without_best(self, loaded: checkpoint.Checkpoint) -> checkpoint.Checkpoint:
        """Return what the run goes on from with the next validation as its best one, and say so if that is a loss.

        Where training was over already none is taken, and the run cannot end without its best checkpoint.
        """
        assert loaded.training is not None, "load_newest demands it"
        state = State.from_json(loaded.training.values.get("loop"))
        if state.best_value is None:
            return loaded
        self._folder.say(
            f"The checkpoint `{BEST}` is missing or damaged; it had {self._config.protocol.selection.name} "
            f"{state.best_value:.4f}. The result of this run will be the best of the validations still to come."
        )
        state.best_value = None
        training = TrainingState({**loaded.training.values, "loop": state.to_json()}, loaded.training.tensors)
        return replace(loaded, training=training)

    def _demand_own(self, found: checkpoint.Checkpoint) -> None:
        """Make sure that a checkpoint in this run's folder was saved by this run.

        Raises:
            CheckpointError: Its settings, its data's or its tokenizer are others.
        """
        if _naming(found.config) != _naming(self._config) or (
            found.tokenizer.to_json() != self._data.tokenizer.to_json()
        ):
            raise CheckpointError(
                f"It was saved by another run: {found.config.name}, seed {found.config.seed}, with other settings, "
                "data or tokenizer than this one."
            )

    def _validate(self) -> Metrics:
        scored = self._score(self._model, "validation", self._config.trainer.eval_reviews)
        figures = scored.metrics("val")
        if COVERING in self._data.windows:
            # Windows of the reference lose tails, so their nats are not those of all the bytes.
            del figures["val_bpb"]
        return figures

    def _last_good_state(self) -> str:
        for folder in (self._checkpoints / LAST, self._checkpoints / PREVIOUS):
            if (metrics := checkpoint.metrics_if_whole(folder)) is not None:
                return f"The last good state is {folder}, after step {metrics.get('step', '?')}."
        return "No checkpoint had been saved yet."

    def _score(self, model: LanguageModel, split: str, num_reviews: int | None) -> Likelihood:
        return likelihood(
            model,
            self._objective,
            self._data.windows[split],
            self._data.splits[split.removesuffix("_covering")].num_bytes_R,
            self._machine,
            batch_size=self._config.trainer.eval_batch_size,
            num_reviews=num_reviews,
            on_batch=self._between_batches,
        )

    def _between_batches(self) -> None:
        """Keep the heartbeat while scoring, and let a signal or the failure of another process through."""
        self._group.demand_whole()
        self._folder.beat("evaluation", **self._position())
        self._interruption.raise_if_requested()

    def _save(
        self, name: str, metrics: dict[str, Any], training: TrainingState | None = None, spare: str | None = None
    ) -> None:
        def save() -> None:
            checkpoint.save(
                self._checkpoints / name,
                config=self._config,
                tokenizer=self._data.tokenizer,
                model=self._model,
                metrics=metrics,
                training=training,
                spare=None if spare is None else self._checkpoints / spare,
            )

        try:
            save()
        except FullDiskError as error:
            if not self._give_up_spare():
                raise
            save()
            self._folder.say(f"{error} The checkpoint `{PREVIOUS}` was removed to make room for `{name}`.")

    def _give_up_spare(self) -> bool:
        """Remove `previous`, where `last` is whole without it; tell whether there is more space now."""
        previous = self._checkpoints / PREVIOUS
        if not checkpoint.exists(previous) or checkpoint.metrics_if_whole(self._checkpoints / LAST) is None:
            return False
        checkpoint.remove(previous)
        return True

    def _position(self) -> dict[str, Any]:
        spent = self._training.state.spent
        return {
            "step": spent.steps,
            "tokens": spent.tokens,
            "training_seconds": spent.seconds,
            "share": min(1.0, self._training.share),
        }

    def _summary(self, best_step: int, figures: dict[str, Any]) -> Summary:
        spent = self._training.state.spent
        return {
            "id": self._run_id,
            "name": self._config.name,
            "seed": self._config.seed,
            "parameters": num_parameters(self._model),
            "best_step": best_step,
            "metrics": figures,
            "steps": spent.steps,
            "skipped_steps": self._training.state.num_skipped,
            "ended_by": self._training.ended_by,
            "tokens": spent.tokens,
            "epochs": self._training.epochs,
            "training_seconds": spent.seconds,
            "tokens_per_second": spent.tokens / spent.seconds,
            "device": self._machine.name,
            "num_processes": self._group.place.size,
        }


def _devices(number: int, machine: Machine) -> str:
    return machine.name if number == 1 else f"{number} x {machine.name}"


def _naming(config: Config) -> tuple[str, int, dict[str, Any]]:
    """Return what tells runs apart, the content of a local corpus aside."""
    template = Template.of(config.data, config.model.num_outcomes)
    return arm_id(config, ""), config.seed, shaping_settings(config.data, config.protocol, template)


def _validation_figures(best: checkpoint.Checkpoint) -> Metrics:
    """Return the figures of the validation that made a checkpoint the best one.

    Raises:
        CheckpointError: It does not tell them, or its step.
    """
    step, figures = best.metrics.get("step"), best.metrics.get("validation")
    if type(step) is not int or not isinstance(figures, dict) or best.config.protocol.selection.name not in figures:
        raise CheckpointError(f"The metrics.json of `{BEST}` does not tell the step and the figures of a validation.")
    if wrong := [name for name, value in figures.items() if type(value) not in (int, float)]:
        raise CheckpointError(f"The metrics.json of `{BEST}` has no number for {wrong[0]:.80}.")
    return figures


def summary_lines(summary: Summary, path: Path) -> list[str]:
    """Write a summary for a person: figures first, then where things are."""
    named = [f"{name} {value:.4f}" for name, value in summary["metrics"].items() if isinstance(value, float)]
    return [
        f"Best step {summary['best_step']} of {summary['steps']}: " + "  ".join(named),
        f"{summary['tokens']:,} tokens in {summary['training_seconds'] / 60:.1f} minutes of training "
        f"({summary['tokens_per_second']:,.0f} tokens/s), ended by trainer.{summary['ended_by']}",
        f"Everything is in {path}",
    ]
