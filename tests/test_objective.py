"""The objective: the factual outcome's nats, a bounded divergence, and sums that are divided once."""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nano_llm.config.compose import compose_config
from nano_llm.config.schema import LossAverage, ModelConfig, SeparationConfig, SeparationKind, TwoHeadConfig
from nano_llm.data.batches import IGNORE
from nano_llm.objective import Objective, cross_entropy, factual, jensen_shannon

B, T, V = 4, 6, 7
TREATMENT = torch.tensor([0, 1, 1, 0])
AVERAGES = list(LossAverage)


@cache
def composed(model: str) -> ModelConfig:
    return compose_config([f"model={model}"]).model


def two_heads(weight: float, average: LossAverage = LossAverage.token, kind: str = "js") -> Objective:
    config = composed("tarnet")
    assert isinstance(config, TwoHeadConfig)
    separation = SeparationConfig(kind=SeparationKind(kind), weight=weight)
    return Objective(replace(config, separation=separation), average)


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def some_targets() -> Tensor:
    """Rows with 6, 4, 1 and 3 scored targets."""
    targets = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(1))
    targets[1, :2] = IGNORE
    targets[2, 1:] = IGNORE
    targets[3, [0, 2, 4]] = IGNORE
    return targets


def nats_by_hand(logits_BTKV: Tensor, targets_BT: Tensor, treatment_B: Tensor) -> list[list[float]]:
    """Nats of the scored targets of each row under its factual outcome."""
    rows = []
    for logits_TKV, targets_T, treatment in zip(logits_BTKV, targets_BT.tolist(), treatment_B.tolist(), strict=True):
        outcome = treatment if logits_TKV.shape[1] == 2 else 0
        log_p = logits_TKV[:, outcome].double().log_softmax(-1)
        rows.append([-log_p[t, target].item() for t, target in enumerate(targets_T) if target != IGNORE])
    return rows


def naive_js(logits_BTKV: Tensor) -> Tensor:
    p0, p1 = logits_BTKV.softmax(-1).unbind(-2)
    m = (p0 + p1) / 2
    return ((p0 * (p0 / m).log()).sum(-1) + (p1 * (p1 / m).log()).sum(-1)) / 2


def loss_of(objective: Objective, logits: Tensor, targets: Tensor, treatment: Tensor = TREATMENT) -> Tensor:
    return objective.loss(objective.terms(logits, targets, treatment), objective.counts(targets))


# -------------------------------------------------------------------------------------- cross-entropy


@pytest.mark.parametrize("num_outcomes", [1, 2])
def test_cross_entropy_is_that_of_the_factual_outcome(num_outcomes: int) -> None:
    logits, targets = drawn(B, T, num_outcomes, V), some_targets()
    objective = Objective(composed("vanilla" if num_outcomes == 1 else "tarnet"), LossAverage.token)
    terms = objective.terms(logits, targets, TREATMENT)
    nats = [n for row in nats_by_hand(logits, targets, TREATMENT) for n in row]
    assert terms["ce"].count.item() == len(nats) == 14
    assert terms["ce"].total.item() == pytest.approx(sum(nats), rel=1e-12)


def test_the_other_outcome_changes_nothing_and_learns_nothing() -> None:
    logits, targets = drawn(B, T, 2, V).requires_grad_(), some_targets()
    objective = two_heads(weight=0.0)
    loss = loss_of(objective, logits, targets)
    (grad,) = torch.autograd.grad(loss, logits)
    changed = logits.detach().clone()
    for row, treatment in enumerate(TREATMENT.tolist()):
        assert not grad[row, :, 1 - treatment].any()
        assert grad[row, :, treatment].any()
        changed[row, :, 1 - treatment] += drawn(T, V, seed=2)
    assert torch.equal(loss_of(objective, changed, targets), loss)


