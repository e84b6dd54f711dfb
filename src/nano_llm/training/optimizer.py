"""The optimizer of a run: one torch optimizer or two, as one thing with one learning-rate factor."""

from collections.abc import Iterable
from inspect import unwrap
from typing import Any

import torch
from torch import Tensor, nn

from nano_llm.config.schema import Decay, MuonConfig, OptimizerConfig
from nano_llm.errors import CheckpointError


class Optimizer:
    """AdamW, or Muon for the hidden matrices beside AdamW for the rest.

    Every trainable parameter is in exactly one group; a group's ``peak_lr`` times the factor given to `step`
    is its learning rate.

    Args:
        config: Kind and settings.
        model: What is trained.
        objective: What is minimised; parameters of its own are trained too, without decay.
    """

    def __init__(self, config: OptimizerConfig, model: nn.Module, objective: nn.Module | None = None) -> None:
        self.grad_clip = config.grad_clip
        undecayed = [] if objective is None else list(objective.parameters())
        self.parameters = [p for p in model.parameters() if p.requires_grad] + undecayed
        matrices = hidden_matrices(model) if isinstance(config, MuonConfig) else []
        taken = {id(p) for p in matrices}
        rest = [(name, p) for name, p in model.named_parameters() if p.requires_grad and id(p) not in taken]
        self._optimizers: list[_AdamW | _Muon] = [_adamw(config, rest, undecayed)]
        if isinstance(config, MuonConfig):
            self._optimizers.append(_muon(config, matrices))
        for group in self._groups():
            group["peak_lr"] = group["lr"]
        grouped = [id(p) for group in self._groups() for p in group["params"]]
        assert sorted(grouped) == sorted(map(id, self.parameters)), "each parameter belongs to exactly one group"

    def clip(self) -> Tensor:
        """Scale the gradients down to ``grad_clip`` and return their norm before; no synchronisation."""
        if self.grad_clip is None:
            return nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        return nn.utils.clip_grad_norm_(self.parameters, self.grad_clip)

    def step(self, lr_factor: float) -> None:
        """Update the parameters from their gradients.

        Args:
            lr_factor: Share of each group's peak learning rate.
        """
        for group in self._groups():
            group["lr"] = group["peak_lr"] * lr_factor
        for optimizer in self._optimizers:
            optimizer.step()

    def drop_gradients(self) -> None:
        """Free the gradients, taken or not."""
        for parameter in self.parameters:
            parameter.grad = None

    def unscale(self, scaler: torch.amp.GradScaler) -> None:
        """Undo the loss scale of fp16 in the gradients."""
        if scaler.is_enabled():
            for optimizer in self._optimizers:
                scaler.unscale_(optimizer)

    def tensors(self) -> dict[str, Tensor]:
        """Return all state as named tensors: ``<optimizer>.<parameter>.<moment>``."""
        return {
            f"{i}.{j}.{name}": torch.as_tensor(value)
            for i, optimizer in enumerate(self._optimizers)
            for j, moments in optimizer.state_dict()["state"].items()
            for name, value in moments.items()
        }

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned.

        Raises:
            CheckpointError: It was returned by the optimizer of another model, or is incomplete.
        """
        self._demand_own(tensors)
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in self._optimizers]
        for key, value in tensors.items():
            i, j, name = key.split(".", 2)
            states[int(i)].setdefault(int(j), {})[name] = value
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

    def _demand_own(self, tensors: dict[str, Tensor]) -> None:
        """Hold names, shapes and types of stored moments against those that the parameters have.

        Raises:
            CheckpointError: They do not fit. A parameter that never had a gradient has no moments.
        """
        expected: dict[str, torch.Size] = {}
        for i, optimizer in enumerate(self._optimizers):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            for j, parameter in enumerate(parameters):
                shapes = dict.fromkeys(optimizer.SCALARS, torch.Size()) | dict.fromkeys(
                    optimizer.MOMENTS, parameter.shape
                )
                expected |= {f"{i}.{j}.{name}": shape for name, shape in shapes.items()}
        for key, value in tensors.items():
            if key not in expected:
                raise CheckpointError(f"The optimizer has no place for {key:.80}.")
            if value.shape != expected[key] or not value.is_floating_point():
                raise CheckpointError(
                    f"The optimizer's {key} is {value.dtype} of the shape {tuple(value.shape)}; expected numbers of "
                    f"the shape {tuple(expected[key])}."
                )
        begun = {key.rpartition(".")[0] for key in tensors}
        if lost := [key for key in expected if key.rpartition(".")[0] in begun and key not in tensors]:
            raise CheckpointError(f"The optimizer's {lost[0]} is missing.")
        if begun and len({key.partition(".")[0] for key in begun}) < len(self._optimizers):
            raise CheckpointError("All moments of one of the optimizers are missing.")

    def _groups(self) -> Iterable[dict[str, Any]]:
        return (group for optimizer in self._optimizers for group in optimizer.param_groups)


def hidden_matrices(model: nn.Module) -> list[Tensor]:
    """Return the weights of the linear maps inside the layers of every trunk: what Muon is made for.

    Embeddings, readouts, vectors and the one-row queries of depth mixing are not among them.
    """
    return [
        module.weight
        for name, module in model.named_modules()
        if "trunk" in name.split(".") and isinstance(module, nn.Linear) and min(module.weight.shape) > 1
    ]


class _Untraced(torch.optim.Optimizer):
    """An optimizer without the guards that PyTorch puts around it.

    The guards keep the compiler from tracing it, and import the compiler for that, which takes a second of every run;
    here only models are ever compiled.
    """

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)


class _AdamW(_Untraced, torch.optim.AdamW):
    SCALARS, MOMENTS = ("step",), ("exp_avg", "exp_avg_sq")
    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))


class _Muon(_Untraced, torch.optim.Muon):
    SCALARS, MOMENTS = (), ("momentum_buffer",)
    step = torch.no_grad()(unwrap(torch.optim.Muon.step))


def _adamw(config: OptimizerConfig, named: list[tuple[str, nn.Parameter]], undecayed: list[nn.Parameter]) -> _AdamW:
    decayed = [p for _, p in named if config.decay is Decay.all or _is_matrix(p)]
    ids = {id(p) for p in decayed}
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": [p for _, p in named if id(p) not in ids] + undecayed, "weight_decay": 0.0},
    ]
    return _AdamW(
        [group for group in groups if group["params"]],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )


def _muon(config: MuonConfig, matrices: list[Tensor]) -> _Muon:
    return _Muon(matrices, lr=config.muon_lr, momentum=config.momentum, weight_decay=config.weight_decay)


def _is_matrix(parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and min(parameter.shape) > 1
