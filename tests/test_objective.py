"""The objective: the factual outcome's nats, a bounded divergence, and sums that are divided once."""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nano_llm.config.compose import compose_config
from nano_llm.config.schema import LossAverage, ModelConfig, SeparationKind, TwoHeadConfig, Weighting
from nano_llm.data.batches import IGNORE, Batch
from nano_llm.objective import (
    Objective,
    Sum,
    cross_entropies,
    cross_entropy,
    evidence,
    factual,
    jensen_shannon,
    log_chance_of_another,
    posterior_divergence,
)

B, T, V = 4, 6, 7
TREATMENT = torch.tensor([0, 1, 1, 0])
AVERAGES = list(LossAverage)


@cache
def composed(model: str) -> ModelConfig:
    return compose_config([f"model={model}"]).model


def two_heads(
    weight: float,
    average: LossAverage = LossAverage.token,
    kind: str = "js",
    weighting: str = "none",
    **knobs: float,
) -> Objective:
    config = composed("tarnet")
    assert isinstance(config, TwoHeadConfig)
    separation = replace(config.separation, kind=SeparationKind(kind), weight=weight, **knobs)
    return Objective(replace(config, separation=separation, weighting=Weighting(weighting)), average)


def batch_of(
    targets: Tensor,
    treatment: Tensor | None = None,
    prompt_length: Tensor | None = None,
    propensity: Tensor | None = None,
    num_pairs: int = 0,
) -> Batch:
    """Windows whose prompt is <bos> alone, unless told otherwise; the objective reads no inputs."""
    rows = len(targets)
    ones = torch.ones(rows, dtype=torch.long)
    return Batch(
        inputs_BT=torch.zeros_like(targets),
        targets_BT=targets,
        treatment_B=TREATMENT[:rows] if treatment is None else treatment,
        prompt_length_B=ones if prompt_length is None else prompt_length,
        review_B=torch.arange(rows),
        propensity_B=torch.full((rows,), 0.5) if propensity is None else propensity,
        num_pairs=num_pairs,
    )


def terms_of(objective: Objective, logits: Tensor, targets: Tensor, treatment: Tensor) -> dict[str, Sum]:
    return objective.terms(logits, batch_of(targets, treatment))


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
    batch = batch_of(targets, treatment)
    return objective.loss(objective.terms(logits, batch), objective.counts(batch))


# -------------------------------------------------------------------------------------- cross-entropy


