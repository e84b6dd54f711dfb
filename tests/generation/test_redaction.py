"""Redaction: what matches and what stays, and that a stream agrees with the whole text however it is cut."""

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable
from itertools import combinations, pairwise
from types import FrameType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nano_llm.generation import redaction
from nano_llm.generation.redaction import (
    MAX_HIDDEN,
    REPLACEMENT,
    Redacted,
    RedactionStream,
    Rules,
    Span,
    find,
    redact,
    shipped_rules,
)

MILD = Rules.of(words=["darn{,ed}", "heck", "so and so"], allowed=["Ann Darn Lee", "heck no", "so and so on"])
HIDDEN = "\u200b"


def redacted(text: str) -> str:
    return redact(text, MILD).text


def streamed(pieces: Iterable[str], rules: Rules) -> Redacted:
    stream = RedactionStream(rules)
    text = "".join([*map(stream.push, pieces), stream.finish()])
    return Redacted(text, stream.num_redacted)


def cut_at(text: str, cuts: Iterable[int]) -> list[str]:
    borders = [0, *cuts, len(text)]
    return [text[a:b] for a, b in pairwise(borders)]


def by_plain_search(text: str) -> str:
    """What MILD asks for, on text without hidden characters, spelled as one substitution."""
    pattern = r"\b(ann darn lee|heck no|so and so on)\b|\b(so and so|darned|darn|heck)\b"
    return re.sub(pattern, lambda match: match.group(1) or REPLACEMENT, text, flags=re.IGNORECASE)


# ------------------------------------------------------------------------------------------- whole texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What the heck.", "What the [redacted]."),
        ("HECK! Darn, darned", "[redacted]! [redacted], [redacted]"),
        ("heckler undarned heck2 2heck", "heckler undarned heck2 2heck"),
        ("_heck_ (heck)'heck'", "_[redacted]_ ([redacted])'[redacted]'"),
        ("heck-heck", "[redacted]-[redacted]"),
        ("so-and\nso", "[redacted]"),
        ("so  and so", "so  and so"),
        ("", ""),
    ],
)
def test_whole_words_are_replaced_in_any_case_and_the_rest_stays(text: str, expected: str) -> None:
    assert redacted(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ann Darn Lee said darn", "Ann Darn Lee said [redacted]"),
        ("Ann Darn Leeson", "Ann [redacted] Leeson"),
        ("Ann Darn", "Ann [redacted]"),
        ("Joann Darn Lee", "Joann [redacted] Lee"),
        ("heck no, heck not", "heck no, [redacted] not"),
        ("so and so on", "so and so on"),
        ("so and so, on", "[redacted], on"),
        ("so and so and so on", "[redacted] and so on"),
    ],
)
def test_what_is_allowed_is_looked_for_first(text: str, expected: str) -> None:
    assert redacted(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("he\u200bck\u00ad!", "[redacted]\u00ad!"),
        ("\u200bheck", "\u200b[redacted]"),
        ("ｈｅｃｋ", "[redacted]"),
        ("𝐡𝐞𝐜𝐤 ﬁne", "[redacted] ﬁne"),
        ("Ann\u00a0D\u2060arn\u2003Lee", "Ann\u00a0D\u2060arn\u2003Lee"),
        ("so\u2013and\u2010so", "[redacted]"),
        (f"he{HIDDEN * MAX_HIDDEN}ck", "[redacted]"),
        (f"he{HIDDEN * (MAX_HIDDEN + 1)}ck", f"he{HIDDEN * (MAX_HIDDEN + 1)}ck"),
        ("½heck …heck", "½heck …[redacted]"),
    ],
)
def test_disguises_that_read_the_same_are_seen_through(text: str, expected: str) -> None:
    assert redacted(text) == expected


def test_a_character_that_stands_for_two_letters_belongs_to_the_match() -> None:
    rules = Rules.of(words=["fluffs"], allowed=[])
    assert redact("the flu\ufb00s!", rules).text == "the [redacted]!"
    assert redact("fluffß", Rules.of(words=["fluffss"], allowed=[])).text == REPLACEMENT


