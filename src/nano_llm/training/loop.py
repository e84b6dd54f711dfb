"""The training loop: step, and when due validate, save, stop. It prints nothing and writes nothing."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nano_llm.config.schema import Config
from nano_llm.data.batches import Batch, Cursor, batches
from nano_llm.data.windows import Windows
from nano_llm.errors import NonFiniteError
from nano_llm.objective import Objective
from nano_llm.training.budget import budget_share
from nano_llm.training.machine import Machine
from nano_llm.training.optimizer import Optimizer
from nano_llm.training.schedule import lr_factor
from nano_llm.training.state import State
from nano_llm.training.step import MEASURED, train_step

Metrics = dict[str, float]


class Listener(Protocol):
    """Who hears of progress; all reading of the device's figures has happened by then."""

    def on_step(self, state: State, metrics: Metrics, share: float) -> None:
        """A log row is due; ``share`` is the used share of the budget."""

    def on_validation(self, state: State, metrics: Metrics, is_best: bool) -> None:
        """The model was validated; when ``is_best``, its weights are to be kept."""

    def on_save(self, state: State) -> None:
        """The state is to be kept so that training can resume from here."""

    def stop_reason(self) -> str | None:
        """Why to stop after this step, resumable; None to go on."""


class Training:
    """Model, optimizer and position of one run, and the loop over them."""

    def __init__(
        self,
        config: Config,
        model: nn.Module,
        objective: Objective,
        windows: Windows,
        machine: Machine,
        validate: Callable[[], Metrics],
        state: State,
        flops_per_token: float,
    ) -> None:
        """Prepare to train.

        Args:
            config: The run.
            model: On the machine's device.
            objective: What is minimised.
            windows: Training windows.
            machine: Device and arithmetic.
            validate: Scores the model; must contain the figure named by ``protocol.selection``.
            state: Where to start; a fresh one, or a checkpoint's.
            flops_per_token: Of one forward and backward pass, for the utilisation figure.
        """
        self.config, self.model, self.objective, self.machine = config, model, objective, machine
        self.optimizer = Optimizer(config.optimizer, model)
        self.scaler = machine.scaler()
        self.state = state
        self._validate = validate
        self._flops_per_token = flops_per_token
        self._measured: list[Tensor] = []
        trainer = config.trainer
        if trainer.overfit_batches is not None:
            windows = windows.first(trainer.overfit_batches * trainer.batch_size * trainer.num_micro_batches)
        self._windows = windows

    def run(self, listener: Listener) -> str | None:
        """Train until the budget is used up, patience ends, or the listener stops it.

        Returns:
            None when training is finished, else the reason why it stopped early and can resume.

        Raises:
            NonFiniteError: A loss or gradient norm was not finite; no state after that step was saved.
        """
        stream = self._batches()
        saved_at = time.monotonic()
        while True:
            finished = self.share >= 1 or self._out_of_patience
            if self._validation_due or (finished and self.state.evaluated_step != self.state.spent.steps):
                self._validate_now(listener)
                finished = finished or self._out_of_patience
            stop = None if finished else listener.stop_reason()
            if finished or stop or time.monotonic() - saved_at >= 60 * self.config.trainer.checkpoint_minutes:
                self._fetch()
                listener.on_save(self.state)
                saved_at = time.monotonic()
            if finished or stop:
                return stop
            self._step(stream)
            if self.state.spent.steps % self.config.trainer.log_every == 0 or self.share >= 1:
                listener.on_step(self.state, self._log_row(), self.share)

    @property
    def share(self) -> float:
        """Used share of the budget; training ends at 1."""
        return budget_share(self.config.trainer, self.state.spent, len(self._windows))

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
        return batches(self._windows, self.config.trainer.batch_size, self.config.seed, start)

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
            self.model, self.objective, self.optimizer, self.scaler, micro_batches, factor, self.machine
        )
        tokens = sum(batch.num_targets for batch in micro_batches)
        spent.steps += 1
        spent.tokens += tokens
        spent.windows += sum(len(batch.inputs_BT) for batch in micro_batches)
        state.epoch, state.position = cursor.epoch, cursor.position
        seconds = time.perf_counter() - began
        spent.seconds += seconds
        self._measured.append(measured)
        state.pending.append([float(tokens), seconds, factor])

    def _fetch(self) -> None:
        """Bring the measured figures of the steps since the last fetch to the host, and check them.

        Raises:
            NonFiniteError: A loss was not finite, or a gradient norm was not and no loss scale explains it.
        """
        if not self._measured:
            return
        rows = torch.stack(self._measured).tolist()
        self._measured.clear()
        first = self.state.spent.steps - len(rows) + 1
        for i, row in enumerate(rows):
            checked = row[:3] if self.scaler.is_enabled() else row
            if not all(map(_is_finite, checked)):
                named = ", ".join(f"{name} {value:g}" for name, value in zip(MEASURED, row, strict=True))
                raise NonFiniteError(
                    f"Step {first + i} met a figure that is not finite ({named}). Lower the learning rate "
                    "(optimizer.lr), clip gradients (optimizer.grad_clip) or raise the precision "
                    "(trainer.precision=fp32)."
                )
        for pending, row in zip(self.state.pending[-len(rows) :], rows, strict=True):
            pending.extend(row)

    def _log_row(self) -> Metrics:
        """Average what was measured since the last row; tokens weigh equally."""
        began = time.perf_counter()
        self._fetch()
        # On a GPU the steps' work is waited for here, not where it was launched.
        waited = time.perf_counter() - began
        self.state.spent.seconds += waited
        columns = list(zip(*self.state.pending, strict=True))
        tokens, seconds = sum(columns[0]), sum(columns[1]) + waited
        self.state.pending.clear()
        row: Metrics = {
            "train_loss": sum(columns[3]) / len(columns[3]),
            "train_ce": sum(columns[4]) / tokens,
            "grad_norm": columns[6][-1],
            "lr": columns[2][-1] * self.config.optimizer.lr,
            "tokens_per_second": tokens / seconds,
        }
        self.state.train_ce = row["train_ce"]
        if self.objective.js_weight > 0:
            row["train_js"] = sum(columns[5]) / tokens
        if self.machine.peak_flops is not None:
            row["mfu"] = self._flops_per_token * row["tokens_per_second"] / self.machine.peak_flops
        return row

    def _validate_now(self, listener: Listener) -> None:
        """Score the model, keep count of improvement, and tell."""
        self._fetch()
        self.model.eval()
        metrics = self._validate()
        value = metrics[self.config.protocol.selection.name]
        if not _is_finite(value):
            raise NonFiniteError(
                f"The validation after step {self.state.spent.steps} gave {value}; lower optimizer.lr."
            )
        state = self.state
        is_best = state.best_value is None or value < state.best_value
        if is_best:
            state.best_value, state.best_step, state.num_worse = value, state.spent.steps, 0
        else:
            state.num_worse += 1
        state.evaluated_step, state.evaluated_epoch = state.spent.steps, state.epoch
        listener.on_validation(state, metrics, is_best)

    def snapshot(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the state of the loop, of the optimizer and of the loss scale: JSON and tensors."""
        values = {"loop": self.state.to_json(), "scaler": self.scaler.state_dict()}
        return values, self.optimizer.tensors()

    def restore(self, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take up what `snapshot` returned."""
        self.state = State.from_json(values["loop"])
        self.scaler.load_state_dict(values["scaler"])
        self.optimizer.load_tensors(tensors)


def _is_finite(value: float) -> bool:
    return value - value == 0
