"""Reviews in a folder of one's own: files of data, never programs.

    <folder>/train.csv    or train.jsonl, train.parquet, or parts: train-00000-of-00002.parquet, all of so many
    <folder>/test.csv     likewise; a folder plain_text inside, as the Hub has it, takes the place of the folder

Each has the columns text (the review) and label (0 negative, 1 positive); others are ignored. CSV is UTF-8 with the
names of the columns in the first line; JSONL has an object a line. Nothing else in the folder is opened.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nano_llm.data.delimited import read_rows
from nano_llm.data.published import (
    COLUMNS,
    CONFIG_NAME,
    OFFICIAL_SPLITS,
    RawReviews,
    one_line,
    require_columns,
    reviews_of_rows,
    reviews_of_table,
)
from nano_llm.errors import DataError

_QUOTING = "Put quotes around a value that holds a separator, a quote or an end of line."
_PIECE_BYTES = 1 << 20
_LAYOUT = (
    "Expected train and test files with the columns text and label: train.parquet, train.csv or train.jsonl, or "
    "parts such as train-00000-of-00002.parquet, all of so many; likewise test. They may lie in a folder "
    f"{CONFIG_NAME} inside, as on the Hub."
)


def read_local(path: str) -> dict[str, RawReviews]:
    """Read both splits of a folder.

    Raises:
        DataError: A file is missing, unreadable or not what it should be; the message names file and row.
    """
    return {split: _read_files(files) for split, files in _files(path).items()}


def local_source(path: str) -> dict[str, str]:
    """Name the splits of a folder by the hash of their files.

    Raises:
        DataError: A file is missing or unreadable.
    """
    return {split: _sha256(files) for split, files in _files(path).items()}


# -------------------------------------------------------------------------------------------- folder


def _files(path: str) -> dict[str, list[Path]]:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"data.path={folder} is not a folder. {_LAYOUT} Set data.path or NANO_LLM_IMDB to such a folder, leave "
            "both unset to download from the Hub, or use data=scm, which needs no download."
        )
    inner = folder / CONFIG_NAME
    place = inner if inner.is_dir() else folder
    try:
        entries = sorted(entry for entry in place.iterdir() if entry.suffix in _READERS and entry.is_file())
    except OSError as error:
        raise DataError(f"{place} cannot be read: {error.strerror}.") from error
    return {split: _files_of(split, entries, place) for split in OFFICIAL_SPLITS}


def _files_of(split: str, entries: list[Path], place: Path) -> list[Path]:
    """Return the files of a split, which are of one format, and one file or all of its parts in order."""
    kinds: dict[tuple[bool, str], list[Path]] = {}
    for entry in entries:
        if entry.stem == split or entry.stem.startswith(f"{split}-"):
            kinds.setdefault((entry.stem == split, entry.suffix), []).append(entry)
    if not kinds:
        raise DataError(f"{place} has no file of the {split} split. {_LAYOUT}")
    if len(kinds) > 1:
        found = ", ".join(entry.name for files in kinds.values() for entry in files)
        raise DataError(f"{place} has the {split} split in several ways: {found}. Keep one of them. {_LAYOUT}")
    ((is_one_file, ending), files) = next(iter(kinds.items()))
    if not is_one_file:
        _demand_parts(split, ending, [file.name for file in files], place)
    return files


def _demand_parts(split: str, ending: str, names: list[str], place: Path) -> None:
    """Make sure that files are the parts of a split, each once and in order.

    Raises:
        DataError: One is no part, or one is missing.
    """
    form = re.compile(rf"{split}-\d{{5}}-of-(\d{{5}}){re.escape(ending)}")
    for name in names:
        if form.fullmatch(name) is None:
            raise DataError(
                f"{place / name} is not read: it is neither {split}{ending} nor a part such as "
                f"{split}-00000-of-00002{ending}. Rename it, or move it elsewhere."
            )
    number = int(form.sub(r"\1", names[0]))
    expected = [f"{split}-{part:05}-of-{number:05}{ending}" for part in range(min(number, len(names) + 1))]
    if names != expected:
        wrong = sorted({*names} ^ {*expected})[0]
        problem = "is not there" if wrong in expected else f"is not one of the {number} parts that {names[0]} tells of"
        raise DataError(
            f"{place} has {len(names)} parts of the {split} split, and {wrong} {problem}. Put all parts of one "
            "publication there and nothing else, or join them in one file."
        )


def _read_files(files: list[Path]) -> RawReviews:
    reviews = RawReviews([], [])
    for file in files:
        found = _READERS[file.suffix](file)
        reviews.texts.extend(found.texts)
        reviews.labels.extend(found.labels)
    return reviews


def _sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        try:
            with file.open("rb") as stream:
                while piece := stream.read(_PIECE_BYTES):
                    digest.update(piece)
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------- formats


def _read_parquet(file: Path) -> RawReviews:
    # Imported here, because a warm start needs neither it nor its 0.2 s.
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        with pyarrow.parquet.ParquetFile(file) as source:
            require_columns(source.schema_arrow.names, str(file))
            table = source.read(columns=[*COLUMNS])
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"{file} is not a readable Parquet file: {one_line(error)}. Fetch it again.") from error
    return reviews_of_table(table, str(file))


def _read_csv(file: Path) -> RawReviews:
    columns, rows = read_rows(file, ",", remedy=_QUOTING)
    require_columns(columns, str(file))
    text, label = (columns.index(column) for column in COLUMNS)
    # Every value of a CSV is text: what is no label is refused as such, and no text at all is a missing one.
    numbers: dict[str, Any] = {"0": 0, "1": 1}
    return reviews_of_rows(
        (f"{file}, line {line}", row[text] or None, numbers.get(row[label].strip(), row[label])) for line, row in rows
    )


def _read_jsonl(file: Path) -> RawReviews:
    return reviews_of_rows(_json_rows(file))


def _json_rows(file: Path) -> Iterator[tuple[str, Any, Any]]:
    try:
        # Only line feeds part lines: JSON may hold the other characters that Unicode calls line ends.
        with file.open(encoding="utf-8-sig", newline="\n") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    place = f"{file}, line {number}"
                    yield (place, *_values(line, place))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not readable text in UTF-8: {error}. Write or fetch it again.") from error


def _values(line: str, place: str) -> list[Any]:
    try:
        found = json.loads(line, object_pairs_hook=_Object)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is no JSON: {error}. Write one object a line.") from error
    if not isinstance(found, _Object):
        raise DataError(f'{place} is no object such as {{"text": "A dull film.", "label": 0}}.')
    require_columns([name for name, _ in found], place)
    return [dict(found)[column] for column in COLUMNS]


class _Object(list[tuple[str, Any]]):
    """A JSON object as its pairs, since a dict would lose a name that comes twice."""


_READERS: dict[str, Callable[[Path], RawReviews]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
}
"""Ending of a file -> what reads it."""
