"""Events: unique in a branch, counted as documented, and read off any tokenizer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_llm.data.template import MARKERS, SPECIALS
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.generation.events import EventClock, EventKeys, ends_sentence_V

WORDS = Tokenizer.of_words(["the", "plot", "is", "dull", "i", "slept", "great!", "why?", ".", ","], 30)
REVIEWS = ["what a film. really!! why? because... it is 3.5 stars (of 5.) overall.", 'he said "no." and left!'] * 3


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (EventKeys.event, [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1), (1, 2), (2, 0)]),
        (EventKeys.position, [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (0, 6), (0, 7), (0, 8)]),
    ],
)
def test_events_of_the_documented_example(keys: EventKeys, expected: list[tuple[int, int]]) -> None:
    tokens = [*WORDS.encode("the plot is dull. i slept."), WORDS.end_ids[0]]
    assert EventClock(keys, ends_sentence_V(WORDS)).events_of(tokens) == expected


@given(
    keys=st.sampled_from(EventKeys),
    ends=st.lists(st.booleans(), min_size=6, max_size=6),
    tokens=st.lists(st.integers(0, 5), max_size=60),
)
def test_no_key_occurs_twice_in_a_branch(keys: EventKeys, ends: list[bool], tokens: list[int]) -> None:
    events = EventClock(keys, np.array(ends)).events_of(tokens)
    assert len(set(events)) == len(tokens)
    assert events == sorted(events)


def test_branches_of_different_length_meet_again_in_the_next_sentence() -> None:
    short, long = WORDS.encode("dull. i slept."), WORDS.encode("the plot is dull, dull, dull. i slept.")
    clock = EventClock(EventKeys.event, ends_sentence_V(WORDS))
    assert clock.events_of(short)[-3:] == clock.events_of(long)[-3:] == [(1, 0), (1, 1), (1, 2)]


def test_branches_part_from_one_clock_without_touching_each_other() -> None:
    stop, word = WORDS.encode(". dull")
    fork = EventClock(EventKeys.event, ends_sentence_V(WORDS)).after(word)
    ended, went_on = fork.after(stop), fork.after(word)
    assert (fork.event, ended.event, went_on.event) == ((0, 1), (1, 0), (0, 2))


def test_stops_exclamations_and_questions_end_a_sentence() -> None:
    ends_V = ends_sentence_V(WORDS)
    assert {WORDS.token(int(index)) for index in ends_V.nonzero()[0]} == {".", "great!", "why?"}


@pytest.mark.parametrize("split_words", [True, False])
@pytest.mark.parametrize("protocol", ["fair", "reference"])
def test_entries_of_byte_level_bpe_end_a_sentence_if_their_text_does(protocol: str, split_words: bool) -> None:
    if protocol == "fair":
        tokenizer = Tokenizer.fit_bytes(REVIEWS, 320, split_words)
    else:
        tokenizer = Tokenizer.fit_reference(
            [f"<bos>[REVIEW] {text} [/REVIEW]<eos>" for text in REVIEWS], 120, split_words
        )
    ends_V = ends_sentence_V(tokenizer)
    assert ends_V.shape == (tokenizer.vocab_size,)
    for index in range(tokenizer.vocab_size):
        assert ends_V[index] == (tokenizer.decode([index])[-1:] in [*".!?"])
    longer = [tokenizer.token(int(index)) for index in ends_V.nonzero()[0] if len(tokenizer.token(int(index))) > 1]
    assert longer  # a merge that ends a sentence


def test_special_tokens_end_no_sentence() -> None:
    ends_V = ends_sentence_V(Tokenizer.fit_bytes(REVIEWS, 300, split_words=True))
    assert not ends_V[: len(SPECIALS) + len(MARKERS)].any()
