"""The corpus of a run: cleaned reviews in their splits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from nano_llm.config.schema import DataConfig, ImdbConfig, ProtocolConfig, ScmConfig, ScmTopic
from nano_llm.data import scm
from nano_llm.data.cad import cad_source, excluded_rows, key, read_cad, read_members
from nano_llm.data.clean import clean
from nano_llm.data.imdb import imdb_source, read_imdb
from nano_llm.data.movies import movies_source, read_movies
from nano_llm.data.published import OFFICIAL_SPLITS
from nano_llm.data.review import Review
from nano_llm.data.stratify import grouped_draw, stratified_draw
from nano_llm.errors import DataError

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Corpus:
    """Reviews by split: ``train``, ``validation`` and, where the protocol keeps one, ``test``."""

    splits: dict[str, list[Review]]
    words: tuple[str, ...] | None  # every word that a text can contain, where that is known
    topics: tuple[str | None, ...]  # what a prompt can name
    dropped: dict[str, int] = field(default_factory=dict)  # published reviews in no split, by the reason
    pairs: list[Review] = field(default_factory=list)  # minimal pairs for training: negative, positive, negative, ...


def read_corpus(data: DataConfig, protocol: ProtocolConfig) -> Corpus:
    """Read or sample the reviews, divide them into splits, apply the caps, clean.

    IMDB: the official test split gives the validation reviews (``protocol.validation_reviews``, at most half
    of it) and the rest is the test; with no such number all of it validates. A divided official test split loses the
    reviews that are also in train, by their letters and digits. Where the movies are known, the divided splits share
    none with each other. The structural corpus samples its three splits from the same law,
    whatever the protocol.

    Raises:
        DataError: The source is missing or unfit.
    """
    if isinstance(data, ScmConfig):
        splits = {name: scm.sample_reviews(data, name) for name in ("train", "validation", "test")}
        law = scm.review_law(data)
        topics = (None,) if data.topic is ScmTopic.hidden else law.topics
        reviews = {name: _cut(_capped(data, name, found), data) for name, found in splits.items()}
        return Corpus(reviews, law.vocabulary, topics, pairs=scm.sample_pairs(data))
    if isinstance(data, ImdbConfig):
        published, dropped = _published(data), dict[str, int]()
        if protocol.validation_reviews is not None:
            published["test"], dropped["reviews_also_in_train"] = _without_texts_of_train(published)
            if data.movies is not None:
                published["test"], dropped["reviews_of_shared_movies"] = _without_movies_of_train(published)
        if data.exclude_cad:
            published["train"], dropped["cad_originals"] = _without_originals(published["train"], data)
        rows = _imdb_splits(published, data, protocol.validation_reviews)
        reviews = {name: _cleaned(_capped(data, name, found)) for name, found in rows.items()}
        require_both_treatments(review.treatment for review in reviews["train"])
        splits = {name: _cut(found, data) for name, found in reviews.items()}
        return Corpus(splits, None, (None,), dropped, _cad_pairs(data))
    raise TypeError(f"no corpus for {type(data).__name__}")


def corpus_source(data: DataConfig) -> dict[str, Any]:
    """Name where the texts come from, by content; cheap, and free of local paths.

    Raises:
        DataError: A local source is missing.
    """
    if not isinstance(data, ImdbConfig):
        return {"kind": "scm"}
    source: dict[str, Any] = dict(imdb_source(data))
    if data.exclude_cad or data.num_pairs:
        source["cad"] = cad_source(data.cad)
    if data.movies is not None:
        source["movies"] = movies_source(data.movies)
    return source


def cut_text(text: str, max_chars: int) -> list[str]:
    """Cut a cleaned text into pieces of at most ``max_chars`` characters, at spaces where there are any.

    A piece ends at the last space among its first ``max_chars`` characters; a longer word is cut inside.

    Example: ``cut_text("a fine film", 7)`` is ``["a fine", "film"]``.
    """
    pieces, begin = [], 0
    while len(text) - begin > max_chars:
        end = text.rfind(" ", begin + 1, begin + max_chars)
        end = end if end > 0 else begin + max_chars
        pieces.append(text[begin:end])
        begin = end
        while begin < len(text) and text[begin].isspace():
            begin += 1
    return [*pieces, text[begin:]]


def require_both_treatments(labels: Iterable[int]) -> None:
    """Refuse to train on reviews of one label.

    Raises:
        DataError: The training reviews do not have both labels.
    """
    found = set(labels)
    if found != {0, 1}:
        only = f"reviews of the label {found.pop()} only" if found else "no reviews"
        raise DataError(
            f"Training has {only}; a model learns what a review would be under either sentiment from both labels, 0 "
            "(negative) and 1 (positive). Add reviews of the other label, or raise data.max_train_reviews."
        )


def _published(data: ImdbConfig) -> dict[str, list[Review]]:
    """Return the official splits, raw."""
    published = {}
    for split, raw in read_imdb(data).items():
        num = len(raw.texts)
        movies = [None] * num if data.movies is None else read_movies(data.movies, split, num)
        rows = zip(raw.texts, raw.labels, movies, strict=True)
        published[split] = [Review(text, label, movie=movie) for text, label, movie in rows]
    return published


def _without_texts_of_train(published: dict[str, list[Review]]) -> tuple[list[Review], int]:
    """Return the reviews of the official test split that are not in train too, and how many are."""
    trained = {key(review.text) for review in published["train"]}
    kept = [review for review in published["test"] if key(review.text) not in trained]
    return kept, len(published["test"]) - len(kept)


def _without_movies_of_train(published: dict[str, list[Review]]) -> tuple[list[Review], int]:
    """Return the reviews of the official test split whose movie is not in train, and how many are not."""
    trained = {review.movie for review in published["train"]}
    kept = [review for review in published["test"] if review.movie not in trained]
    return kept, len(published["test"]) - len(kept)


def _without_originals(train: list[Review], data: ImdbConfig) -> tuple[list[Review], int]:
    """Return the training reviews that are no original of a counterfactual pair, and how many are."""
    pairs = [pair for found in read_cad(data.cad, train).values() for pair in found]
    originals = set(excluded_rows([review.text for review in train], pairs))
    return [review for row, review in enumerate(train) if row not in originals], len(originals)


def _imdb_splits(
    published: dict[str, list[Review]], data: ImdbConfig, num_validation: int | None
) -> dict[str, list[Review]]:
    train, held_out = (published[split] for split in OFFICIAL_SPLITS)
    if num_validation is None:
        return {"train": train, "validation": held_out}
    num = min(num_validation, len(held_out) // 2)
    if num == 0:
        raise DataError(
            f"The official test split has {len(held_out)} review that train lacks; protocol.validation_reviews="
            f"{num_validation} takes up to half of it, so it must have at least two."
        )
    labels = [review.treatment for review in held_out]
    if data.movies is None:
        chosen, rest = stratified_draw(labels, num, data.split_seed)
    else:
        chosen, rest = grouped_draw(labels, [str(review.movie) for review in held_out], num, data.split_seed)
    if not chosen:
        raise DataError(
            f"No movie of the official test split has few enough reviews to lie in a validation split of {num}. Raise "
            "protocol.validation_reviews, or leave data.movies unset."
        )
    return {"train": train, "validation": _pick(held_out, chosen), "test": _pick(held_out, rest)}


def _cad_pairs(data: ImdbConfig) -> list[Review]:
    """Return the first training pairs of CAD, negative and positive in turn."""
    if not data.num_pairs:
        return []
    pairs = read_members(data.cad, "train")
    if data.num_pairs > len(pairs):
        raise DataError(f"data.num_pairs={data.num_pairs}: CAD has {len(pairs)} training pairs; ask for fewer.")
    return [review for pair in pairs[: data.num_pairs] for review in pair]


def _capped(data: DataConfig, split: str, reviews: list[Review]) -> list[Review]:
    caps = {
        "train": data.max_train_reviews,
        "validation": data.max_validation_reviews,
        "test": data.max_test_reviews,
    }
    cap = caps[split]
    if cap is None or cap >= len(reviews):
        return reviews
    seed = data.split_seed + list(caps).index(split)  # train s, validation s + 1 as in the reference, test s + 2
    drawn, _ = stratified_draw([review.treatment for review in reviews], cap, seed)
    return _pick(reviews, drawn)


def _cleaned(reviews: Iterable[Review]) -> list[Review]:
    return [replace(review, text=clean(review.text)) for review in reviews]


def _cut(reviews: list[Review], data: DataConfig) -> list[Review]:
    if data.max_review_chars is None:
        return reviews
    return [replace(review, text=piece) for review in reviews for piece in cut_text(review.text, data.max_review_chars)]


def _pick(rows: Sequence[Row], indices: Iterable[int]) -> list[Row]:
    return [rows[index] for index in indices]