@pytest.mark.parametrize("num_outcomes", [1, 2])
def test_cross_entropy_is_that_of_the_factual_outcome(num_outcomes: int) -> None:
    logits, targets = drawn(B, T, num_outcomes, V), some_targets()
    objective = Objective(composed("vanilla" if num_outcomes == 1 else "tarnet"), LossAverage.token)
    terms = terms_of(objective, logits, targets, TREATMENT)
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
    terms = terms_of(two_heads(0.1), logits, targets, TREATMENT)
    exact = terms_of(two_heads(0.1), logits.double(), targets, TREATMENT)
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
    assert objective.counts(batch_of(targets))["row_ce"].item() == B


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
    counts = [objective.counts(batch_of(part)) for part in targets.split(sizes)]
    joint = {name: torch.stack([count[name] for count in counts]).sum() for name in counts[0]}
    whole = objective.counts(batch_of(targets))
    assert {name: count.item() for name, count in joint.items()} == {name: n.item() for name, n in whole.items()}
    parts = zip(logits.split(sizes), targets.split(sizes), TREATMENT.split(sizes), strict=True)
    total = sum(objective.loss(terms_of(objective, *part), joint) for part in parts)
    expected = loss_of(objective, logits, targets)
    torch.testing.assert_close(total, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(torch.autograd.grad(total, logits), torch.autograd.grad(expected, logits))


@pytest.mark.parametrize("average", AVERAGES)
def test_every_term_has_the_count_that_targets_alone_give(average: LossAverage) -> None:
    objective, targets = two_heads(0.5, average), some_targets()
    terms = terms_of(objective, drawn(B, T, 2, V), targets, TREATMENT)
    counts = objective.counts(batch_of(targets))
    assert {name: term.count.item() for name, term in terms.items()} == {n: c.item() for n, c in counts.items()}


# -------------------------------------------------------------------------------- the separation term


@pytest.mark.parametrize("average", AVERAGES)
def test_the_penalty_joins_the_loss_and_no_other_figure(average: LossAverage) -> None:
    logits, targets = drawn(B, T, 2, V), some_targets()
    plain, rewarded = two_heads(0.0, average), two_heads(0.3, average)
    plain_terms, terms = (terms_of(each, logits, targets, TREATMENT) for each in (plain, rewarded))
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
@pytest.mark.parametrize(("kind", "weight"), [(kind.name, 0.0) for kind in SeparationKind] + [("none", 0.5)])
def test_without_weight_or_kind_it_is_exactly_the_plain_objective(
    kind: str, weight: float, average: LossAverage
) -> None:
    objective, targets = two_heads(weight, average, kind), some_targets()
    assert not list(objective.parameters())
    assert not objective.reads_pairs
    logits = drawn(B, T, 2, V).requires_grad_()
    terms = terms_of(objective, logits, targets, TREATMENT)
    loss = objective.loss(terms, objective.counts(batch_of(targets)))
    name = "row_ce" if average is LossAverage.row else "ce"
    assert "js" not in terms
    assert "js" not in objective.counts(batch_of(targets))
    assert torch.equal(loss, terms[name].total / terms[name].count)
    (grad,) = torch.autograd.grad(loss, logits)
    (plain,) = torch.autograd.grad(loss_of(two_heads(0.0, average, "none"), logits, targets), logits)
    assert torch.equal(grad, plain)


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


# ----------------------------------------------------------------------------------- the other terms

PROMPT = torch.tensor([4, 5, 1, 2])
"""With `some_targets`, the rows have 3, 2, 1 and 3 review targets; the first two lose some to the prompt."""
TEXT_KINDS = ["posterior_js", "bayes", "margin", "unlikelihood"]
KINDS = [*TEXT_KINDS, "cad_pairs"]


def naive_term(kind: str, logits_BTKV: Tensor, batch: Batch) -> Tensor:
    """The mean of a term by its formula, target by target: scale 10, margin 0.4, threshold 0.5."""
    values = []
    for row, treatment in enumerate(batch.treatment_B.tolist()):
        score, told = [torch.zeros(()), torch.zeros(())], 0.0
        length = 0
        for t, target in enumerate(batch.targets_BT[row].tolist()):
            if target == IGNORE or t + 1 < batch.prompt_length_B[row]:
                continue
            p0, p1 = logits_BTKV[row, t].softmax(-1)
            if kind == "posterior_js":
                pi = 1 / (1 + math.exp(-told))
                m = pi * p1 + (1 - pi) * p0
                values.append(pi * (p1 * (p1 / m).log()).sum() + (1 - pi) * (p0 * (p0 / m).log()).sum())
            lead = ((p1 / p0)[target].log() * (2 * treatment - 1)).item()
            if kind == "unlikelihood":
                other = (p0, p1)[1 - treatment][target]
                values.append(-(1 - other).log() if lead > 0.5 else 0 * other)
            score = [s + p[target].log() for s, p in zip(score, (p0, p1), strict=True)]
            told += (p1[target] / p0[target]).log().item()
            length += 1
        if kind == "bayes":
            values.append(-(10 * torch.stack(score) / length).log_softmax(0)[treatment])
        if kind == "margin":
            values.append((0.4 - (score[treatment] - score[1 - treatment])).clamp(min=0) / length)
    return torch.stack(values).mean()


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_each_term_has_the_value_and_gradient_of_its_formula(kind: str, average: LossAverage) -> None:
    logits, batch = drawn(B, T, 2, V).div(3).requires_grad_(), batch_of(some_targets(), prompt_length=PROMPT)
    objective, plain = two_heads(0.3, average, kind), two_heads(0.0, average)
    terms = objective.terms(logits, batch)
    naive = naive_term(kind, logits, batch)
    mean = terms[kind].total / terms[kind].count
    assert naive > 0
    torch.testing.assert_close(mean, naive, rtol=1e-6, atol=0)
    ours, theirs = (torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (mean, naive))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-9)
    ce = plain.loss(plain.terms(logits, batch), plain.counts(batch))
    expected = {"posterior_js": ce - 0.3 * naive, "bayes": 0.7 * ce + 0.3 * naive}.get(kind, ce + 0.3 * naive)
    torch.testing.assert_close(objective.loss(terms, objective.counts(batch)), expected, rtol=1e-6, atol=0)
    assert terms["ce"].total.item() == pytest.approx(plain.terms(logits, batch)["ce"].total.item(), rel=1e-12)


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_the_prompt_and_ignored_targets_play_no_part_in_terms_of_the_text(kind: str) -> None:
    logits, batch = drawn(B, T, 2, V).requires_grad_(), batch_of(some_targets(), prompt_length=PROMPT)
    outside = batch.review_targets_BT == IGNORE
    term = two_heads(0.3, kind=kind).terms(logits, batch)[kind]
    (grad,) = torch.autograd.grad(term.total, logits)
    assert not grad[outside].any()
    assert grad[~outside].any()
    changed = torch.where(outside[..., None, None], drawn(B, T, 2, V, seed=3) * 1e3, logits)
    assert torch.equal(two_heads(0.3, kind=kind).terms(changed, batch)[kind].total, term.total)


