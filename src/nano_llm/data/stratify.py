"""Seeded draws that keep the shares of the labels."""

import random
from collections.abc import Sequence


def stratified_draw(labels: Sequence[int], num: int, seed: int) -> tuple[list[int], list[int]]:
    """Draw rows so that each label keeps its share, to within one row.

    For as many rows of either label the draw is the reference's for the same seed, order included.

    Args:
        labels: 0 or 1 for each row.
        num: Rows to draw, at most as many as there are.
        seed: Decides the rows and the order of both lists.

    Returns:
        The indices drawn and those left over, both in random order.
    """
    negative = [row for row, label in enumerate(labels) if label == 0]
    positive = [row for row, label in enumerate(labels) if label == 1]
    rng = random.Random(seed)
    rng.shuffle(negative)
    rng.shuffle(positive)
    num_negative = num * len(negative) // len(labels)
    num_positive = num - num_negative
    drawn = negative[:num_negative] + positive[:num_positive]
    left = negative[num_negative:] + positive[num_positive:]
    rng.shuffle(drawn)
    rng.shuffle(left)
    return drawn, left


def grouped_draw(labels: Sequence[int], groups: Sequence[str], num: int, seed: int) -> tuple[list[int], list[int]]:
    """Draw whole groups until each label has its share of ``num`` rows, as nearly as whole groups allow.

    The groups come in random order; one that would exceed the share of a label is passed over.

    Args:
        labels: 0 or 1 for each row.
        groups: The group of each row.
        num: Rows to draw, at most as many as there are.
        seed: Decides the groups and the order of both lists.

    Returns:
        The indices drawn, at most ``num``, and those left over, both in random order. No group is in both.
    """
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    order = list(members)
    rng = random.Random(seed)
    rng.shuffle(order)
    room_positive = num - num * labels.count(0) // len(labels)
    room_negative = num - room_positive
    drawn: list[int] = []
    left: list[int] = []
    for group in order:
        rows = members[group]
        num_positive = sum(labels[row] for row in rows)
        num_negative = len(rows) - num_positive
        if num_negative <= room_negative and num_positive <= room_positive:
            drawn += rows
            room_negative, room_positive = room_negative - num_negative, room_positive - num_positive
        else:
            left += rows
    rng.shuffle(drawn)
    rng.shuffle(left)
    return drawn, left
