"""A split as published: raw texts and labels, and what every source of one must satisfy."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nano_llm.errors import DataError

OFFICIAL_SPLITS = ("train", "test")
COLUMNS = ("text", "label")
CONFIG_NAME = "plain_text"
"""Of the reviews on the Hub, and there the folder of their files."""


@dataclass(frozen=True, slots=True)
class RawReviews:
    """Raw texts and labels (0 negative, 1 positive)."""

    texts: list[str]
    labels: list[int]


def reviews_of_rows(rows: Iterable[tuple[str, Any, Any]]) -> RawReviews:
    """Return the reviews of rows whose values come from outside.

    Args:
        rows: The place of each, such as ``train.csv, line 3``, its text and its label.

    Raises:
        DataError: A row has no text, or a label other than the whole numbers 0 and 1.
    """
    reviews = RawReviews([], [])
    for place, text, label in rows:
        if not isinstance(text, str):
            raise DataError(
                f"{place}: column text holds {text!r:.80}, which is no text; give the review, or leave the row out."
            )
        if type(label) is not int or label not in (0, 1):
            raise DataError(
                f"{place}: column label holds {label!r:.80}; expected 0 (negative) or 1 (positive), a whole number. "
                "Leave out reviews without a sentiment, which some corpora label -1."
            )
        reviews.texts.append(text)
        reviews.labels.append(label)
    return reviews


def reviews_of_table(table: Any, where: str) -> RawReviews:
    """Return the reviews of an Arrow table.

    Args:
        table: Has the columns text and label, and perhaps others.
        where: Names it in messages.

    Raises:
        DataError: A column is missing, there twice or of another type, or a row is unfit.
    """
    # Imported here, because a warm start needs neither it nor its 0.2 s.
    import pyarrow  # type: ignore[import-untyped]

    try:
        require_columns(table.column_names, where)
        columns = table.select([*COLUMNS])
        _require_types(columns, where)
        columns = columns.cast(pyarrow.schema({"text": pyarrow.large_string(), "label": pyarrow.int64()}))
        columns.validate(full=True)
        texts, labels = columns["text"].to_pylist(), columns["label"].to_pylist()
    except (ValueError, pyarrow.ArrowException) as error:
        raise DataError(
            f"{where}: not text in UTF-8 with integer labels: {one_line(error)}. Fetch it again."
        ) from error
    rows = zip(texts, labels, strict=True)
    return reviews_of_rows((f"{where}, row {row} (from 0)", text, label) for row, (text, label) in enumerate(rows))


def require_columns(names: Iterable[str], where: str) -> None:
    """Refuse a table that does not have the columns text and label, each once.

    Raises:
        DataError: One is missing or there twice.
    """
    found = list(names)
    for column in COLUMNS:
        if found.count(column) != 1:
            complaint = "twice or more" if column in found else "not at all"
            shown = ", ".join(name if name.isprintable() else repr(name) for name in found)[:200] or "none"
            raise DataError(
                f"{where} has the column {column} {complaint}; it has {shown}. Expected the columns text and label, "
                "each once; others are ignored."
            )


def one_line(error: Exception) -> str:
    """Return the beginning of what an error of a library says, which may be long and of several lines."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _require_types(columns: Any, where: str) -> None:
    import pyarrow

    kinds, text, label = pyarrow.types, columns["text"].type, columns["label"].type
    for name, kind, expected, fits in (
        ("text", text, "string", kinds.is_string(text) or kinds.is_large_string(text)),
        ("label", label, "integer", kinds.is_integer(label)),
    ):
        if not fits:
            raise DataError(f"{where}: column {name} has the type {kind}, expected {expected}.")
