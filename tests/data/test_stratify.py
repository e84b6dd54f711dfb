"""Stratified draws."""

from hypothesis import given
from hypothesis import strategies as st

from nano_llm.data.stratify import grouped_draw, stratified_draw


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


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from("abcdefgh")), min_size=1, max_size=60), st.data())
def test_a_grouped_draw_takes_whole_groups_and_no_label_beyond_its_share(
    rows: list[tuple[int, str]], data: st.DataObject
) -> None:
    labels, groups = [label for label, _ in rows], [group for _, group in rows]
    num = data.draw(st.integers(0, len(rows)))
    drawn, left = grouped_draw(labels, groups, num, seed=data.draw(st.integers(0, 5)))
    assert sorted([*drawn, *left]) == list(range(len(rows)))
    assert not {groups[row] for row in drawn} & {groups[row] for row in left}
    assert len(drawn) <= num
    for label in (0, 1):
        assert sum(labels[row] == label for row in drawn) < num * labels.count(label) / len(labels) + 1


def test_a_grouped_draw_fills_the_shares_where_small_groups_allow() -> None:
    labels = [0, 1] * 30
    groups = [f"movie {row // 6}" if row < 30 else f"single {row}" for row in range(60)]
    for seed in range(20):
        drawn, _ = grouped_draw(labels, groups, 20, seed)
        assert sum(labels[row] for row in drawn) == 10
        assert len(drawn) == 20


def test_the_seed_decides_groups_and_order() -> None:
    labels, groups = [0, 1] * 20, [str(row // 2) for row in range(40)]
    assert grouped_draw(labels, groups, 10, 3) == grouped_draw(labels, groups, 10, 3)
    assert set(grouped_draw(labels, groups, 10, 3)[0]) != set(grouped_draw(labels, groups, 10, 4)[0])