def pairs_batch(num_pairs: int = 2) -> Batch:
    """Four ordinary rows, then pairs whose members take turns."""
    rows = B + 2 * num_pairs
    targets = torch.randint(V, (rows, T), generator=torch.Generator().manual_seed(8))
    targets[:B] = some_targets()
    targets[-1, 4:] = IGNORE
    treatment = torch.cat([TREATMENT, torch.arange(2).repeat(num_pairs)])
    return batch_of(targets, treatment, torch.full((rows,), 2), num_pairs=num_pairs)


def test_pairs_are_told_apart_by_their_log_ratios() -> None:
    batch = pairs_batch()
    logits = drawn(len(batch), T, 2, V).requires_grad_()
    log_p = logits.log_softmax(-1)
    values = []
    for negative in (B, B + 2):
        score, length = [], 0
        for row in (negative, negative + 1):
            chosen = [(t, k) for t, k in enumerate(batch.targets_BT[row].tolist()) if t >= 1 and k != IGNORE]
            score.append(sum(log_p[row, t, 1, k] - log_p[row, t, 0, k] for t, k in chosen))
            length += len(chosen)
        values.append(-F.logsigmoid(2.5 * (score[1] - score[0]) / (length / 2)))
    objective = two_heads(0.3, kind="cad_pairs", scale=2.5)
    terms, counts = objective.terms(logits, batch), objective.counts(batch)
    assert terms["cad_pairs"].count.item() == 2
    torch.testing.assert_close(terms["cad_pairs"].total, sum(values, torch.zeros(())), rtol=1e-6, atol=0)
    # Pairs enter no cross-entropy.
    assert torch.equal(terms["ce"].total, two_heads(0.0).terms(logits[:B], batch.ordinary())["ce"].total)
    assert counts["ce"].item() == batch.num_targets == 14
    expected = terms["ce"].total / 14 + 0.3 * terms["cad_pairs"].total / 2
    torch.testing.assert_close(objective.loss(terms, counts), expected)


def test_a_pair_of_one_text_teaches_nothing_and_a_shared_prefix_cancels() -> None:
    batch = pairs_batch(1)
    batch.targets_BT[-1] = batch.targets_BT[-2]
    logits = drawn(B, T, 2, V)[[0, 1, 2, 3, 3, 3]].requires_grad_()
    objective = two_heads(0.3, kind="cad_pairs")

    def term() -> tuple[Tensor, Tensor]:
        total = objective.terms(logits, batch)["cad_pairs"].total
        return total, torch.autograd.grad(total, logits)[0][-2:].sum(0)

    total, grad = term()
    assert total.item() == pytest.approx(math.log(2), rel=1e-6)
    torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-15)
    batch.targets_BT[-1, -1] = (batch.targets_BT[-2, -1] + 1) % V  # the texts part at their last word
    _, grad = term()
    torch.testing.assert_close(grad[:-1], torch.zeros_like(grad[:-1]), rtol=0, atol=1e-15)
    assert grad[-1].any()


