"""The training loop: step, and when due validate, save, stop. It prints nothing and writes nothing."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from nano_llm.config.schema import Config
from nano_llm.data.batches import Batch, Cursor, batches
from nano_llm.data.windows import Windows
from nano_llm.errors import CheckpointError, DivergedError
from nano_llm.interruption import Interrupted
from nano_llm.objective import Objective
from nano_llm.training.budget import budget_share, budget_shares
from nano_llm.training.group import ALONE, Group
from nano_llm.training.machine import Machine
from nano_llm.training.optimizer import Optimizer
from nano_llm.training.schedule import lr_factor
from nano_llm.training.state import State, StepFigures
from nano_llm.training.step import train_step
from nano_llm.training.watch import SMALLER_OR_FINER, Fault, Watch

Metrics = dict[str, float]


class Listener(Protocol):
    """Who hears of progress; all reading of the device's figures has happened by then."""

    def on_step(self, state: State, metrics: Metrics, share: float) -> None:
        """A log row is due; ``share`` is the used share of the budget."""

    def on_skip(self, state: State, why: str) -> None:
        """The update of the step just spent was left out."""

    def on_validation(self, state: State, metrics: Metrics, is_best: bool) -> None:
        """The model was validated; when ``is_best``, its weights are to be kept."""

    def on_save(self, state: State) -> None:
        """The state is to be kept so that training can resume from here."""

    def stop_reason(self) -> str | None:
        """Why to stop after this step, resumable; None to go on. Rank 0 of a group is asked for all."""


class _Unfetched(NamedTuple):
    """A step whose figures are still on the device."""

    tokens: int
    seconds: float
    lr_factor: float
    skipped: bool
    measured: Tensor


