"""Counterfactually augmented pairs: which member is the original, and what may not be trained on."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from nano_llm.config.schema import ImdbConfig
from nano_llm.data.cad import CadPair, cad_source, excluded_rows, key, read_cad
from nano_llm.data.clean import clean
from nano_llm.data.imdb import read_imdb
from nano_llm.data.review import Review
from nano_llm.errors import DataError

WriteCad = Callable[..., Path]
LONG = "The first sixty letters of a review are enough to tell which one it was, " * 2
TRAIN = [Review('A dull<br /><br />"epic" film.', 0), Review("It made me smile.", 1), Review(f"{LONG} It is bad.", 0)]
PAIR = [("Positive", 'A fine "epic" film.', "7"), ("Negative", 'A dull  "epic" film.', "7")]


def test_the_member_in_the_train_split_is_the_original(tmp_path: Path, write_cad: WriteCad) -> None:
    folder = write_cad(tmp_path / "cad", train=PAIR, dev=[(a, b, "8") for a, b, _ in reversed(PAIR)])
    expected = (Review('A dull "epic" film.', 0), Review('A fine "epic" film.', 1))
    pairs = read_cad(str(folder), TRAIN)
    assert pairs == {"train": [CadPair("7", *expected)], "dev": [CadPair("8", *expected)]}
    assert read_cad(str(folder), [Review(clean(review.text), review.treatment) for review in TRAIN]) == pairs


def test_a_quote_character_survives_and_its_doubling_in_the_file_does_not(tmp_path: Path, write_cad: WriteCad) -> None:
    folder = write_cad(tmp_path / "cad", train=PAIR)
    assert '"A dull  ""epic"" film."' in (folder / "train_paired.tsv").read_text()
    [pair] = read_cad(str(folder), TRAIN)["train"]
    assert pair.original.text.count('"') == pair.revision.text.count('"') == 2


def test_an_altered_original_is_known_by_its_beginning_and_the_nearest_wins(
    tmp_path: Path, write_cad: WriteCad
) -> None:
    rows = [("Positive", f"{LONG} It is a triumph of taste.", "1"), ("Negative", f"{LONG} It is so bad.", "1")]
    [pair] = read_cad(str(write_cad(tmp_path / "cad", train=rows)), TRAIN)["train"]
    assert pair.original.text.endswith("so bad.")


def test_two_members_of_equal_letters_are_told_apart_by_the_label(tmp_path: Path, write_cad: WriteCad) -> None:
    rows = [("Negative", "It made me smile!", "1"), ("Positive", "It made me smile.", "1")]
    [pair] = read_cad(str(write_cad(tmp_path / "cad", train=rows)), TRAIN)["train"]
    assert (pair.original.treatment, pair.revision.treatment) == (1, 0)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([(*PAIR[0][:2], "70"), PAIR[1]], "batch_id 70 has the members positive; expected one negative and one pos"),
        ([*PAIR, PAIR[1]], "batch_id 7 has the members positive, negative, negative"),
        ([PAIR[1], PAIR[1]], "batch_id 7 has the members negative, negative"),
        ([("Neutral", "x", "7")], "line 2: batch_id 7 has the sentiment 'Neutral'"),
        ([("Positive", "x", "9"), ("Negative", "y", "9")], "no member of batch_id 9 can be the original"),
    ],
)
def test_a_broken_pair_is_refused_by_file_and_id(
    rows: Sequence[tuple[str, str, str]], complaint: str, tmp_path: Path, write_cad: WriteCad
) -> None:
    folder = write_cad(tmp_path / "cad", dev=rows)
    with pytest.raises(DataError, match=rf"dev_paired\.tsv.*{complaint}"):
        read_cad(str(folder), TRAIN)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("Text\tbatch_id\n", "has the columns Text, batch_id; expected Sentiment, Text, batch_id"),
        (
            "Sentiment\tText\tbatch_id\nPositive\tx\n",
            r"line 2: 2 columns, expected 3\. Fetch it again",
        ),
        ('Sentiment\tText\tbatch_id\nPositive\t"x" y\t1\n', "not a readable file of tab-separated rows"),
        ('Sentiment\tText\tbatch_id\nPositive\t"x\t1\n', "not a readable file of tab-separated rows"),
    ],
)
def test_a_file_of_another_form_is_refused(content: str, complaint: str, tmp_path: Path, write_cad: WriteCad) -> None:
    folder = write_cad(tmp_path / "cad")
    (folder / "train_paired.tsv").write_text(content)
    with pytest.raises(DataError, match=complaint):
        read_cad(str(folder), TRAIN)


def test_what_is_missing_is_named_with_the_remedy(tmp_path: Path, write_cad: WriteCad) -> None:
    remedy = r"acmi-lab/counterfactually-augmented-data \(Apache-2\.0\).*NANO_LLM_CAD"
    folder = write_cad(tmp_path / "cad")
    (folder / "dev_paired.tsv").unlink()
    for path, complaint in (
        (None, "no folder is given"),
        (str(tmp_path / "nowhere"), "is not a folder"),
        (str(folder), r"has no dev_paired\.tsv"),
    ):
        for use in (cad_source, lambda path: read_cad(path, TRAIN)):
            with pytest.raises(DataError, match=f"{complaint}.*{remedy}"):
                use(path)


def test_excluded_rows_have_the_key_or_the_beginning_of_an_original() -> None:
    pairs = [CadPair("1", Review(f"{LONG} one", 0), Review("x", 1)), CadPair("2", Review("Short.", 1), Review("y", 0))]
    texts = [f"{LONG} another", "a short", "<br />short", "x", LONG.upper()]
    assert excluded_rows(texts, pairs) == [0, 2, 4]
    assert excluded_rows(texts, []) == []


def test_a_key_is_what_markup_spacing_and_accents_leave() -> None:
    assert key("It's<br /><br />a CAF\u00c9, 10/10!") == "itsacafe1010"
    assert key("") == ""


def test_the_published_pairs(shared: Path, imdb_config: Callable[..., ImdbConfig]) -> None:
    raw = read_imdb(imdb_config(path=str(shared / "data/imdb")))["train"]
    train = [Review(text, label) for text, label in zip(raw.texts, raw.labels, strict=True)]
    pairs = read_cad(str(shared / "data/cad"), train)
    assert {split: len(found) for split, found in pairs.items()} == {"train": 1707, "dev": 245}
    together = [pair for found in pairs.values() for pair in found]
    assert all(pair.original.treatment == 1 - pair.revision.treatment for pair in together)
    # One original is known by its beginning alone; few pairs were never edited.
    published = {key(text): label for text, label in zip(raw.texts, raw.labels, strict=True)}
    known = [pair for pair in together if key(pair.original.text) in published]
    assert len(known) == 1951
    # The authors of the pairs corrected the label of two originals.
    assert sum(published[key(pair.original.text)] != pair.original.treatment for pair in known) == 2
    assert sum(key(pair.original.text) == key(pair.revision.text) for pair in together) == 5
    # Unquoted as the files quote them, the originals are IMDB's to the letter.
    cleaned = {clean(text) for text in raw.texts}
    assert all(pair.original.text in cleaned for pair in pairs["dev"])

    rows = set(excluded_rows(raw.texts, together))
    left = [key(text) for row, text in enumerate(raw.texts) if row not in rows]
    assert not {key(pair.original.text) for pair in together} & set(left)
    assert not {key(pair.original.text)[:60] for pair in together} & {name[:60] for name in left}
    assert len(rows) == 1977
