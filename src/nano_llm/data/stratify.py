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
