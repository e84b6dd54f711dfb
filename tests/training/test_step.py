"""One step: micro-batches weigh tokens equally; figures are sums."""

from collections.abc import Callable, Sequence
from functools import cache

import pytest
import torch

from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Precision
from nano_llm.data.batches import IGNORE, Batch
from nano_llm.model.language_model import build_language_model
from nano_llm.objective import Objective
from nano_llm.training.group import Alone
from nano_llm.training.machine import Machine
from nano_llm.training.optimizer import Optimizer
from nano_llm.training.step import train_step

CPU = Machine(torch.device("cpu"), Precision.fp32)


def step_on(sizes: list[int], *overrides: str) -> tuple[list[float], torch.Tensor]:
    """Take one step over eight rows of unequal length, split into micro-batches; return figures and weights."""
    config = compose_config(["scale=tiny", *overrides])
    torch.manual_seed(0)
    model = build_language_model(config.model, config.scale, 32, 16)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(4, 32, (8, 13), generator=generator)
    targets = tokens[:, 1:].clone()
    for row in range(8):
        targets[row, row + 2 :] = IGNORE
    treatment = torch.arange(8) % 2
    zeros = torch.zeros(8, dtype=torch.long)
    whole = (tokens[:, :-1], targets, treatment, zeros, zeros, torch.full((8,), 0.5))
    parts = zip(*(tensor.split(sizes) for tensor in whole), strict=True)
    optimizer = Optimizer(config.optimizer, model)
    measured = train_step(
        model, Objective(config.model, config.protocol.loss_average), optimizer,
        torch.amp.GradScaler("cpu", enabled=False), [Batch(*part) for part in parts], 1.0, CPU,
    )  # fmt: skip
    return measured.tolist(), torch.nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize("overrides", [["model=vanilla"], ["model=tarnet", "model.separation.weight=0.5"]])
def test_accumulated_micro_batches_equal_one_batch(overrides: list[str]) -> None:
    together, one = step_on([8], *overrides)
    apart, four = step_on([2, 2, 2, 2], *overrides)
    uneven, three = step_on([1, 5, 2], *overrides)
    assert apart == pytest.approx(together, rel=1e-5)
    assert uneven == pytest.approx(together, rel=1e-5)
    # Adam divides by the gradient's own size, so equal gradients up to rounding give nearly equal weights.
    torch.testing.assert_close(four, one, atol=2e-5, rtol=0)
    torch.testing.assert_close(three, one, atol=2e-5, rtol=0)