def test_equal_outcomes_have_the_known_values() -> None:
    logits = drawn(8, T, 1, V).expand(8, T, 2, V)
    batch = pairs_batch()
    pairs = two_heads(0.3, kind="cad_pairs").terms(logits, batch)["cad_pairs"]
    assert pairs.total.item() == pytest.approx(2 * math.log(2), rel=1e-6)
    ordinary = batch_of(some_targets(), prompt_length=PROMPT)
    terms = {kind: two_heads(0.3, kind=kind).terms(logits[:B], ordinary)[kind] for kind in TEXT_KINDS}
    assert terms["posterior_js"].total.item() == pytest.approx(0, abs=1e-12)
    assert terms["bayes"].total.item() == pytest.approx(B * math.log(2), rel=1e-6)
    assert terms["margin"].total.item() == pytest.approx(0.4 * (1 / 3 + 1 / 2 + 1 / 1 + 1 / 3), rel=1e-6)
    assert terms["unlikelihood"].total.item() == 0


def test_margin_zero_asks_nothing_of_a_window_that_favours_its_own_outcome() -> None:
    logits, targets = torch.zeros(1, 1, 2, V), torch.tensor([[3]])
    logits[0, 0, 1, 3] = 1.0
    right, wrong = (batch_of(targets, torch.tensor([treatment])) for treatment in (1, 0))
    objective = two_heads(1.0, kind="margin", margin=0.0)
    assert objective.terms(logits, right)["margin"].total.item() == 0
    assert objective.terms(logits, wrong)["margin"].total.item() > 0


def test_the_threshold_runs_from_no_unlikelihood_to_that_of_every_token() -> None:
    logits, batch = drawn(B, T, 2, V), batch_of(some_targets())
    none, every = (two_heads(1.0, kind="unlikelihood", threshold=q).terms(logits, batch) for q in (math.inf, -math.inf))
    assert none["unlikelihood"].total.item() == 0
    other = factual(logits.softmax(-1), 1 - TREATMENT)
    p = other.gather(2, batch.targets_BT.clamp(min=0)[..., None]).squeeze(2)[batch.targets_BT != IGNORE]
    assert every["unlikelihood"].total.item() == pytest.approx(-(1 - p).log().sum().item(), rel=1e-6)


def test_bayes_learns_a_scale_and_a_bias() -> None:
    logits, targets = drawn(B, T, 2, V), some_targets()
    objective = two_heads(0.3, kind="bayes", scale=4.0)
    assert {name: p.shape for name, p in objective.named_parameters()} == {"log_scale": (), "bias_K": (2,)}
    assert objective.log_scale.exp().item() == pytest.approx(4)
    loss_of(objective, logits, targets).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in objective.parameters())
    # A bias that knows nothing but the treatment's share moves equal outcomes to it.
    with torch.no_grad():
        objective.bias_K.copy_(torch.tensor([0.25, 0.75]).log())
    equal = torch.zeros(B, T, 2, V, dtype=torch.float64)
    total = terms_of(objective, equal, targets, torch.ones(B, dtype=torch.long))["bayes"].total
    assert total.item() == pytest.approx(-B * math.log(0.75), rel=1e-6)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_terms_of_parts_over_joint_counts_add_up(kind: str, average: LossAverage) -> None:
    objective, logits, targets = two_heads(0.5, average, kind), drawn(B, T, 2, V).requires_grad_(), some_targets()
    whole = batch_of(targets, prompt_length=PROMPT)
    parts = [batch_of(targets[rows], TREATMENT[rows], PROMPT[rows]) for rows in (slice(1), slice(1, 4))]
    counts = [objective.counts(part) for part in parts]
    joint = {name: torch.stack([count[name] for count in counts]).sum() for name in counts[0]}
    total = sum(
        objective.loss(objective.terms(logits[rows], part), joint)
        for rows, part in zip((slice(1), slice(1, 4)), parts, strict=True)
    )
    expected = objective.loss(objective.terms(logits, whole), objective.counts(whole))
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_extreme_posteriors_have_finite_terms_and_gradients(kind: str, dtype: torch.dtype, size: float) -> None:
    """Logits to 1e4 give windows whose posterior is 0 or 1 to any precision, and tokens that are certain."""
    batch = pairs_batch()
    signs = torch.randint(2, (len(batch), T, 2, V), generator=torch.Generator().manual_seed(6)) * 2 - 1
    signs[0] = -1
    signs[0, :, 0, 0] = 1  # outcome 0 is certain of a token
    logits = (size * signs).to(dtype).requires_grad_()
    objective = two_heads(0.5, kind=kind, **({"threshold": -math.inf} if kind == "unlikelihood" else {}))
    batch = batch if kind == "cad_pairs" else batch.ordinary()
    loss = objective.loss(objective.terms(logits[: len(batch)], batch), objective.counts(batch))
    grads = torch.autograd.grad(loss, [logits, *objective.parameters()])
    assert loss.isfinite()
    assert all(grad.isfinite().all() for grad in grads)


