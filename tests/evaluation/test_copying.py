"""Copying: by hand, and against a search of every run of words."""

import random

import pytest

from nano_llm.evaluation.copying import copy_rate
from nano_llm.evaluation.texts import words


def longest_run(text: str, training: list[str]) -> int:
    """Search every run of the text's words in every training text."""
    row = words(text)
    others = [" ".join(["", *words(other), ""]) for other in training]
    runs = ((start, stop) for start in range(len(row)) for stop in range(start + 1, len(row) + 1))
    found = (stop - start for start, stop in runs if any(" ".join(["", *row[start:stop], ""]) in o for o in others))
    return max(found, default=0)


def test_the_longest_run_by_hand() -> None:
    training = ["A fine film, it is a fine plot.", "the plot is dull"]
    texts = ["a fine plot is dull", "it is a fine film", "nothing shared", "the plot is dull!", ""]
    assert copy_rate(texts, training).tolist() == [3 / 5, 4 / 5, 0, 4 / 5, 0]


def test_a_run_spans_neither_two_training_texts_nor_two_texts() -> None:
    assert copy_rate(["a b c d"], ["a b", "c d"]).tolist() == [0.5]
    assert copy_rate(["a b", "c d"], ["a b c d"]).tolist() == [1, 1]
    assert copy_rate(["a b c d", "e f g h"], ["d e"]).tolist() == [0.25, 0.25]


@pytest.mark.parametrize("seed", range(12))
def test_every_run_of_random_texts(seed: int) -> None:
    """Few words, so that runs are long; some texts hold pieces of training texts, some repeat themselves."""
    generator = random.Random(seed)

    def text(num_words: int) -> str:
        return " ".join(generator.choices("abcd"[: generator.randint(1, 4)], k=num_words))

    training = [text(generator.randint(0, 40)) for _ in range(8)]
    texts = [text(generator.randint(0, 30)) for _ in range(8)]
    texts += [f"{text(3)} {training[index][: generator.randint(0, 60)]} {text(3)}" for index in range(4)]
    expected = [longest_run(one, training) / max(len(words(one)), 1) for one in texts]
    assert copy_rate(texts, training).tolist() == pytest.approx(expected)


def test_copies_of_training_texts_are_copied_whole() -> None:
    generator = random.Random(0)
    training = [" ".join(generator.choices("abcdefgh", k=200)) for _ in range(20)]
    assert copy_rate(training, training).tolist() == [1.0] * 20
    assert copy_rate(training[:1], training[1:])[0] < 0.1


def test_nothing_is_copied_from_nothing() -> None:
    assert copy_rate(["a b", ""], []).tolist() == [0, 0]
    assert copy_rate(["a b", ""], ["", ""]).tolist() == [0, 0]
    assert copy_rate([], ["a"]).tolist() == []
