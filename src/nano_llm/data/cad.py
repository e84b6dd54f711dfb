"""Counterfactually augmented reviews (CAD): IMDB reviews that people edited until the sentiment had turned.

Kaushik, Hovy and Lipton, arXiv 1909.12434; github acmi-lab/counterfactually-augmented-data, Apache-2.0. A file
holds two rows a pair, tab-separated, with a quoted text wherever the text has quotes itself:

    Sentiment	Text	batch_id
    Negative	"A dull ""epic"" film."	7
    Positive	"A fine ""epic"" film."	7

It does not say which member is the original; every original is a review of IMDB's official train split.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nano_llm.data.clean import clean
from nano_llm.data.delimited import read_rows
from nano_llm.data.review import Review
from nano_llm.errors import DataError
from nano_llm.files import sha256

CAD_SPLITS = ("train", "dev", "test")
_REQUIRED = ("train", "dev")
_COLUMNS = ["Sentiment", "Text", "batch_id"]
_TREATMENT = {"Negative": 0, "Positive": 1}
_PREFIX = 60  # characters of a key that name a review whose rest was altered on the way into CAD
_OTHER_THAN_KEY = bytes(set(range(128)) - set(b"abcdefghijklmnopqrstuvwxyz0123456789"))
_REMEDY = (
    "Get the folder sentiment/combined/paired of github acmi-lab/counterfactually-augmented-data (Apache-2.0) and set "
    "data.cad or NANO_LLM_CAD to it."
)


@dataclass(frozen=True, slots=True)
class CadPair:
    """An IMDB review and its revision under the other treatment, both cleaned.

    A handful of published revisions (5 of the first 1,952) have the letters of their original: nobody edited them.
    """

    id: str  # batch_id
    original: Review
    revision: Review


def key(text: str) -> str:
    """Return the letters and digits of a text, which name a review whatever became of its markup and spacing.

    Equal for a raw text and its cleaned form.

    Example: ``key("It's<br /><br />GOOD!")`` is ``"itsgood"``.
    """
    return clean(text).lower().encode("ascii", "ignore").translate(None, _OTHER_THAN_KEY).decode()


def beginning(text: str) -> str:
    """Return the start of a text's key: what names a review whose rest was altered, or that was cut."""
    return key(text)[:_PREFIX]


def cad_source(path: str | None) -> dict[str, str]:
    """Name the pairs by content: the hash of each file, by split.

    Raises:
        DataError: No folder is given, or it lacks a file.
    """
    return {split: sha256(file) for split, file in _files(path).items()}


def read_cad(path: str | None, train: Sequence[Review]) -> dict[str, list[CadPair]]:
    """Read the pairs of each split, in the order of the file.

    Args:
        path: Folder of ``{train,dev,test}_paired.tsv``; the test file may be absent.
        train: The official train split of IMDB, raw or cleaned, which holds every original.

    Raises:
        DataError: A file is missing, is not what CAD looks like, or a pair is not two members of one review.
    """
    originals = _Originals(train)
    return {
        split: [originals.pair(file, batch_id, members) for batch_id, members in _members(file).items()]
        for split, file in _files(path).items()
    }


def read_members(path: str | None, split: str) -> list[tuple[Review, Review]]:
    """Read the negative and the positive member of each pair, whichever is the original; needs no IMDB.

    Args:
        path: As in `read_cad`.
        split: train, dev or test.

    Raises:
        DataError: As in `read_cad`, or there is no file of this split.
    """
    files = _files(path)
    if split not in files:
        raise DataError(f"data.cad={path} has no {split}_paired.tsv. {_REMEDY}")
    pairs = []
    for batch_id, members in _members(files[split]).items():
        _demand_both_treatments(files[split], batch_id, members)
        negative, positive = sorted(members, key=lambda member: member.treatment)
        pairs.append((negative, positive))
    return pairs