def test_the_treatment_chooses_the_outcome() -> None:
    logits = drawn(2, 3, 2, V)
    torch.testing.assert_close(factual(logits, torch.tensor([0, 1])), torch.stack((logits[0, :, 0], logits[1, :, 1])))
    only = drawn(2, 3, 1, V)
    assert torch.equal(factual(only, torch.tensor([0, 1])), only[:, :, 0])


def test_half_precision_logits_are_summed_in_single_precision() -> None:
    logits, targets = drawn(B, T, 2, V, dtype=torch.bfloat16), some_targets()
    terms = two_heads(0.1).terms(logits, targets, TREATMENT)
    exact = two_heads(0.1).terms(logits.double(), targets, TREATMENT)
    for name, term in terms.items():
        assert term.total.dtype is torch.float32
        assert term.total.item() == pytest.approx(exact[name].total.item(), rel=1e-5)


# ------------------------------------------------------------------------------------ ignored targets


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_ignored_targets_contribute_exactly_nothing(weight: float, average: LossAverage) -> None:
    objective, targets = two_heads(weight, average), some_targets()
    logits = drawn(B, T, 2, V).requires_grad_()
    ignored = targets == IGNORE
    loss = loss_of(objective, logits, targets)
    (grad,) = torch.autograd.grad(loss, logits)
    assert not grad[ignored].any()
    assert grad[~ignored].any(-1).any(-1).all()
    changed = torch.where(ignored[..., None, None], drawn(B, T, 2, V, seed=3) * 1e3, logits)
    assert torch.equal(loss_of(objective, changed, targets), loss)
    assert torch.equal(torch.autograd.grad(loss_of(objective, changed, targets), logits)[0], grad)


@pytest.mark.parametrize("average", AVERAGES)
def test_a_row_without_targets_contributes_exactly_nothing(average: LossAverage) -> None:
    objective, targets, logits = two_heads(0.5, average), some_targets(), drawn(B, T, 2, V)
    targets[2] = IGNORE
    rest = [0, 1, 3]
    expected = loss_of(objective, logits[rest], targets[rest], TREATMENT[rest])
    torch.testing.assert_close(loss_of(objective, logits, targets), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("average", AVERAGES)
def test_a_batch_without_targets_has_loss_zero_and_no_gradient(average: LossAverage) -> None:
    logits = drawn(B, T, 2, V).requires_grad_()
    loss = loss_of(two_heads(0.5, average), logits, torch.full((B, T), IGNORE))
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, logits)[0].any()


def test_each_target_has_its_nats() -> None:
    logits, targets = drawn(B, T, V), some_targets()
    nll = cross_entropy(logits, targets)
    for row, nats in enumerate(nats_by_hand(logits.unsqueeze(2), targets, TREATMENT)):
        assert nll[row][targets[row] != IGNORE].tolist() == pytest.approx(nats, rel=1e-12)
    assert not nll[targets == IGNORE].any()


# ------------------------------------------------------------------------------------------- averages


def test_token_average_is_the_mean_over_targets() -> None:
    logits, targets = drawn(B, T, 2, V), some_targets()
    nats = [n for row in nats_by_hand(logits, targets, TREATMENT) for n in row]
    expected = sum(nats) / len(nats)
    assert loss_of(two_heads(0.0), logits, targets).item() == pytest.approx(expected, rel=1e-12)


def test_row_average_is_the_mean_over_rows_of_their_means() -> None:
    logits, targets = drawn(B, T, 2, V), some_targets()
    means = [sum(nats) / len(nats) for nats in nats_by_hand(logits, targets, TREATMENT)]
    objective = two_heads(0.0, LossAverage.row)
    assert loss_of(objective, logits, targets).item() == pytest.approx(sum(means) / B, rel=1e-12)
    assert objective.counts(targets)["row_ce"].item() == B