def test_spans_are_places_in_the_original() -> None:
    text = f"ﬁne, h{HIDDEN}eck and darn"
    assert [text[span.start : span.end] for span in find(text, MILD)] == [f"h{HIDDEN}eck", "darn"]
    assert find("a heck", MILD) == [Span(2, 6)]
    assert redact(text, MILD).num_redacted == 2


def test_braces_list_spellings() -> None:
    rules = Rules.of(words=["{a,b}c{,d}"], allowed=[])
    assert redact("ac acd bc bcd c cd ab", rules).text == f"{' '.join([REPLACEMENT] * 4)} c cd ab"


WORDS = st.sampled_from(
    [
        "darn",
        "darned",
        "Darn",
        "heck",
        "HECK",
        "no",
        "so",
        "and",
        "on",
        "Ann",
        "Lee",
        "a",
        "dar",
        " ",
        " ",
        " ",
        ".",
        "-",
    ]
)


@given(st.lists(WORDS, max_size=20).map("".join))
def test_plain_text_agrees_with_a_plain_search(text: str) -> None:
    # A hyphen within an entry counts as a space, which the plain search does not know.
    expected = by_plain_search(text.replace("-", "+"))
    assert redacted(text.replace("-", "+")) == expected


@given(st.text(max_size=60))
def test_what_is_not_redacted_stays_character_by_character(text: str) -> None:
    spans = find(text, MILD)
    kept = [
        text[a:b] for a, b in zip([0, *(s.end for s in spans)], [*(s.start for s in spans), len(text)], strict=True)
    ]
    assert redacted(text) == REPLACEMENT.join(kept)
    assert all(a.end <= b.start for a, b in pairwise(spans))


# ----------------------------------------------------------------------------------------------- streams

SHORT = [
    "a heck no",
    "heck not.",
    "Ann darn Le",
    "nn darn Lee",
    "so and so o",
    "so-and so on",
    "undarn heck",
    "he\u200bck darn",
    "\u200b\u200bhe\u00adck!",
    "ｄａｒｎ ed",
    "darndarn",
    "_darn_heck_",
    "darn darned",
]


@pytest.mark.parametrize("text", SHORT, ids=ascii)
def test_every_split_of_a_short_text_gives_the_whole(text: str) -> None:
    whole = redact(text, MILD)
    for size in range(len(text)):
        for cuts in combinations(range(1, len(text)), size):
            assert streamed(cut_at(text, cuts), MILD) == whole


@pytest.mark.parametrize("run", range(MAX_HIDDEN - 1, MAX_HIDDEN + 4))
@pytest.mark.parametrize("frame", ["{}heck", "he{}ck", "heck{}no", "x{}heck", "heck {} no", "Ann d{}arn Lee"])
def test_runs_of_hidden_characters_are_counted_across_pieces(run: int, frame: str) -> None:
    text = frame.format(HIDDEN * run)
    whole = redact(text, MILD)
    assert streamed(text, MILD) == whole
    for cuts in combinations(range(1, len(text)), 2):
        assert streamed(cut_at(text, cuts), MILD) == whole


PARTS = st.one_of(WORDS, st.just(HIDDEN), st.just(HIDDEN * MAX_HIDDEN), st.characters(exclude_categories=["Cs"]))