def test_the_chance_of_another_token_is_exact_where_a_token_is_certain() -> None:
    logits = torch.tensor([[[60.0, 0.0, 0.0], [0.0, 1.0, 2.0]]], dtype=torch.float64)
    found = log_chance_of_another(logits, torch.tensor([[0, 0]]))
    p = logits[0, 1].softmax(-1)
    assert found[0, 0].item() == pytest.approx(math.log(2) - 60, rel=1e-12)
    assert found[0, 1].item() == pytest.approx(math.log(1 - p[0].item()), rel=1e-12)


# ---------------------------------------------------------------------------- the posterior divergence


def test_evidence_is_what_earlier_targets_of_the_window_have_told() -> None:
    logits, targets = drawn(2, T, 2, V).requires_grad_(), some_targets()[:2]
    nll = cross_entropies(logits, targets)
    told = evidence(nll)
    assert not told.requires_grad
    assert told[:, 0].tolist() == [0, 0]
    for row in range(2):
        for t in range(T):
            scored = [u for u in range(t) if targets[row, u] != IGNORE]
            log_p = logits[row].log_softmax(-1)
            expected = sum((log_p[u, 1, targets[row, u]] - log_p[u, 0, targets[row, u]]).item() for u in scored)
            assert told[row, t].item() == pytest.approx(expected, abs=1e-12)


def test_at_even_odds_the_posterior_divergence_is_jensen_shannons() -> None:
    logits = drawn(B, T, 2, V).requires_grad_()
    js, even = jensen_shannon(logits), posterior_divergence(logits, torch.zeros(B, T))
    torch.testing.assert_close(even, js, rtol=1e-11, atol=1e-14)
    ours, theirs = (torch.autograd.grad(x.sum(), logits)[0] for x in (even, js))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
def test_the_posterior_divergence_is_at_most_the_entropy_of_the_posterior(spread: float) -> None:
    logits, told = spread * drawn(B, T, 2, V), drawn(B, T, seed=9)
    entropy = torch.distributions.Bernoulli(logits=told).entropy()
    divergence = posterior_divergence(logits, told)
    assert (divergence >= -1e-15).all()
    assert (divergence <= entropy + 1e-12).all()
    certain = posterior_divergence(logits, torch.full_like(told, 1e6))
    torch.testing.assert_close(certain, torch.zeros_like(certain), rtol=0, atol=1e-15)


def test_the_gradient_of_the_posterior_divergence_is_that_of_finite_differences() -> None:
    told = drawn(2, 2, seed=9)
    assert torch.autograd.gradcheck(lambda x: posterior_divergence(x, told), drawn(2, 2, 2, V).requires_grad_())


# ------------------------------------------------------------------------------------- the theory held


POSTERIORS = (0.5, 0.9, 0.99, 0.998)