def test_one_head_averages_tokens_whatever_is_asked() -> None:
    logits, targets = drawn(B, T, 1, V), some_targets()
    losses = [loss_of(Objective(composed("vanilla"), average), logits, targets) for average in AVERAGES]
    assert torch.equal(*losses)
    torch.testing.assert_close(losses[0], F.cross_entropy(logits.flatten(0, 2), targets.flatten(), ignore_index=IGNORE))


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("weight", [0.0, 0.5])
@pytest.mark.parametrize("sizes", [[2, 2], [1, 3], [1, 1, 1, 1]])
def test_losses_of_parts_over_joint_counts_add_up(sizes: list[int], weight: float, average: LossAverage) -> None:
    objective, logits, targets = two_heads(weight, average), drawn(B, T, 2, V).requires_grad_(), some_targets()
    counts = [objective.counts(part) for part in targets.split(sizes)]
    joint = {name: torch.stack([count[name] for count in counts]).sum() for name in counts[0]}
    whole = objective.counts(targets)
    assert {name: count.item() for name, count in joint.items()} == {name: n.item() for name, n in whole.items()}
    parts = zip(logits.split(sizes), targets.split(sizes), TREATMENT.split(sizes), strict=True)
    total = sum(objective.loss(objective.terms(*part), joint) for part in parts)
    expected = loss_of(objective, logits, targets)
    torch.testing.assert_close(total, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(torch.autograd.grad(total, logits), torch.autograd.grad(expected, logits))


@pytest.mark.parametrize("average", AVERAGES)
def test_every_term_has_the_count_that_targets_alone_give(average: LossAverage) -> None:
    objective, targets = two_heads(0.5, average), some_targets()
    terms, counts = objective.terms(drawn(B, T, 2, V), targets, TREATMENT), objective.counts(targets)
    assert {name: term.count.item() for name, term in terms.items()} == {n: c.item() for n, c in counts.items()}


# -------------------------------------------------------------------------------- the separation term


@pytest.mark.parametrize("average", AVERAGES)
def test_the_penalty_joins_the_loss_and_no_other_figure(average: LossAverage) -> None:
    logits, targets = drawn(B, T, 2, V), some_targets()
    plain, rewarded = two_heads(0.0, average), two_heads(0.3, average)
    plain_terms, terms = plain.terms(logits, targets, TREATMENT), rewarded.terms(logits, targets, TREATMENT)
    js = naive_js(logits)[targets != IGNORE]
    assert terms["js"].total.item() == pytest.approx(js.sum().item(), rel=1e-12)
    assert terms["js"].count.item() == 14
    for name in plain_terms:
        assert terms[name].total.item() == pytest.approx(plain_terms[name].total.item(), rel=1e-13), name
    expected = loss_of(plain, logits, targets) - 0.3 * js.mean()
    torch.testing.assert_close(loss_of(rewarded, logits, targets), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_loss_has_the_value_and_gradient_of_the_naive_formula(weight: float, average: LossAverage) -> None:
    logits, targets = drawn(B, T, 2, V).requires_grad_(), some_targets()
    scored = targets != IGNORE
    chosen = logits.log_softmax(-1)[torch.arange(B)[:, None], torch.arange(T), TREATMENT[:, None]]
    nats = -chosen.gather(2, targets.clamp(min=0)[..., None]).squeeze(2) * scored
    ce = (nats.sum(1) / scored.sum(1)).mean() if average is LossAverage.row else nats.sum() / scored.sum()
    naive = ce - weight * naive_js(logits)[scored].mean()
    loss = loss_of(two_heads(weight, average), logits, targets)
    torch.testing.assert_close(loss, naive, rtol=1e-12, atol=0)
    ours, theirs = (torch.autograd.grad(x, logits)[0] for x in (loss, naive))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize(("kind", "weight"), [("js", 0.0), ("none", 0.0), ("none", 0.5)])
def test_without_weight_or_kind_it_is_exactly_the_plain_objective(
    kind: str, weight: float, average: LossAverage
) -> None:
    objective, targets = two_heads(weight, average, kind), some_targets()
    logits = drawn(B, T, 2, V).requires_grad_()
    terms = objective.terms(logits, targets, TREATMENT)
    loss = objective.loss(terms, objective.counts(targets))
    name = "row_ce" if average is LossAverage.row else "ce"
    assert "js" not in terms
    assert "js" not in objective.counts(targets)
    assert torch.equal(loss, terms[name].total / terms[name].count)


def test_equal_outcomes_have_no_divergence_and_no_gradient() -> None:
    logits = drawn(B, T, 1, V).expand(B, T, 2, V).clone().requires_grad_()
    js = jensen_shannon(logits)
    torch.testing.assert_close(js, torch.zeros_like(js), rtol=0, atol=1e-15)
    (grad,) = torch.autograd.grad(js.sum(), logits)
    torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-15)


def test_divergence_is_symmetric_and_blind_to_shifts() -> None:
    logits = drawn(B, T, 2, V)
    torch.testing.assert_close(jensen_shannon(logits.flip(2)), jensen_shannon(logits))
    torch.testing.assert_close(jensen_shannon(logits + drawn(B, T, 2, 1)), jensen_shannon(logits))


@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
def test_divergence_lies_between_zero_and_ln_2(spread: float) -> None:
    js = jensen_shannon(spread * drawn(50, T, 2, V))
    assert (js >= -1e-15).all()
    assert (js <= math.log(2) + 1e-15).all()
    torch.testing.assert_close(js, jensen_shannon(spread * drawn(50, T, 2, V).float()).double(), rtol=0, atol=1e-4)


def test_outcomes_without_a_common_token_reach_ln_2() -> None:
    logits = torch.tensor([[[[1e4, 0.0, -1e4], [-1e4, 0.0, 1e4]]]])
    assert jensen_shannon(logits).item() == pytest.approx(math.log(2), abs=1e-7)


def test_close_outcomes_have_an_eighth_of_the_fisher_distance() -> None:
    """p_k = p * (1 + h a_k u), E u = 0, E u^2 = 1: JS = h^2 (a_1 - a_0)^2 / 8 to leading order."""
    p = drawn(V).softmax(0)
    u = drawn(V, seed=4)
    u = u - (p * u).sum()
    u = u / (p * u * u).sum().sqrt()
    h, (a0, a1) = 1e-3, (0.7, -0.4)
    logits = torch.stack([(p * (1 + h * a * u)).log() for a in (a0, a1)])
    assert jensen_shannon(logits[None, None]).item() == pytest.approx(h**2 * (a1 - a0) ** 2 / 8, rel=1e-2)


def test_divergence_equals_the_naive_formula_in_values_and_gradients() -> None:
    logits, weights = drawn(B, T, 2, V).requires_grad_(), drawn(B, T, seed=5)
    js, naive = jensen_shannon(logits), naive_js(logits)
    torch.testing.assert_close(js, naive, rtol=1e-11, atol=1e-14)
    ours, theirs = (torch.autograd.grad((x * weights).sum(), logits)[0] for x in (js, naive))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


def test_the_gradient_is_that_of_finite_differences() -> None:
    assert torch.autograd.gradcheck(jensen_shannon, drawn(2, 2, 2, V).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_extreme_logits_have_finite_terms_and_gradients(size: float, dtype: torch.dtype) -> None:
    signs = torch.randint(2, (B, T, 2, V), generator=torch.Generator().manual_seed(6)) * 2 - 1
    logits = (size * signs).to(dtype).requires_grad_()
    js = jensen_shannon(logits)
    assert ((js >= -1e-6) & (js <= math.log(2) + 1e-6)).all()
    loss = loss_of(two_heads(0.5), logits, some_targets())
    (grad,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert grad.isfinite().all()
    assert grad.dtype is dtype


def test_half_precision_logits_have_the_divergence_of_their_values() -> None:
    logits = drawn(B, T, 2, V, dtype=torch.bfloat16)
    torch.testing.assert_close(jensen_shannon(logits).double(), naive_js(logits.double()), rtol=0, atol=1e-6)
