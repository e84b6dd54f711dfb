"""Stratified draws."""

from hypothesis import given
from hypothesis import strategies as st

from nano_llm.data.stratify import stratified_draw


@given(st.lists(st.integers(0, 1), min_size=1, max_size=60), st.data(), st.integers(0, 5))
def test_a_draw_partitions_the_rows_and_keeps_the_shares(labels: list[int], data: st.DataObject, seed: int) -> None:
    num = data.draw(st.integers(0, len(labels)))
    drawn, left = stratified_draw(labels, num, seed)
    assert len(drawn) == num
    assert sorted([*drawn, *left]) == list(range(len(labels)))
    expected = num * sum(labels) / len(labels)
    assert abs(sum(labels[row] for row in drawn) - expected) < 1


def test_the_seed_decides_rows_and_order() -> None:
    labels = [0] * 50 + [1] * 50
    assert stratified_draw(labels, 10, 3) == stratified_draw(labels, 10, 3)
    assert stratified_draw(labels, 10, 3) != stratified_draw(labels, 10, 4)


def test_the_draw_of_a_seed_is_the_references_and_never_changes() -> None:
    drawn, left = stratified_draw([0] * 4 + [1] * 4, 5, 42)
    assert drawn == [6, 1, 7, 4, 2]
    assert left == [0, 5, 3]


def test_any_beginning_of_a_draw_is_mixed() -> None:
    drawn, left = stratified_draw([0] * 500 + [1] * 500, 400, 0)
    assert 60 < sum(row >= 500 for row in drawn[:150]) < 90
    assert 60 < sum(row >= 500 for row in left[:150]) < 90