def learned(kind: str, weight: float, effect: float) -> tuple[Tensor, Tensor, Tensor]:
    """Fit a table of two outcomes to a law, one context for each of `POSTERIORS`, by the exact expected loss.

    Returns:
        KL(truth, head) of both outcomes (contexts, 2), the divergence of the heads (contexts,), that of the truth.
    """
    generator = torch.Generator().manual_seed(0)
    common, difference = torch.randn(2, 40, generator=generator, dtype=torch.float64)
    p_KV = torch.stack([common - effect * difference, common + effect * difference]).softmax(-1)
    pi_N = torch.tensor(POSTERIORS, dtype=torch.float64)
    share_NK1 = torch.stack([1 - pi_N, pi_N], dim=1)[..., None]
    start = p_KV.log() + 0.05 * torch.randn(len(pi_N), 2, 40, generator=generator, dtype=torch.float64)
    logits_NKV = start.requires_grad_()
    optimizer = torch.optim.Adam([logits_NKV], lr=0.05)
    for _ in range(1000):
        ce = -(share_NK1 * p_KV * logits_NKV.log_softmax(-1)).sum()
        if kind == "js":
            reward = jensen_shannon(logits_NKV[None])
        else:
            reward = posterior_divergence(logits_NKV[None], pi_N.logit()[None])
        optimizer.zero_grad()
        (ce - weight * reward.sum()).backward()
        optimizer.step()
    with torch.no_grad():
        kl_NK = (p_KV * (p_KV.log() - logits_NKV.log_softmax(-1))).sum(-1)
        return kl_NK, jensen_shannon(logits_NKV[None])[0], jensen_shannon(p_KV.log()[None, None])[0]


def test_a_reward_for_divergence_drives_the_other_head_from_the_truth_where_the_treatment_is_told() -> None:
    """Unstable where w > 4 pi (1 - pi): for w = 0.02 beyond pi = 0.995. The factual head hardly moves."""
    kl_NK, js_N, _ = learned("js", 0.02, effect=0.0)
    assert kl_NK[:3].max() < 1e-4
    assert js_N[:3].max() < 1e-4
    assert kl_NK[3, 0] > 1
    assert js_N[3] > 0.3
    assert kl_NK[:, 1].max() < 1e-4


@pytest.mark.parametrize("effect", [0.0, 0.2])
def test_a_reward_for_posterior_divergence_leaves_both_heads_at_the_truth(effect: float) -> None:
    """Stable for every w < 1 at every pi."""
    kl_NK, js_N, truth = learned("posterior_js", 0.02, effect)
    assert kl_NK.max() < 1e-4
    torch.testing.assert_close(js_N, truth.expand(4), rtol=0.06, atol=1e-5)


# ------------------------------------------------------------------------------------------ weighting


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("kind", ["none", "js", "posterior_js"])
def test_at_even_propensity_weighted_windows_give_the_unweighted_loss_bit_for_bit(
    kind: str, average: LossAverage
) -> None:
    logits, targets = drawn(B, T, 2, V, dtype=torch.float32).requires_grad_(), some_targets()
    plain, weighted = (
        loss_of(two_heads(0.1, average, kind, weighting), logits, targets)
        for weighting in ("none", "inverse_propensity")
    )
    assert torch.equal(plain, weighted)
    assert torch.equal(*(torch.autograd.grad(loss, logits)[0] for loss in (plain, weighted)))


@pytest.mark.parametrize("average", AVERAGES)
def test_a_window_weighs_the_inverse_of_the_chance_of_its_treatment(average: LossAverage) -> None:
    logits, targets = drawn(B, T, 2, V), some_targets()
    batch = batch_of(targets, propensity=torch.tensor([0.2, 0.8, 0.5, 0.9]))
    weights = [0.5 / 0.8, 0.5 / 0.8, 1.0, 0.5 / 0.1]  # treatments 0, 1, 1, 0
    rows = nats_by_hand(logits, targets, TREATMENT)
    objective = two_heads(0.0, average, weighting="inverse_propensity")
    if average is LossAverage.row:
        expected = sum(w * sum(nats) / len(nats) for w, nats in zip(weights, rows, strict=True)) / B
    else:
        expected = sum(w * sum(nats) for w, nats in zip(weights, rows, strict=True)) / 14
    terms = objective.terms(logits, batch)
    assert objective.loss(terms, objective.counts(batch)).item() == pytest.approx(expected, rel=1e-6)
    assert terms["ce"].total.item() == pytest.approx(sum(map(sum, rows)), rel=1e-12)