@given(st.lists(PARTS, max_size=40).map("".join), st.data())
def test_any_split_of_any_text_gives_the_whole(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    whole = redact(text, MILD)
    assert streamed(cut_at(text, cuts), MILD) == whole
    assert streamed(text, MILD) == whole


@given(
    st.lists(st.sampled_from([*"ADKVackdeinorty", "Dick", " Van", " Dyke", " ", "Moby ", "."]), max_size=30), st.data()
)
def test_any_split_gives_the_whole_under_the_shipped_rules(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    assert streamed(cut_at(text, cuts), shipped_rules()) == redact(text)


@given(st.lists(PARTS, max_size=40).map("".join))
def test_no_more_is_held_than_can_still_become_part_of_an_entry(text: str) -> None:
    stream = RedactionStream(MILD)
    shown = ""
    for num_taken, character in enumerate(text, start=1):
        shown += stream.push(character)
        rest = stream_rest(text[:num_taken], shown)
        assert len(rest) <= MILD.most_held
        plain = "".join(" " if c.isspace() or c == "-" else c for c in visible(rest))
        assert not plain or plain in MILD.beginnings


def stream_rest(taken: str, shown: str) -> str:
    """What of a text is not yet shown, by the text that showing it would leave."""
    for begin in range(len(taken), -1, -1):
        if redact_up_to(taken, begin) == shown:
            return taken[begin:]
    raise AssertionError("what was shown is no beginning of the redacted text")


def redact_up_to(taken: str, begin: int) -> str:
    spans = [span for span in find(taken, MILD) if span.end <= begin]
    pieces, done = [], 0
    for span in spans:
        pieces += [taken[done : span.start], REPLACEMENT]
        done = span.end
    return "".join([*pieces, taken[done:begin]])


def visible(text: str) -> str:
    kept = [c for c in text if unicodedata.category(c) != "Cf" and not "\ufe00" <= c <= "\ufe0f" and c != "\u034f"]
    return unicodedata.normalize("NFKC", "".join(kept)).casefold()


def test_the_bound_on_what_is_held_is_reached_and_kept() -> None:
    stream = RedactionStream(MILD)
    entry = "so and so on"
    assert stream.push("".join(character + HIDDEN * MAX_HIDDEN for character in entry)) == ""
    assert len(entry) * (1 + MAX_HIDDEN) == MILD.most_held
    assert len(stream.push(".")) == MILD.most_held + 1


def test_text_that_begins_no_entry_is_released_at_once() -> None:
    stream = RedactionStream(MILD)
    assert [stream.push(piece) for piece in ["the film ", "was", " go", "od, h", "e said"]] == [
        "the film ",
        "was",
        " go",
        "od, ",
        "he said",
    ]


def test_a_name_is_waited_for() -> None:
    stream = RedactionStream()
    assert [stream.push(piece) for piece in ["with Dick Van", " Dy", "ke", " in it"]] == [
        "with ",
        "",
        "",
        "Dick Van Dyke in it",
    ]
    stream = RedactionStream()
    assert [stream.push("with Dick Van"), stream.push(" Dam"), stream.finish()] == ["with ", "[redacted] Van Dam", ""]
    stream = RedactionStream()
    assert [stream.push("with Dick Van"), stream.finish()] == ["with ", "[redacted] Van"]


# --------------------------------------------------------------------------------------------- how it grows


def lines_run(work: Callable[[], object]) -> int:
    """Return how many lines of the module a piece of work runs through."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Callable[..., object] | None:
        nonlocal count
        if frame.f_code.co_filename != redaction.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


ADVERSARIAL = ["Dick Van Dyk ", "dick ", "so " * 5, HIDDEN * 10, "tom, dick and ", "d", "he" + HIDDEN]


@pytest.mark.parametrize("unit", ADVERSARIAL, ids=ascii)
def test_work_and_memory_grow_with_the_text_alone(unit: str) -> None:
    rules = shipped_rules()
    sizes = (2_000, 4_000)
    short, long = ((unit * size)[:size] for size in sizes)
    redact(unit)  # characters met once are known from then on
    for work in (lambda text: streamed(text, rules), redact):
        assert lines_run(lambda w=work: w(long)) <= 2.1 * lines_run(lambda w=work: w(short))  # type: ignore[misc]


def test_a_megabyte_in_one_piece_and_in_many_is_the_same() -> None:
    text = ("Dick Van Dyk dick tom, dick and harry so so Moby " * 25_000)[:1_000_000]
    whole = redact(text)
    assert streamed([text], shipped_rules()) == whole
    assert streamed([text[begin : begin + 997] for begin in range(0, len(text), 997)], shipped_rules()) == whole
    # The first name, and "dick" once a round; later rounds make "Moby Dick" of the seam.
    assert whole.num_redacted == 1 + text.count("Dyk dick")


# ------------------------------------------------------------------------------------------- what is shipped


@pytest.mark.parametrize(
    "text",
    [
        "Dick Van Dyke and Moby Dick, by Philip K. Dick; Dick Tracy; Andy DICK",
        "Honor Blackman is Pussy Galore. Puss in Boots. Octopussy",
        "Kick-Ass, Inglourious Basterds, Jackass, A Cock and Bull Story, 'Tis Pity She's a Whore",
        "Scunthorpe, cockpit, assassin, Hitchcock, peacock, Dickens, class, title, Titanic, cumulative, spice, raccoon",
        "Every Tom, Dick and Harry is spic-and-span; tit-for-tat, a chink in the armour, Maine Coon, fag-ends",
        "damn, hell, bastard, sexy, naked, gay, lesbian",
    ],
)
def test_names_titles_innocent_and_mild_words_stay(text: str) -> None:
    assert redact(text) == Redacted(text, 0)


def test_listed_words_go_alone_and_in_compounds() -> None:
    assert redact("he is a dick, two dicks, a dick-head").num_redacted == 3
    assert redact("What a wanker! WANKERS").text == "What a [redacted]! [redacted]"
    assert redact("blow-job, blow job, blowjob").text == "[redacted], [redacted], [redacted]"


def test_all_that_is_allowed_would_be_redacted_otherwise() -> None:
    rules = shipped_rules()
    words = [entry for entry in rules.beginnings if rules.pattern.fullmatch(entry) and entry not in rules.allowed]
    without = Rules.of(words, [])
    assert [entry for entry in sorted(rules.allowed) if not find(entry, without)] == []


def test_the_hold_back_of_the_shipped_rules_is_short() -> None:
    assert shipped_rules().longest <= 24
    assert shipped_rules().most_held == 9 * shipped_rules().longest


# -------------------------------------------------------------------------------------------- any list

LETTERS = st.text("abAB0 -'._é\u00df\ufb01\u200b\u0130", max_size=5)
PLAIN_WORDS = st.text("ab", min_size=1, max_size=3)
PLAIN_ENTRIES = st.lists(st.lists(PLAIN_WORDS, min_size=1, max_size=2).map(" ".join), max_size=4)


@given(st.lists(LETTERS, max_size=4), st.lists(LETTERS, max_size=2), st.lists(LETTERS, max_size=10), st.data())
@example([], [], ["a"], None)
@example(["", "\u200b"], [], ["a", "b"], None)
def test_under_any_list_a_stream_agrees_with_the_whole(
    words: list[str], allowed: list[str], parts: list[str], data: st.DataObject | None
) -> None:
    rules = Rules.of(words, allowed)
    text = "".join(parts)
    cuts = [] if data is None else sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    whole = redact(text, rules)
    assert streamed(cut_at(text, cuts), rules) == whole
    assert streamed(text, rules) == whole
    assert (text == whole.text) is (whole.num_redacted == 0)


@given(PLAIN_ENTRIES, st.text("abAB .-_'0", max_size=30))
def test_no_listed_word_is_shown_as_a_whole_word(entries: list[str], text: str) -> None:
    shown = redact(text, Rules.of(entries, [])).text.replace(REPLACEMENT, "[]").lower().replace("-", " ")
    for entry in entries:
        for begin in range(len(shown)):
            is_there = shown[begin : begin + len(entry)] == entry
            touched = shown[max(0, begin - 1) : begin] + shown[begin + len(entry) : begin + len(entry) + 1]
            assert not is_there or any(character.isalnum() for character in touched)


@given(st.text())
def test_a_text_without_a_listed_letter_stays_as_it_is(text: str) -> None:
    """The rules list only words of letters from a to z, so what folds to none of these cannot hold one."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    if not re.search("[a-z]", folded):
        assert redact(text) == Redacted(text, 0)