class Training:
    """Model, optimizer and position of one run, and the loop over them.

    Weights, optimizer and `state` are the same on all processes of a group at all times.
    """

    def __init__(
        self,
        config: Config,
        model: nn.Module,
        objective: Objective,
        windows: Windows,
        pairs: Windows | None,
        machine: Machine,
        validate: Callable[[], Metrics],
        flops_per_token: float,
        group: Group = ALONE,
    ) -> None:
        """Prepare to train.

        Args:
            config: The run.
            model: On the machine's device.
            objective: What is minimised.
            windows: Training windows.
            pairs: Windows of minimal pairs that batches are to carry; None: none.
            machine: Device and arithmetic.
            validate: Scores the model; must contain the figure named by ``protocol.selection``. Rank 0 of a group
                does so for all.
            flops_per_token: Of one forward and backward pass, for the utilisation figure.
            group: The processes that train the model, this one among them.
        """
        self.config, self.model, self.objective, self.machine = config, model, objective, machine
        self.optimizer = Optimizer(config.optimizer, model, objective)
        self.scaler = machine.scaler()
        self.state = State()
        self._watch = Watch(config.trainer, self.scaler)
        self._fault: Fault | None = None  # of the step at hand, for which it is skipped
        self._validate = validate
        self._flops_per_token = flops_per_token
        self._group = group
        self._saved_at = time.monotonic()
        self._unfetched: list[_Unfetched] = []
        trainer = config.trainer
        if trainer.overfit_batches is not None:
            windows = windows.first(trainer.overfit_batches * trainer.batch_size * trainer.num_micro_batches)
        self._windows, self._pairs = windows, pairs

    def run(self, listener: Listener) -> str | None:
        """Train until the budget is used up, patience ends, or the listener stops it.

        Returns:
            None when training is finished, else the reason why it stopped early and can resume.

        Raises:
            DivergedError: A step was bad and not to be skipped, or weights or a validation were not finite; no state
                after that was saved.
        """
        stream = self._batches()
        self._saved_at = time.monotonic()
        while True:
            finished = self.share >= 1 or self._out_of_patience
            if finished:
                self._log(listener)
            if self._validation_due or (finished and self.state.evaluated_step != self.state.spent.steps):
                self._validate_now(listener)
                if self._out_of_patience and not finished:
                    finished = True
                    self._log(listener)
            stop, save_due = (None, True) if finished else self._group.told(lambda: self._orders(listener))
            if stop or save_due:
                self._fetch()
                self._check_weights()
                listener.on_save(self.state)
                self._saved_at = time.monotonic()
            if finished or stop:
                return stop
            self._step(stream)
            if self._fault is not None:
                self._skip(self._fault, listener)
            if self.state.spent.steps % self.config.trainer.log_every == 0:
                self._log(listener)

    def _orders(self, listener: Listener) -> tuple[str | None, bool]:
        """Return why to stop, if there is a reason, and whether to save: what hangs on one process's clock and ears."""
        minutes = (time.monotonic() - self._saved_at) / 60
        return listener.stop_reason(), minutes >= self.config.trainer.checkpoint_minutes

    @property
    def share(self) -> float:
        """Used share of the budget; training ends at 1."""
        return budget_share(self.config.trainer, self.state.spent, len(self._windows))

    @property
    def ended_by(self) -> str:
        """The setting that ended training, or is nearest to ending it."""
        if self._out_of_patience:
            return "patience"
        shares = budget_shares(self.config.trainer, self.state.spent, len(self._windows))
        return max(shares, key=shares.__getitem__)

    @property
    def epochs(self) -> float:
        """Passes over the training windows so far."""
        return self.state.spent.windows / len(self._windows)

    @property
    def _out_of_patience(self) -> bool:
        patience = self.config.trainer.patience
        return patience is not None and self.state.num_worse >= patience

    @property
    def _validation_due(self) -> bool:
        steps, every = self.state.spent.steps, self.config.trainer.eval_every
        if steps == 0 or self.state.evaluated_step == steps:
            return False
        return self.state.epoch > self.state.evaluated_epoch if every is None else steps % every == 0

    def _batches(self) -> Iterator[tuple[Batch, Cursor]]:
        start = Cursor(self.state.epoch, self.state.position)
        # A compiled model wants one shape; elsewhere a batch is as wide as its longest row.
        pad_to = self.config.data.window_length - 1 if self.config.trainer.compile else None
        return batches(self._windows, self.config.trainer.batch_size, self.config.seed, start, pad_to, self._pairs)

    def _step(self, stream: Iterator[tuple[Batch, Cursor]]) -> None:
        """Take one step and note what it used up."""
        began = time.perf_counter()
        state, spent = self.state, self.state.spent
        micro_batches = []
        for _ in range(self.config.trainer.num_micro_batches):
            batch, cursor = next(stream)
            micro_batches.append(batch)
        factor = lr_factor(self.config.schedule, spent.steps, self.share, self.config.trainer.max_epochs, state.epoch)
        self.model.train()
        measured = train_step(
            self.model,
            self.objective,
            self.optimizer,
            self.scaler,
            micro_batches,
            factor,
            self.machine,
            self._group,
            self._accepts,
        )
        tokens = sum(batch.num_targets for batch in micro_batches)
        spent.steps += 1
        spent.tokens += tokens
        spent.windows += sum(batch.num_windows for batch in micro_batches)
        state.epoch, state.position = cursor.epoch, cursor.position
        seconds = self._group.told(lambda: time.perf_counter() - began)
        spent.seconds += seconds
        self._unfetched.append(_Unfetched(tokens, seconds, factor, self._fault is not None, measured))

    def _accepts(self, measured: Tensor, overflowed: bool) -> bool:
        """Judge a step before its update where it may be skipped, and wait for the device; else `_fetch` judges it."""
        if self._watch.may_skip:
            # Each process of a group has a norm of its own, equal up to rounding; the verdict must be one.
            figures = self._group.told(measured.tolist)
            self._fault = self._watch.judge(self.state, self.state.spent.steps + 1, figures, overflowed)
        return self._fault is None

    def _skip(self, fault: Fault, listener: Listener) -> None:
        """Count the skipped step, and tell."""
        scale = f"; the loss scale is now {self.scaler.get_scale():g}" if self.scaler.is_enabled() else ""
        listener.on_skip(self.state, f"{fault.text}{scale}")
        self._watch.count_skip(self.state, self.state.spent.steps, fault)

    def _fetch(self) -> None:
        """Bring the measured figures of the steps since the last fetch to the host, and judge those not judged yet.

        Raises:
            DivergedError: A step was bad.
        """
        if not self._unfetched:
            return
        rows, waited = self._group.told(self._rows)
        self.state.spent.seconds += waited * len(rows)
        first = self.state.spent.steps - len(rows) + 1
        for i, (step, row) in enumerate(zip(self._unfetched, rows, strict=True)):
            if not self._watch.may_skip:
                self._watch.judge(self.state, first + i, row)
            loss, ce, separation, count, norm = [0.0] * len(row) if step.skipped else row
            self.state.pending.append(
                StepFigures(
                    step.tokens,
                    step.seconds + waited,
                    step.lr_factor,
                    loss,
                    ce,
                    separation,
                    count,
                    None if step.skipped else norm,
                )
            )
        self._unfetched.clear()

    def _rows(self) -> tuple[list[list[float]], float]:
        """Return what the unfetched steps have measured, and the seconds that each was waited for here.

        On a GPU their work is waited for at this place, not where it was launched.
        """
        began = time.perf_counter()
        rows = torch.stack([step.measured for step in self._unfetched]).tolist()
        return rows, (time.perf_counter() - began) / len(rows)

    def _check_weights(self) -> None:
        """Make sure that what is about to be kept can be gone on from: a last update may have overflowed unseen.

        Raises:
            DivergedError: A weight is not finite.
        """
        finite = torch.stack([parameter.isfinite().all() for parameter in self.optimizer.parameters])
        if not finite.all():
            raise DivergedError(f"Step {self.state.spent.steps} left weights that are not finite. {SMALLER_OR_FINER}.")

    def _log(self, listener: Listener) -> None:
        """Average what was measured since the last row, tokens weighing equally, and tell."""
        self._fetch()
        pending = self.state.pending
        if not pending:
            return
        row: Metrics = {
            "lr": pending[-1].lr_factor * self.config.optimizer.lr,
            "tokens_per_second": sum(step.tokens for step in pending) / sum(step.seconds for step in pending),
        }
        taken = [step for step in pending if step.grad_norm is not None]
        if taken:
            row |= self._averages(taken)
            self.state.train_ce = row["train_ce"]
        if len(taken) < len(pending):
            row["skipped_steps"] = len(pending) - len(taken)
        if self.machine.peak_flops is not None:
            peak_flops = self.machine.peak_flops * self._group.place.size
            row["mfu"] = self._flops_per_token * row["tokens_per_second"] / peak_flops
        pending.clear()
        listener.on_step(self.state, row, self.share)

    def _averages(self, taken: list[StepFigures]) -> Metrics:
        tokens = sum(step.tokens for step in taken)
        averages = {
            "train_loss": sum(step.loss * step.tokens for step in taken) / tokens,
            "train_ce": sum(step.ce for step in taken) / tokens,
        }
        if count := sum(step.separation_count for step in taken):
            averages[f"train_{self.objective.kind.name}"] = sum(step.separation for step in taken) / count
        if (norm := taken[-1].grad_norm) is not None:
            averages["grad_norm"] = norm
        return averages

    def _validate_now(self, listener: Listener) -> None:
        """Score the model, keep count of improvement, and tell."""
        self._fetch()
        self._check_weights()
        self.model.eval()
        try:
            metrics = self._group.told(self._validate)
        except Interrupted:
            # A validation changes nothing, so the state is as good as before it.
            listener.on_save(self.state)
            raise
        value = metrics[self.config.protocol.selection.name]
        if not math.isfinite(value):
            # Under trainer.bad_steps=skip too: weights that cannot be scored are not mended by skipping.
            raise DivergedError(f"The validation after step {self.state.spent.steps} gave {value}. {SMALLER_OR_FINER}.")
        state = self.state
        is_best = state.best_value is None or value < state.best_value
        if is_best:
            state.best_value, state.num_worse = value, 0
        else:
            state.num_worse += 1
        state.evaluated_step, state.evaluated_epoch = state.spent.steps, state.epoch
        listener.on_validation(state, metrics, is_best)

    def snapshot(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the state of the loop, of the optimizer and of the loss scale: JSON and tensors."""
        values = {"loop": self.state.to_json(), "scaler": self.scaler.state_dict()}
        return values, self.optimizer.tensors()

    def restore(self, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take up what `snapshot` returned.

        Raises:
            CheckpointError: It was returned in the training of something else, or by another version.
        """
        own = {"loop", "scaler"}
        if values.keys() != own:
            raise CheckpointError(f"Its training.json has {', '.join(values):.200}; expected {', '.join(sorted(own))}.")
        state, scaler = State.from_json(values["loop"]), values["scaler"]
        if state.position >= len(self._windows):
            raise CheckpointError(f"It stands at window {state.position} of {len(self._windows)}.")
        expected = self.scaler.state_dict()
        if not isinstance(scaler, dict) or scaler.keys() != expected.keys() or not all(map(_is_scale, scaler.values())):
            raise CheckpointError(f"Its scaler is {scaler!r:.200}; expected numbers such as {expected}.")
        if not tensors and state.spent.steps > state.num_skipped:
            raise CheckpointError(f"The optimizer's moments are missing, after {state.spent.steps} steps.")
        self.state = state
        self.scaler.load_state_dict(scaler)
        self.optimizer.load_tensors(tensors)


def _is_scale(value: object) -> bool:
    """Tell whether a stored value may be one of the scaler's: a scale, a factor, a count."""
    return isinstance(value, int | float) and 0 <= value < 1 << 64
