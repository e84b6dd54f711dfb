"""Turn order, medians and ratios on ways that tell scripted figures; ceilings of the real machine, tiny."""

import math

import pytest

from nano_llm.bench.harness import (
    Ceilings,
    Figures,
    Key,
    Measured,
    Turn,
    Way,
    field,
    ranged,
    ratio,
    spread,
    take_turns,
    timed,
    told,
)

A, B = ("a", 1), ("b", 1)


def turns_of(seconds_a: list[float], seconds_b: list[float]) -> list[Turn]:
    return [Turn({}, {A: {"seconds": a}, B: {"seconds": b}}) for a, b in zip(seconds_a, seconds_b, strict=True)]


def test_all_ways_go_once_in_every_turn_after_the_ceilings() -> None:
    gone = []

    def way(name: str) -> Way:
        def go() -> Figures:
            gone.append(name)
            return {"seconds": float(len(gone))}

        return go

    turns = take_turns({A: way("a"), B: way("b")}, 2, way("ceilings"))
    assert gone == ["ceilings", "a", "b"] * 2
    assert told(turns, A) == [2, 5]
    assert told(turns, B) == [3, 6]
    assert [turn.ceilings for turn in turns] == [{"seconds": 1}, {"seconds": 4}]


def test_a_step_takes_what_the_clock_says() -> None:
    clock, taken = iter([10.0, 12.5]), []
    assert timed(lambda: taken.append("step"), lambda: next(clock))() == {"seconds": 2.5}
    assert taken == ["step"]


@pytest.mark.parametrize(("values", "median"), [([3.0], 3.0), ([3, 1, 2], 2), ([4, 1, 2, 3], 2.5)])
def test_a_spread_is_the_median_and_its_ends(values: list[float], median: float) -> None:
    assert spread(values) == {"median": median, "lowest": min(values), "highest": max(values)}


def test_a_ratio_is_taken_within_each_turn() -> None:
    turns = turns_of([1.0, 10.0, 2.0], [1.0, 5.0, 4.0])  # medians 2 and 4
    assert ratio(turns, A, B) == {"median": 1.0, "lowest": 0.5, "highest": 2.0}


def test_a_table_spells_medians_and_leaves_out_what_a_row_has_not() -> None:
    columns = {"way": field("way"), "s (lowest-highest)": ranged("s", ".1f"), "share": field("share", ".0%")}
    rows = [{"way": "a", "s": spread([1, 2, 4]), "share": spread([0.25])}, {"way": "b", "s": spread([3])}]
    assert Measured({}, [], rows, columns).table().splitlines() == [
        "| way | s (lowest-highest) | share |",
        "| --- | --- | --- |",
        "| a | 2.0 (1.0-4.0) | 25% |",
        "| b | 3.0 (3.0-3.0) |  |",
    ]


def test_the_ceilings_of_all_turns_are_summed_up() -> None:
    no_figures: dict[Key, Figures] = {}
    turns = [Turn({"read": rate}, no_figures) for rate in (20.0, 30.0, 10.0)]
    assert Measured({}, turns, [], {}).ceilings() == {"read": {"median": 20.0, "lowest": 10.0, "highest": 30.0}}


def test_the_machine_has_ceilings() -> None:
    ceilings = Ceilings(product=(8, 4, 8), num_bytes=1 << 12)()
    assert list(ceilings) == [
        "fp32_gigaflops_per_second",
        "bf16_gigaflops_per_second",
        "read_gigabytes_per_second",
        "copy_gigabytes_per_second",
    ]
    assert all(math.isfinite(rate) and rate > 0 for rate in ceilings.values())
