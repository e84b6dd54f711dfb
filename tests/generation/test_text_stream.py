"""Text of tokens that come one by one: whole characters, stop strings."""

from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_llm.data.tokenizer import Tokenizer
from nano_llm.errors import RequestError
from nano_llm.generation.text_stream import MAX_STOP_LENGTH, MAX_STOPS, TextStream, check_stops

TEXTS = ["the film was good and the plot was thin", "a naïve film 🎬, a thin plot. the cast was good"] * 4
BYTES = Tokenizer.fit_bytes(TEXTS, 300, split_words=True)
ACROSS = Tokenizer.fit_bytes(TEXTS, 300, split_words=False)
REFERENCE = Tokenizer.fit_reference(TEXTS, 300, split_words=True)
WORDS = Tokenizer.of_words(["the", "film", "is", "dull", "overall", ".", ","], 64)


def pieces_of(
    tokens: Sequence[int], tokenizer: Tokenizer, stop: Sequence[str] = (), newline: bool = False
) -> list[str]:
    stream = TextStream(tokenizer, stop, stop_newline=newline)
    return [*map(stream.push, tokens), stream.finish()]


def tokens_of(pieces: Sequence[str]) -> list[int]:
    """One list of tokens in which no token reaches across two pieces."""
    return [token for piece in pieces for token in BYTES.encode(piece)]


