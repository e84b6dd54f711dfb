"""Splits, caps, cuts."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_llm.config.schema import ImdbConfig, ProtocolConfig, ScmConfig, ScmTopic
from nano_llm.data.corpus import corpus_source, cut_text, read_corpus
from nano_llm.data.review import Review
from nano_llm.errors import DataError

MakeConfig = Callable[..., ImdbConfig]
Rows = Sequence[tuple[str, int]]


@pytest.fixture
def numbered_imdb(tmp_path: Path, write_imdb: Callable[[Path, Rows, Rows], Path]) -> str:
    """60 training and 40 test reviews whose texts name their rows."""
    train = [(f"train {row}", row // 30) for row in range(60)]
    test = [(f"test {row}", row // 20) for row in range(40)]
    return str(write_imdb(tmp_path / "imdb", train, test))


def treatments(reviews: Sequence[Review]) -> Counter[int]:
    return Counter(review.treatment for review in reviews)


def texts(reviews: Sequence[Review]) -> list[str]:
    return [review.text for review in reviews]


def test_fair_validation_is_a_stratified_part_of_the_official_test_split(
    numbered_imdb: str, imdb_config: MakeConfig, fair: ProtocolConfig
) -> None:
    splits = read_corpus(imdb_config(path=numbered_imdb), replace(fair, validation_reviews=10)).splits
    assert {name: len(found) for name, found in splits.items()} == {"train": 60, "validation": 10, "test": 30}
    assert treatments(splits["validation"]) == {0: 5, 1: 5}
    together = [*texts(splits["validation"]), *texts(splits["test"])]
    assert sorted(together) == sorted(f"test {row}" for row in range(40))
    assert all(text.startswith("train") for text in texts(splits["train"]))


def test_fair_validation_takes_at_most_half(numbered_imdb: str, imdb_config: MakeConfig, fair: ProtocolConfig) -> None:
    splits = read_corpus(imdb_config(path=numbered_imdb), replace(fair, validation_reviews=30)).splits
    assert len(splits["validation"]) == len(splits["test"]) == 20


def test_the_split_seed_decides_the_splits(numbered_imdb: str, imdb_config: MakeConfig, fair: ProtocolConfig) -> None:
    drawn = [
        texts(read_corpus(imdb_config(path=numbered_imdb, split_seed=seed), fair).splits["validation"])
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) != set(drawn[2])


def test_reference_validates_on_the_whole_test_split_in_its_order(
    numbered_imdb: str, imdb_config: MakeConfig, reference: ProtocolConfig
) -> None:
    splits = read_corpus(imdb_config(path=numbered_imdb), reference).splits
    assert list(splits) == ["train", "validation"]
    assert texts(splits["validation"]) == [f"test {row}" for row in range(40)]


def test_caps_are_stratified_and_seeded(numbered_imdb: str, imdb_config: MakeConfig, fair: ProtocolConfig) -> None:
    config = imdb_config(path=numbered_imdb, max_train_reviews=20, max_validation_reviews=6, max_test_reviews=8)
    protocol = replace(fair, validation_reviews=10)
    splits = read_corpus(config, protocol).splits
    assert {name: dict(treatments(found)) for name, found in splits.items()} == {
        "train": {0: 10, 1: 10},
        "validation": {0: 3, 1: 3},
        "test": {0: 4, 1: 4},
    }
    assert splits == read_corpus(config, protocol).splits
    other = read_corpus(replace(config, split_seed=1), protocol).splits
    assert set(texts(other["train"])) != set(texts(splits["train"]))


def test_capping_validation_leaves_the_test_as_it_is(
    numbered_imdb: str, imdb_config: MakeConfig, fair: ProtocolConfig
) -> None:
    whole = read_corpus(imdb_config(path=numbered_imdb), fair).splits
    capped = read_corpus(imdb_config(path=numbered_imdb, max_validation_reviews=4), fair).splits
    assert capped["test"] == whole["test"]
    assert set(texts(capped["validation"])) <= set(texts(whole["validation"]))


def test_reviews_are_cleaned_before_they_are_cut(
    tmp_path: Path,
    imdb_config: MakeConfig,
    reference: ProtocolConfig,
    write_imdb: Callable[[Path, Rows, Rows], Path],
) -> None:
    rows = [("a<br /><br />very long film", 1), ("short", 0)]
    folder = write_imdb(tmp_path / "imdb", rows, rows)
    splits = read_corpus(imdb_config(path=str(folder), max_review_chars=8), reference).splits
    pieces = [("a very", 1), ("long", 1), ("film", 1), ("short", 0)]
    assert splits["train"] == [Review(text, label) for text, label in pieces]
    assert splits["validation"] == splits["train"]


@given(st.lists(st.text("ab", min_size=1, max_size=12), max_size=12), st.integers(1, 15))
def test_pieces_hold_the_whole_text_at_the_width_asked_for(words: list[str], max_chars: int) -> None:
    text = " ".join(words)
    pieces = cut_text(text, max_chars)
    assert all(0 < len(piece) <= max_chars for piece in pieces) or pieces == [""]
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
    if max(map(len, words), default=0) < max_chars:
        assert " ".join(pieces) == text


@given(st.text("ab  \u2003", max_size=40), st.integers(1, 15))
def test_pieces_are_those_of_cutting_again_and_again(text: str, max_chars: int) -> None:
    expected, rest = [], text
    while len(rest) > max_chars:
        end = max(rest.rfind(" ", 0, max_chars), 0) or max_chars
        expected.append(rest[:end])
        rest = rest[end:].lstrip()
    assert cut_text(text, max_chars) == [*expected, rest]


def test_ten_megabytes_are_cut_in_one_pass() -> None:
    assert len(cut_text("a " * 5_000_000, 10)) == 1_000_000


@pytest.mark.parametrize("label", [0, 1])
def test_training_needs_reviews_of_both_labels(
    label: int, tmp_path: Path, imdb_config: MakeConfig, fair: ProtocolConfig, write_imdb: Callable[..., Path]
) -> None:
    folder = write_imdb(tmp_path / "imdb", [("a", label), ("b", label)], [("c", 0), ("d", 1)])
    with pytest.raises(DataError, match=rf"Training has reviews of the label {label} only.*both labels"):
        read_corpus(imdb_config(path=str(folder)), fair)


def test_validation_and_test_may_hold_one_label(
    tmp_path: Path, imdb_config: MakeConfig, fair: ProtocolConfig, write_imdb: Callable[..., Path]
) -> None:
    folder = write_imdb(tmp_path / "imdb", [("a", 0), ("b", 1)], [("c", 0), ("d", 0)])
    splits = read_corpus(imdb_config(path=str(folder)), fair).splits
    assert treatments(splits["validation"]) == treatments(splits["test"]) == {0: 1}


def test_a_test_split_too_small_to_divide_is_refused(
    tmp_path: Path,
    imdb_config: MakeConfig,
    fair: ProtocolConfig,
    write_imdb: Callable[[Path, Rows, Rows], Path],
) -> None:
    folder = write_imdb(tmp_path / "imdb", [("a", 0), ("b", 1)], [("c", 0)])
    with pytest.raises(DataError, match="test split has 1 review"):
        read_corpus(imdb_config(path=str(folder)), fair)


def test_the_structural_corpus_has_its_own_splits_and_closed_vocabulary(
    scm_config: Callable[..., ScmConfig], fair: ProtocolConfig
) -> None:
    config = scm_config(num_train=30, num_validation=8, num_test=6, max_train_reviews=20)
    corpus = read_corpus(config, fair)
    assert {name: len(found) for name, found in corpus.splits.items()} == {
        "train": 20,
        "validation": 8,
        "test": 6,
    }
    assert corpus.words
    assert {review.topic for review in corpus.splits["train"]} <= set(corpus.topics)
    hidden = read_corpus(replace(config, topic=ScmTopic.hidden), fair)
    assert hidden.topics == (None,)
    assert corpus_source(config) == {"kind": "scm"}


# ---------------------------------------------------------------------------------- originals and movies


def test_reviews_that_are_also_in_train_are_not_evaluated_on(
    tmp_path: Path,
    imdb_config: MakeConfig,
    fair: ProtocolConfig,
    reference: ProtocolConfig,
    write_imdb: Callable[[Path, Rows, Rows], Path],
    write_cad: Callable[..., Path],
) -> None:
    """Whatever their markup, label or row; train keeps its own, and loses none for the caps or the pairs."""
    train = [("A fine film!", 1), ("a dull<br />film", 0), ("fine", 1), ("slow", 0)]
    test = [("A FINE film.", 1), ("a dull film", 1), ("a dull film", 0), ("good", 1), ("bad", 0), ("a fine", 1)]
    pairs = write_cad(tmp_path / "cad", train=[("Positive", "A fine film!", "1"), ("Negative", "A foul film!", "1")])
    config = imdb_config(path=str(write_imdb(tmp_path / "imdb", train, test)))
    for changed in (config, replace(config, max_train_reviews=2), replace(config, cad=str(pairs), exclude_cad=True)):
        corpus = read_corpus(changed, fair)
        assert sorted([*texts(corpus.splits["validation"]), *texts(corpus.splits["test"])]) == ["a fine", "bad", "good"]
        assert corpus.dropped["reviews_also_in_train"] == 3
    assert "A fine film!" in texts(read_corpus(config, fair).splits["train"])
    undivided = read_corpus(config, reference)
    assert len(undivided.splits["validation"]) == 6
    assert undivided.dropped == {}


def test_originals_of_augmented_pairs_leave_training_alone(
    numbered_imdb: str, imdb_config: MakeConfig, fair: ProtocolConfig, write_cad: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [("Negative", "Train 3", "1"), ("Positive", "train three", "1"), ("Positive", "TRAIN 40!", "2")]
    folder = write_cad(tmp_path / "cad", train=rows[:2], dev=[rows[2], ("Negative", "train forty", "2")])
    config = imdb_config(path=numbered_imdb, cad=str(folder))
    whole, without = read_corpus(config, fair), read_corpus(replace(config, exclude_cad=True), fair)
    assert set(texts(whole.splits["train"])) - set(texts(without.splits["train"])) == {"train 3", "train 40"}
    assert len(without.splits["train"]) == 58
    assert without.splits["test"] == whole.splits["test"]
    assert whole.dropped == {"reviews_also_in_train": 0}
    assert without.dropped == {"reviews_also_in_train": 0, "cad_originals": 2}


def test_augmented_pairs_are_part_of_the_source_only_where_they_matter(
    numbered_imdb: str, imdb_config: MakeConfig, write_cad: Callable[..., Path], tmp_path: Path
) -> None:
    config = imdb_config(path=numbered_imdb)
    folder = str(write_cad(tmp_path / "cad"))
    assert corpus_source(replace(config, cad=folder)) == corpus_source(config)
    source = corpus_source(replace(config, cad=folder, exclude_cad=True))
    assert set(source) - set(corpus_source(config)) == {"cad"}
    assert set(source["cad"]) == {"train", "dev"}
    with pytest.raises(DataError, match=r"no folder is given.*NANO_LLM_CAD"):
        corpus_source(replace(config, exclude_cad=True))


@pytest.fixture
def movies(tmp_path: Path) -> str:
    """Three reviews in a row are about one movie; the last of train is the first of test."""
    folder = tmp_path / "movies"
    folder.mkdir()
    (folder / "train.txt").write_text("".join(f"movie {row // 3}\n" for row in range(60)))
    (folder / "test.txt").write_text("".join(f"movie {19 + row // 3}\n" for row in range(40)))
    return str(folder)


def test_known_movies_lie_in_one_split_each(
    numbered_imdb: str, imdb_config: MakeConfig, fair: ProtocolConfig, movies: str
) -> None:
    corpus = read_corpus(imdb_config(path=numbered_imdb, movies=movies), replace(fair, validation_reviews=12))
    found = {name: {review.movie for review in reviews} for name, reviews in corpus.splits.items()}
    assert [len(corpus.splits[name]) for name in ("train", "validation", "test")] == [60, 12, 25]
    assert not found["train"] & found["validation"]
    assert not found["train"] & found["test"]
    assert not found["validation"] & found["test"]
    assert corpus.dropped == {"reviews_also_in_train": 0, "reviews_of_shared_movies": 3}
    assert {review.text: review.movie for review in corpus.splits["train"]}["train 31"] == "movie 10"


def test_movies_change_no_split_that_is_not_divided(
    numbered_imdb: str, imdb_config: MakeConfig, reference: ProtocolConfig, movies: str
) -> None:
    corpus = read_corpus(imdb_config(path=numbered_imdb, movies=movies), reference)
    assert texts(corpus.splits["validation"]) == [f"test {row}" for row in range(40)]
    assert corpus.splits["validation"][39].movie == "movie 32"
    assert corpus.dropped == {}


def test_movies_too_large_for_the_validation_split_are_told(
    numbered_imdb: str, imdb_config: MakeConfig, fair: ProtocolConfig, tmp_path: Path
) -> None:
    (tmp_path / "train.txt").write_text("one\n" * 60)
    (tmp_path / "test.txt").write_text("two\n" * 40)
    with pytest.raises(DataError, match=r"No movie .* validation split of 20.*data\.movies"):
        read_corpus(imdb_config(path=numbered_imdb, movies=str(tmp_path)), fair)


def test_the_official_splits_share_texts_and_one_movie_which_validation_and_test_lose(
    shared: Path, imdb_config: MakeConfig, fair: ProtocolConfig
) -> None:
    folder = shared / "data"
    corpus = read_corpus(imdb_config(path=str(folder / "imdb"), movies=str(folder / "imdb_movies")), fair)
    assert {name: treatments(found) for name, found in corpus.splits.items()} == {
        "train": {0: 12500, 1: 12500},
        "validation": {0: 1247, 1: 1253},
        "test": {0: 11152, 1: 11202},
    }
    seen = [{review.movie for review in found} for found in corpus.splits.values()]
    assert sum(map(len, seen)) == len(set.union(*seen))
    assert corpus.dropped == {"reviews_also_in_train": 123, "reviews_of_shared_movies": 23}


def test_training_pairs_come_from_cad_negative_and_positive_in_turn(
    small_imdb: Path, imdb_config: MakeConfig, fair: ProtocolConfig, write_cad: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [("Positive", "A fine film", "3"), ("Negative", "A dull film", "3")]
    folder = write_cad(tmp_path / "cad", train=[*rows, ("Negative", "bad", "4"), ("Positive", "good", "4")])
    config = imdb_config(path=str(small_imdb), cad=str(folder), num_pairs=1)
    assert [review.text for review in read_corpus(config, fair).pairs] == ["A dull film", "A fine film"]
    assert "cad" in corpus_source(config)
    with pytest.raises(DataError, match=r"num_pairs=3.*has 2"):
        read_corpus(replace(config, num_pairs=3), fair)
