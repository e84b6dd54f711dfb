"""Which steps may be taken: finite ones that are no spike; and when a run is given up."""

import math

import pytest
import torch

from nano_llm.config.compose import compose_config
from nano_llm.errors import DivergedError
from nano_llm.training.state import State
from nano_llm.training.watch import MAX_SKIPPED_IN_A_ROW, NUM_RECENT, FaultKind, Watch, find_fault

PASS_THROUGH = torch.amp.GradScaler("cpu", enabled=False)
USUAL = [1.0, 1.1, 0.9, 1.2] * (NUM_RECENT // 4)


def figures(loss: float = 5.0, norm: float = 1.0) -> list[float]:
    return [loss, 300.0, 0.0, 0.0, norm]


def watch(*overrides: str, scaler: torch.amp.GradScaler = PASS_THROUGH) -> Watch:
    return Watch(compose_config(overrides).trainer, scaler)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(5))
def test_every_figure_must_be_finite_and_a_bad_one_is_told(value: float, place: int) -> None:
    bad = figures()
    bad[place] = value
    fault = find_fault(bad, [], None)
    assert fault is not None
    assert fault.kind is (FaultKind.gradient if place == 4 else FaultKind.loss)
    assert f" {value:g}" in fault.text


def test_a_spike_is_told_by_the_median_of_recent_norms() -> None:
    assert find_fault(figures(norm=10.4), USUAL, 10.0) is None
    fault = find_fault(figures(norm=10.6), USUAL, 10.0)
    assert fault is not None
    assert fault.kind is FaultKind.spike
    assert "10.6 is 10.1 times the median of recent steps, 1.05" in fault.text
    assert "trainer.spike_factor" in fault.remedy


def test_no_step_is_a_spike_without_a_factor_or_before_the_usual_is_known() -> None:
    assert find_fault(figures(norm=1e9), USUAL, None) is None
    assert find_fault(figures(norm=1e9), USUAL[: NUM_RECENT // 2 - 1], 10.0) is None
    assert find_fault(figures(norm=1e9), USUAL[: NUM_RECENT // 2], 10.0) is not None


def test_a_gradient_after_none_at_all_is_a_spike() -> None:
    fault = find_fault(figures(norm=1.0), [0.0] * NUM_RECENT, 10.0)
    assert fault is not None
    assert "after gradients of 0" in fault.text


def test_what_was_skipped_is_not_among_the_usual() -> None:
    """Were it, one NaN would make the median NaN, and every later step pass or fail for no reason of its own."""
    judge, state = watch("trainer.bad_steps=skip", "trainer.spike_factor=10"), State()
    for step, norm in enumerate(USUAL, 1):
        assert judge.judge(state, step, figures(norm=norm)) is None
        for bad in (figures(loss=math.nan), figures(norm=math.inf)):
            assert judge.judge(state, step, bad) is not None
    assert state.recent_norms == USUAL
    assert judge.judge(state, 999, figures(norm=50.0)) is not None
    assert judge.judge(state, 999, figures(norm=2.0)) is None
    assert state.recent_norms == [*USUAL[1:], 2.0]


def test_norms_are_remembered_only_where_spikes_are_watched_for() -> None:
    state = State()
    watch().judge(state, 1, figures())
    assert state.recent_norms == []


def test_a_run_is_stopped_at_a_bad_step_unless_told_to_skip_it() -> None:
    with pytest.raises(DivergedError, match=r"Step 7 .*loss nan.*optimizer\.lr.*trainer\.bad_steps=skip"):
        watch().judge(State(), 7, figures(loss=math.nan))
    skipping = watch("trainer.bad_steps=skip")
    assert not watch().may_skip
    assert skipping.may_skip
    assert skipping.judge(State(), 7, figures(loss=math.nan)) is not None


def test_fp16_skips_what_its_scale_explains_and_nothing_else() -> None:
    judge = watch(scaler=torch.amp.GradScaler("cpu"))
    assert judge.may_skip
    assert judge.judge(State(), 7, figures(norm=math.inf), overflowed=True) is not None
    with pytest.raises(DivergedError, match=r"Step 7 .*loss inf"):
        judge.judge(State(), 7, figures(loss=math.inf, norm=math.inf), overflowed=True)
    with pytest.raises(DivergedError, match=r"Step 7 .*grad_norm inf"):
        judge.judge(State(), 7, figures(norm=math.inf), overflowed=False)


def test_so_many_skipped_in_a_row_end_the_run_and_one_good_step_starts_the_count_anew() -> None:
    judge, state = watch("trainer.bad_steps=skip"), State()
    bad = judge.judge(state, 1, figures(loss=math.nan))
    assert bad is not None
    for step in range(1, MAX_SKIPPED_IN_A_ROW):
        judge.count_skip(state, step, bad)
    assert judge.judge(state, MAX_SKIPPED_IN_A_ROW, figures()) is None
    first = MAX_SKIPPED_IN_A_ROW + 1
    for step in range(first, first + MAX_SKIPPED_IN_A_ROW - 1):
        judge.count_skip(state, step, bad)
    last = first + MAX_SKIPPED_IN_A_ROW - 1
    with pytest.raises(DivergedError, match=rf"Steps {first} to {last} were all skipped.*loss nan.*optimizer\.lr"):
        judge.count_skip(state, last, bad)
    assert state.num_skipped == 2 * MAX_SKIPPED_IN_A_ROW - 1


@pytest.mark.parametrize("halvings", [16, 30])
def test_a_loss_scale_that_collapses_is_told_as_one_however_high_it_had_grown(halvings: int) -> None:
    """Gradients that overflow under every scale: ``GradScaler`` halves it from 65536, or from 2^30, to below 1."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**halvings)
    judge, state = watch(scaler=scaler), State()
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([parameter])
    for step in range(1, halvings + 1):
        overflow(scaler, optimizer, parameter)
        fault = judge.judge(state, step, figures(norm=math.inf), overflowed=True)
        assert fault is not None
        judge.count_skip(state, step, fault)
    assert scaler.get_scale() == 1
    overflow(scaler, optimizer, parameter)
    last = halvings + 1
    with pytest.raises(DivergedError, match=rf"of fp16 has collapsed to 0\.5 at step {last}, the last of {last}"):
        judge.count_skip(state, last, fault)


def overflow(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter) -> None:
    parameter.grad = None
    scaler.scale((parameter * torch.tensor([1.0, math.inf])).sum()).backward()
    scaler.unscale_(optimizer)
    scaler.update()


def test_what_is_remembered_survives_being_stored() -> None:
    state = State(num_skipped=3, skipped_in_a_row=2, recent_norms=[0.1, 1 / 3])
    assert State.from_json(state.to_json()) == state
    older = {name: value for name, value in State().to_json().items() if "skipped" not in name and "norms" not in name}
    assert State.from_json(older) == State()