@pytest.mark.parametrize("kind", ["posterior_js", "bayes", "margin", "unlikelihood"])
def test_every_term_accumulates_over_micro_batches(kind: str) -> None:
    """The gradient's norm among the figures tells whether all micro-batches weighed what they should."""
    together, apart, uneven = (step_on(sizes, f"model/separation={kind}")[0] for sizes in ([8], [2] * 4, [1, 5, 2]))
    assert together[3] == (8 if kind in ("bayes", "margin") else 44)
    assert apart == pytest.approx(together, rel=1e-5, abs=1e-6)
    assert uneven == pytest.approx(together, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_that_is_not_accepted_changes_neither_weights_nor_moments(optimizer: str) -> None:
    config = compose_config(["scale=tiny", "model=vanilla", f"optimizer={optimizer}"])
    torch.manual_seed(0)
    model = build_language_model(config.model, config.scale, 32, 16)
    objective, built = Objective(config.model, config.protocol.loss_average), Optimizer(config.optimizer, model)
    tokens = torch.randint(4, 32, (2, 13))
    zeros = torch.zeros(2, dtype=torch.long)
    batch = Batch(tokens[:, :-1], tokens[:, 1:], zeros, zeros, zeros, torch.full((2,), 0.5))
    told: list[list[float]] = []

    def take(accepted: bool) -> dict[str, torch.Tensor]:
        def accepts(measured: torch.Tensor, overflowed: bool) -> bool:
            assert not overflowed
            told.append(measured.tolist())
            return accepted

        scaler = torch.amp.GradScaler("cpu", enabled=False)
        measured = train_step(model, objective, built, scaler, [batch], 1.0, CPU, accepts=accepts)
        assert measured.tolist() == told[-1], "all was measured before the step was judged"
        assert all(parameter.grad is None for parameter in built.parameters)
        return {name: value.clone() for name, value in {**model.state_dict(), **built.tensors()}.items()}

    first, skipped, second = take(True), take(False), take(True)
    assert all(torch.equal(first[name], skipped[name]) for name in first)
    assert told[1] == told[2], "the weights that were left alone measure the same"
    assert sum(not torch.equal(skipped[name], second[name]) for name in first) > len(first) / 2


composed = cache(lambda *overrides: compose_config(list(overrides)))


class Part(Alone):
    """A process of a group whose processes take turns: each adds to what those before it have summed up."""

    def __init__(self, rank: int, size: int, before: list[torch.Tensor]) -> None:
        self.rank, self.size, self.summed = rank, size, before

    def share(self, batch: Batch) -> Batch:
        return batch.share(self.rank, self.size)

    def add_up(self, parameters: Sequence[torch.Tensor], measured: torch.Tensor) -> None:
        mine = [*(torch.zeros_like(p) if p.grad is None else p.grad for p in parameters), measured.clone()]
        self.summed = [a + b for a, b in zip(mine, self.summed, strict=True)] if self.summed else mine
        for parameter, gradient in zip(parameters, self.summed, strict=False):
            parameter.grad = gradient.clone()
        measured.copy_(self.summed[-1])


def step_of_a_group(size: int, *overrides: str, num_pairs: int = 0) -> tuple[list[float], torch.Tensor]:
    """Take one step over two micro-batches as the last of so many processes, whose sums are complete.

    Returns:
        Figures and gradient.
    """
    config = composed("scale=tiny", "model.dropout=0", *overrides)
    generator = torch.Generator().manual_seed(1)
    micro_batches = []
    for num_rows in (7, 4):
        rows = num_rows + 2 * num_pairs
        tokens = torch.randint(4, 32, (rows, 13), generator=generator)
        targets = tokens[:, 1:].clone()
        for row in range(rows):
            targets[row, row + 2 :] = IGNORE
        treatment = torch.cat([torch.arange(num_rows) % 2, torch.arange(2 * num_pairs) % 2])
        ones = torch.ones(rows, dtype=torch.long)
        propensity = torch.rand(rows, generator=generator) * 0.8 + 0.1
        micro_batches.append(Batch(tokens[:, :-1], targets, treatment, 2 * ones, ones, propensity, num_pairs=num_pairs))
    summed: list[torch.Tensor] = []
    for rank in range(size):
        torch.manual_seed(0)
        model = build_language_model(config.model, config.scale, 32, 16)
        objective = Objective(config.model, config.protocol.loss_average)
        optimizer = Optimizer(config.optimizer, model, objective)
        part = Part(rank, size, summed)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        measured = train_step(model, objective, optimizer, scaler, micro_batches, 1.0, CPU, part)
        summed = part.summed
    return measured.tolist(), torch.cat([gradient.flatten() for gradient in summed[:-1]])


@pytest.mark.parametrize(
    ("num_pairs", "overrides"),
    [
        (0, ["model=vanilla"]),
        (0, ["model=tarnet", "model.separation.weight=0"]),
        (0, ["model=tarnet_ipw"]),
        (0, ["model=tarnet_ipw", "protocol.loss_average=row"]),
        (3, ["model=tarnet", "model/separation=cad_pairs"]),
        (3, ["model=tarnet", "model/separation=cad_pairs", "protocol.loss_average=row"]),
        *((0, ["model=tarnet", f"model/separation={kind}", f"protocol.loss_average={average}"])
          for kind in ("js", "posterior_js", "bayes", "margin", "unlikelihood") for average in ("token", "row")),
    ],
)  # fmt: skip
def test_the_shares_of_a_group_add_up_to_the_step_of_one_process(num_pairs: int, overrides: list[str]) -> None:
    """The loss is a sum over rows over counts of the whole step; with 9 processes some have no row at all."""
    figures, gradient = step_of_a_group(1, *overrides, num_pairs=num_pairs)
    for size in (2, 9):
        summed, gradient_summed = step_of_a_group(size, *overrides, num_pairs=num_pairs)
        assert summed == pytest.approx(figures, rel=1e-5, abs=1e-6)
        torch.testing.assert_close(gradient_summed, gradient, atol=1e-6, rtol=1e-5)


class Fp16Step:
    """A step in fp16 of a process that has no row: it gets the gradients of the others, all equal."""

    def __init__(self, gradient: float) -> None:
        config = composed("scale=tiny", "model=vanilla")
        self.model = build_language_model(config.model, config.scale, 32, 16)
        self.objective = Objective(config.model, config.protocol.loss_average)
        self.optimizer = Optimizer(config.optimizer, self.model)
        self.machine = Machine(torch.device("cpu"), Precision.fp16)
        self.scaler = self.machine.scaler()
        self.others = [*(torch.full_like(p, gradient) for p in self.optimizer.parameters), torch.ones(5)]

    def take(self, **accepts: Callable[[torch.Tensor, bool], bool]) -> torch.Tensor:
        zeros = torch.zeros(1, dtype=torch.long)
        batch = Batch(torch.full((1, 12), 5), torch.full((1, 12), 6), zeros, zeros, zeros, torch.full((1,), 0.5))
        return train_step(
            self.model, self.objective, self.optimizer, self.scaler, [batch], 1.0, self.machine,
            Part(0, 2, self.others), **accepts,
        )  # fmt: skip


def test_an_empty_share_needs_no_loss_to_know_the_scale() -> None:
    """The first step of a process after resuming in fp16 may be one in which it has no row."""
    step = Fp16Step(1.0)
    step.scaler.load_state_dict({**step.scaler.state_dict(), "scale": 4.0})
    measured = step.take()
    assert float(measured[4]) == pytest.approx(sum(p.numel() for p in step.optimizer.parameters) ** 0.5 / 4, rel=1e-4)


@pytest.mark.parametrize(("gradient", "lowered"), [(2e20, False), (float("inf"), True)])
def test_a_norm_that_overflows_is_told_from_a_gradient_that_does(gradient: float, lowered: bool) -> None:
    """Only the latter lowers the loss scale; the norm of 2e20 is infinite because it is a sum of squares."""
    step = Fp16Step(gradient * 65536)
    told: list[bool] = []

    def accepts(measured: torch.Tensor, overflowed: bool) -> bool:
        assert measured[4] == float("inf") or measured[4].isnan()
        told.append(overflowed)
        return False

    step.take(accepts=accepts)
    assert told == [lowered]
    assert step.scaler.get_scale() == (32768 if lowered else 65536)


def test_golden_step() -> None:
    """Loss, nats, divergence and gradient norm of one seeded step.

    A change here means that initial values, model, objective or random streams changed. Record it anew only when
    that was meant, and say so in the commit.
    """
    figures, _ = step_on([8], "model=tarnet", "model.separation.weight=0.1")
    assert figures[0] * 44 == pytest.approx(figures[1] - 0.1 * figures[2], rel=1e-5)
    assert figures == pytest.approx(GOLDEN, rel=1e-4)


GOLDEN = [3.454110622406006, 151.98086547851562, 0.0, 44.0, 1.1098625659942627]