def cut_first(text: str, stops: Sequence[str]) -> str:
    """Read the text character by character up to the first end that is a stop string."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))]
    return text


def all_splits(text: str) -> list[list[str]]:
    borders = range(1, len(text))
    return [
        [text[a:b] for a, b in zip((0, *cuts), (*cuts, len(text)), strict=True)]
        for size in range(len(text))
        for cuts in combinations(borders, size)
    ]


@pytest.mark.parametrize("tokenizer", [BYTES, ACROSS, REFERENCE, WORDS], ids=["bytes", "across", "reference", "words"])
@given(data=st.data())
def test_pieces_of_any_tokens_join_to_the_decoded_text(tokenizer: Tokenizer, data: st.DataObject) -> None:
    tokens = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
    assert "".join(pieces_of(tokens, tokenizer)) == tokenizer.decode(tokens)


@given(st.binary(max_size=20))
def test_bytes_that_are_no_text_read_as_the_tokenizer_reads_them(data: bytes) -> None:
    token_of_byte = {spelled: token for token, spelled in enumerate(BYTES.bytes_V) if len(spelled) == 1}
    tokens = [token_of_byte[bytes([byte])] for byte in data]
    assert "".join(pieces_of(tokens, BYTES)) == BYTES.decode(tokens)


def test_tokens_spell_the_bytes_that_they_are_counted_by() -> None:
    for tokenizer in (BYTES, ACROSS):
        sizes = [len(spelled) for spelled in tokenizer.bytes_V]
        sizes[tokenizer.unk_id] = 1  # counted as a byte that the text had and the vocabulary lacks
        assert sizes == list(tokenizer.num_bytes_V)


@given(st.text(st.sampled_from("aé€🎬 "), max_size=12))
def test_only_whole_characters_are_released(text: str) -> None:
    tokens = BYTES.encode(text)
    pieces = pieces_of(tokens, BYTES)
    assert "\ufffd" not in "".join(pieces)
    shown = ""
    for number, piece in enumerate(pieces[:-1]):
        shown += piece
        # All that is whole is shown at once, when nothing could stop the text.
        assert shown == BYTES.decode(tokens[: number + 1]).rstrip("\ufffd")


def test_an_incomplete_last_character_reads_as_decoding_has_it() -> None:
    tokens = BYTES.encode("a€")[:-1]
    assert pieces_of(tokens, BYTES)[-1] == "\ufffd"
    assert "".join(pieces_of(tokens, BYTES)) == BYTES.decode(tokens) == "a\ufffd"


def test_special_tokens_add_nothing() -> None:
    assert pieces_of([1, 6, *WORDS.encode("the film."), 7, 2], WORDS) == ["", "", "the", " film", ".", "", "", ""]


def test_a_full_stop_may_come_first() -> None:
    assert "".join(pieces_of(WORDS.encode(". film"), WORDS)) == ". film" == WORDS.decode(WORDS.encode(". film"))


@pytest.mark.parametrize(
    ("text", "stop"),
    [
        ("a [END] b", ["[END]"]),
        ("aababc", ["ababc"]),
        ("xababd", ["abac", "babd"]),
        ("xabcd", ["abcd", "bc"]),
        ("xbcy", ["c", "bc"]),
        ("a film.", [" film", "fil"]),  # one token completes two
        ("aaab", ["aab"]),
        ("so [EN", ["[END]"]),
        ("café €!", ["é €"]),
        ("END", ["END", "x"]),
    ],
)
def test_the_first_stop_string_ends_the_text_however_tokens_cut_it(text: str, stop: list[str]) -> None:
    for split in all_splits(text):
        assert "".join(pieces_of(tokens_of(split), BYTES, stop)) == cut_first(text, stop)


@given(
    st.lists(st.text(st.sampled_from("ab"), min_size=1, max_size=3), max_size=8),
    st.lists(st.text(st.sampled_from("ab"), min_size=1, max_size=5), max_size=3),
)
def test_stop_strings_agree_with_reading_character_by_character(split: list[str], stop: list[str]) -> None:
    text = "".join(split)
    stream = TextStream(BYTES, stop)
    released = "".join([*map(stream.push, tokens_of(split)), stream.finish()])
    assert released == cut_first(text, stop)
    assert (stream.stopped_by is not None) == any(word in text for word in stop)


@given(st.text(st.sampled_from("abc"), max_size=12), st.text(st.sampled_from("abc"), min_size=1, max_size=4))
def test_text_is_held_only_while_it_could_begin_a_stop_string(text: str, stop: str) -> None:
    stream = TextStream(BYTES, [stop])
    shown = ""
    for end, token in enumerate(tokens_of(list(text)), start=1):
        shown += stream.push(token)
        if stream.stopped_by is not None:
            break
        beginnings = [stop[:size] for size in range(len(stop))]
        held = max((part for part in beginnings if text[:end].endswith(part)), key=len)
        assert shown + held == text[:end]


def test_nothing_follows_a_stop() -> None:
    stream = TextStream(WORDS, ["dull"])
    assert [stream.push(token) for token in WORDS.encode("film is dull overall")] == ["film", " is", " ", ""]
    assert stream.stopped_by is not None
    assert stream.push(WORDS.encode("the")[0]) == stream.finish() == ""


def test_the_longer_stop_string_takes_the_space_before_a_marker_that_is_text() -> None:
    assert not REFERENCE.has_markers
    tokens = BYTES.encode("a film [/REVIEW] and more")
    assert "".join(pieces_of(tokens, BYTES, ["[/REVIEW]", " [/REVIEW]"])) == "a film"


def test_no_stop_string_is_searched_for_in_what_a_text_begins_with() -> None:
    stream = TextStream(BYTES, ["\n\n", "ab"], stop_newline=True)
    given = "".join(map(stream.give, BYTES.encode("one\n\ntwo a")))
    assert given == "one\n\ntwo a"
    assert "".join(map(stream.push, BYTES.encode("b or a"))) == "b or "
    assert stream.stopped_by is None
    assert "".join(map(stream.push, BYTES.encode("b."))) == ""
    assert stream.stopped_by == "ab"


def test_the_end_of_a_text_is_found_in_what_it_begins_with_too() -> None:
    stream = TextStream(BYTES, ends=[" [/REVIEW]"])
    assert "".join(map(stream.give, BYTES.encode("a film [/REVIEW]"))) == "a film"
    assert stream.stopped_by == " [/REVIEW]"


def test_a_line_feed_stops_if_asked_to() -> None:
    tokens = BYTES.encode("one\ntwo")
    assert "".join(pieces_of(tokens, BYTES)) == "one\ntwo"
    assert "".join(pieces_of(tokens, BYTES, newline=True)) == "one"
    assert "".join(pieces_of(tokens, BYTES, ["ne"], newline=True)) == "o"


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        ([""], "empty"),
        (["fine", "x" * (MAX_STOP_LENGTH + 1)], f"has {MAX_STOP_LENGTH + 1} characters"),
        (["x"] * (MAX_STOPS + 1), f"{MAX_STOPS + 1} stop strings"),
        ("word", "is one string"),
    ],
)
def test_stop_strings_out_of_bounds_are_refused(stop: Sequence[str], message: str) -> None:
    with pytest.raises(RequestError, match=message) as refused:
        TextStream(BYTES, stop)
    assert refused.value.exit_status == 2


def test_stop_strings_at_the_bounds_are_taken() -> None:
    check_stops(["x" * MAX_STOP_LENGTH] * MAX_STOPS)
    check_stops([])
