"""The learner: model, objective and training of a run, the same on every process that trains it."""

from collections.abc import Callable

import numpy as np
import torch

from nano_llm.checkpoint import Checkpoint, TrainingState, build_model
from nano_llm.config.schema import Config
from nano_llm.data.build import PAIRS
from nano_llm.data.prepare import PreparedData
from nano_llm.data.windows import Windows
from nano_llm.errors import CheckpointError, DataError
from nano_llm.model.accounting import forward_flops_per_token
from nano_llm.objective import Objective
from nano_llm.training.group import Group
from nano_llm.training.loop import Metrics, Training
from nano_llm.training.machine import Machine
from nano_llm.training.state import State

_PREFIXES = ("objective.", "optimizer.", "random.")
"""Of the tensors that `Learner.state` adds to the weights."""


class Learner:
    """Model, objective and training of one run in this process, the same on all processes of a group."""

    def __init__(
        self,
        config: Config,
        data: PreparedData,
        machine: Machine,
        group: Group,
        validate: Callable[[], Metrics],
    ) -> None:
        """Build everything, with the initial values of the seed.

        Args:
            config: The run.
            data: What it learns from.
            machine: Device and arithmetic.
            group: The processes that train the model.
            validate: Scores the model; asked on rank 0 only.
        """
        self._config, self._machine, self._group = config, machine, group
        torch.manual_seed(config.seed)
        self.model = build_model(config, data.tokenizer.vocab_size).to(machine.device)
        self.objective = Objective(config.model, config.protocol.loss_average).to(machine.device)
        if config.trainer.compile:
            # A graph for full batches and one for an epoch's last batch: else that one makes a graph of any size, which
            # all later batches would run through.
            self.model.compile(dynamic=False)
        self.training = Training(
            config,
            self.model,
            self.objective,
            data.windows["train"],
            _pairs(config, data, self.objective),
            machine,
            validate=validate,
            flops_per_token=3
            * forward_flops_per_token(self.model, config.data.window_length, factual=not self.objective.reads_both),
            group=group,
        )

    def take_up(self, stored: Checkpoint | None, best_step: int | None = None) -> None:
        """Go on from a checkpoint that rank 0 has read; None there: from the beginning.

        Args:
            stored: With training state.
            best_step: Of the best checkpoint on disk; None: there is none. What rank 0 gives counts.

        Raises:
            CheckpointError: Its training state is not one of this run.
        """
        rank = self._group.place.rank
        tensors: dict[str, torch.Tensor] = {}
        training = None if stored is None else stored.training
        values, kept_step = self._group.told(lambda: (None if training is None else training.values, best_step))
        if values is not None:
            if stored is not None and training is not None:
                if strange := [name for name in training.tensors if not name.startswith(_PREFIXES)]:
                    raise CheckpointError(f"Its training state has no place for {strange[0]:.80}.")
                tensors = _prefixed("model.", stored.weights) | training.tensors
            tensors = self._group.handed_out(tensors)
            _load(self.model, _without_prefix("model.", tensors))
            _load(self.objective, _without_prefix("objective.", tensors))
            self.training.restore(values, _without_prefix("optimizer.", tensors))
            if kept_step is not None:
                self.training.state.forget_best_after(kept_step)
        if random := _without_prefix(_random_prefix(rank), tensors):
            self._machine.set_random_state(random)
        elif rank:
            # The generator of rank 0 goes on as that of a single process would; each other rank has one of its own.
            torch.manual_seed(_derived_seed(self._config.seed, rank, self.training.state.spent.steps))
        elif values is not None:
            raise CheckpointError("Its random state is missing.")

    def state(self) -> TrainingState:
        """Return everything that resuming needs; all processes ask for it, and rank 0 gets it whole."""
        values, optimizer = self.training.snapshot()
        tensors = _prefixed("optimizer.", optimizer) | _prefixed("objective.", self.objective.state_dict())
        for rank, random in enumerate(self._group.collected(self._machine.random_state())):
            tensors |= _prefixed(_random_prefix(rank), random)
        return TrainingState(values, tensors)


def follow(config: Config, data: PreparedData, machine: Machine, group: Group) -> str | None:
    """Train beside rank 0 until it says that training is over.

    Returns:
        None when training is finished, else why it stopped, as for rank 0.
    """
    learner = Learner(config, data, machine, group, validate=_never_asked)
    learner.take_up(None)
    return learner.training.run(_Follower(learner))


def _never_asked() -> Metrics:
    raise AssertionError("rank 0 scores the model for all processes of a group")


class _Follower:
    """Hears the loop of a process that is not rank 0: it gives what rank 0 saves, and keeps nothing."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    def on_step(self, state: State, metrics: Metrics, share: float) -> None:
        """Rank 0 writes and shows the same row."""

    def on_skip(self, state: State, why: str) -> None:
        """Rank 0 says so."""

    def on_validation(self, state: State, metrics: Metrics, is_best: bool) -> None:
        """Rank 0 has scored the model, and keeps the weights."""

    def on_save(self, state: State) -> None:
        """Give the random state of this process to rank 0."""
        self._learner.state()

    def stop_reason(self) -> str | None:
        """Have none; rank 0 is asked."""
        return None


def _pairs(config: Config, data: PreparedData, objective: Objective) -> Windows | None:
    """Return the minimal pairs that training needs, if its objective reads them."""
    if not objective.reads_pairs:
        return None
    if PAIRS not in data.windows:
        raise DataError(
            f"model.separation.kind=cad_pairs learns from minimal pairs, and data={config.data.name} has "
            "none. Set data.num_pairs above 0 (data=imdb needs data.cad too), or take another kind."
        )
    return data.windows[PAIRS]


def _load(module: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:  # torch's word for names and shapes that do not fit
        raise CheckpointError(f"It does not fit this run: {error}.") from error


def _random_prefix(rank: int) -> str:
    """Name the random state of a rank in a checkpoint; a single process has that of rank 0."""
    return f"random.{rank}." if rank else "random."


def _derived_seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


def _prefixed(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _without_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