def excluded_rows(train_texts: Sequence[str], pairs: Iterable[CadPair]) -> list[int]:
    """Return the rows of IMDB's train split that are originals of these pairs, duplicates included.

    A row is one if its key, or the first 60 characters of it, are an original's.

    Args:
        train_texts: R raw or cleaned texts.
        pairs: Of every split whose originals are to go.

    Returns:
        Rows in increasing order.
    """
    prefixes = {beginning(pair.original.text) for pair in pairs}  # equal keys have equal prefixes
    return [row for row, text in enumerate(train_texts) if beginning(text) in prefixes]


class _Originals:
    """The keys of the train split, and what they tell of a pair."""

    def __init__(self, train: Sequence[Review]) -> None:
        self._labels: dict[str, set[int]] = {}
        self._by_prefix: dict[str, list[str]] = {}
        for review in train:
            name = key(review.text)
            self._labels.setdefault(name, set()).add(review.treatment)
            self._by_prefix.setdefault(name[:_PREFIX], []).append(name)

    def pair(self, file: Path, batch_id: str, members: Sequence[Review]) -> CadPair:
        """Tell the original from the revision.

        Raises:
            DataError: Not one negative and one positive member, or no or no single original.
        """
        _demand_both_treatments(file, batch_id, members)
        keys = [key(member.text) for member in members]
        fits = [name in self._labels for name in keys]
        if all(fits):  # the same letters twice, so only the label can tell
            fits = [self._labels[name] == {member.treatment} for name, member in zip(keys, members, strict=True)]
        if not any(fits):
            nearness = [self._nearness(name) for name in keys]
            fits = [near > 0 and near == max(nearness) for near in nearness]
        if sum(fits) != 1:
            which = "both members" if all(fits) else "no member"
            raise DataError(
                f"{file}: {which} of batch_id {batch_id} can be the original, by comparison with the train split of "
                "IMDB. Is data.path the whole official IMDB?"
            )
        first = fits.index(True)
        return CadPair(batch_id, members[first], members[1 - first])

    def _nearness(self, name: str) -> float:
        """Return 1 minus the normalised edit distance to the nearest train key with the same beginning; 0 if none."""
        near = self._by_prefix.get(name[:_PREFIX], [])
        return max((difflib.SequenceMatcher(None, name, other, autojunk=False).ratio() for other in near), default=0.0)


def _demand_both_treatments(file: Path, batch_id: str, members: Sequence[Review]) -> None:
    if sorted(member.treatment for member in members) != [0, 1]:
        found = ", ".join("negative" if member.treatment == 0 else "positive" for member in members)
        raise DataError(f"{file}: batch_id {batch_id} has the members {found}; expected one negative and one positive.")


def _files(path: str | None) -> dict[str, Path]:
    if path is None:
        raise DataError(f"The counterfactually augmented reviews are asked for, but no folder is given. {_REMEDY}")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise DataError(f"data.cad={folder} is not a folder. {_REMEDY}")
    files = {split: folder / f"{split}_paired.tsv" for split in CAD_SPLITS}
    for split in _REQUIRED:
        if not files[split].is_file():
            raise DataError(f"data.cad={folder} has no {files[split].name}. {_REMEDY}")
    return {split: file for split, file in files.items() if file.is_file()}


def _members(file: Path) -> dict[str, list[Review]]:
    """Return the cleaned members of each pair by batch_id, in the order of the file."""
    members: dict[str, list[Review]] = {}
    columns, rows = read_rows(file, "\t", remedy="Fetch it again.")
    if columns != _COLUMNS:
        raise DataError(f"{file} has the columns {', '.join(columns)}; expected {', '.join(_COLUMNS)}.")
    for line, (sentiment, text, batch_id) in rows:
        if sentiment not in _TREATMENT:
            raise DataError(
                f"{file}, line {line}: batch_id {batch_id} has the sentiment {sentiment!r}; expected Negative or "
                "Positive."
            )
        members.setdefault(batch_id, []).append(Review(clean(text), _TREATMENT[sentiment]))
    return members
