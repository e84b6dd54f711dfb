"""IMDB reviews: from a local folder in the Hub's layout, or from the Hub itself."""

import contextlib
import hashlib
import importlib
import os
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nano_llm.config.schema import ImdbConfig
from nano_llm.errors import DataError

OFFICIAL_SPLITS = ("train", "test")
_CONFIG_NAME = "plain_text"
_PROBE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class RawReviews:
    """An official split as published: raw texts and labels (0 negative, 1 positive)."""

    texts: list[str]
    labels: list[int]


def read_imdb(config: ImdbConfig) -> dict[str, RawReviews]:
    """Read both official splits, ``train`` and ``test``.

    Raises:
        DataError: The source is missing, unreachable, unreadable or not what IMDB looks like.
    """
    if config.path is None:
        return _read_hub(config)
    files = _local_files(Path(config.path).expanduser())
    return {split: _read_parquet(split, files[split]) for split in OFFICIAL_SPLITS}


def imdb_source(config: ImdbConfig) -> dict[str, str]:
    """Name the source by its content: hashes of local files, or the pinned revision on the Hub.

    Raises:
        DataError: The local folder or its files are missing or unreadable.
    """
    if config.path is None:
        return {"kind": "hub", "repository": config.repository, "revision": config.revision}
    files = _local_files(Path(config.path).expanduser())
    return {"kind": "folder", **{split: _sha256(files[split]) for split in OFFICIAL_SPLITS}}


# -------------------------------------------------------------------------------------------- folder


def _local_files(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise DataError(
            f"data.path={folder} is not a folder. Expected IMDB in the Hub's layout, "
            f"{_CONFIG_NAME}/{{train,test}}-*.parquet. Set data.path or NANO_LLM_IMDB to such a folder, leave both "
            "unset to download from the Hub, or use data=scm, which needs no download."
        )
    inner = folder / _CONFIG_NAME
    place = inner if inner.is_dir() else folder
    files = {split: sorted(place.glob(f"{split}-*.parquet")) for split in OFFICIAL_SPLITS}
    for split, found in files.items():
        if not found:
            raise DataError(
                f"{place} has no {split}-*.parquet. data.path must name a folder in the Hub's layout: "
                f"{_CONFIG_NAME}/train-00000-of-00001.parquet and {_CONFIG_NAME}/test-00000-of-00001.parquet."
            )
    return files


def _read_parquet(split: str, files: list[Path]) -> RawReviews:
    # Imported here, because a warm start needs neither it nor its 0.2 s.
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    tables = []
    for file in files:
        try:
            table = pyarrow.parquet.read_table(file)
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{file} is not a readable Parquet file: {error}. Fetch it again.") from error
        tables.append(_checked_columns(table, str(file)))
    return _raw_reviews(pyarrow.concat_tables(tables), split, str(files[0].parent))


def _sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        try:
            digest.update(file.read_bytes())
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()


# ----------------------------------------------------------------------------------------------- hub


def _read_hub(config: ImdbConfig) -> dict[str, RawReviews]:
    wanted = f"{config.repository} at revision {config.revision}"
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        raise DataError(
            f"Downloading {wanted} needs the package `datasets`, which is not installed. {_REMEDY} "
            'Or install the extra: pip install "nano-llm[data]".'
        ) from error
    try:
        with _offline_unless_reachable():
            found = datasets.load_dataset(config.repository, _CONFIG_NAME, revision=config.revision)
        tables = {split: found[split].with_format("arrow")[:] for split in OFFICIAL_SPLITS}
    except Exception as error:  # `datasets` raises many kinds, of several packages
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if "OfflineMode" in reason:
            reason = "the Hub does not answer or is switched off, and the reviews are not in the local cache"
        raise DataError(f"{wanted} could not be loaded from the Hub or its cache ({reason}). {_REMEDY}") from error
    return {split: _raw_reviews(_checked_columns(table, wanted), split, wanted) for split, table in tables.items()}


_REMEDY = (
    "Set data.path or NANO_LLM_IMDB to a local folder in the Hub's layout, or use data=scm, which needs no download."
)
# Both packages read HF_HUB_OFFLINE into a variable of this name when they are imported.
_OFFLINE_FLAGS = ("huggingface_hub.constants", "datasets.config")


@contextlib.contextmanager
def _offline_unless_reachable() -> Iterator[None]:
    """Ask the local cache only where the Hub does not answer, which spares the user half a minute of retries."""
    modules = [sys.modules[name] for name in _OFFLINE_FLAGS if name in sys.modules]
    before = [vars(module)["HF_HUB_OFFLINE"] for module in modules]
    offline = any(before) or not _hub_answers()
    try:
        for module in modules:
            vars(module)["HF_HUB_OFFLINE"] = offline
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            vars(module)["HF_HUB_OFFLINE"] = value


def _hub_answers() -> bool:
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    answered = threading.Event()

    def probe() -> None:
        try:
            urllib.request.urlopen(address, timeout=_PROBE_SECONDS).close()
        except urllib.error.HTTPError:
            pass  # an answer all the same
        except (OSError, ValueError):
            return
        answered.set()

    # In a thread of its own, because looking a name up has no timeout.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS)
    return answered.is_set()


# --------------------------------------------------------------------------------------------- checks


def _checked_columns(table: Any, where: str) -> Any:
    """Return the columns text and label of a table, as strings and 64-bit integers."""
    import pyarrow

    missing = {"text", "label"} - set(table.column_names)
    if missing:
        raise DataError(
            f"{where} lacks the column {' and '.join(sorted(missing))}; it has {', '.join(table.column_names)}."
        )
    kinds = pyarrow.types
    for name, expected, fits in (
        ("text", "string", kinds.is_string(table["text"].type) or kinds.is_large_string(table["text"].type)),
        ("label", "integer", kinds.is_integer(table["label"].type)),
    ):
        if not fits:
            raise DataError(f"{where}: column {name} has the type {table[name].type}, expected {expected}.")
    try:
        columns = table.select(["text", "label"]).cast(
            pyarrow.schema({"text": pyarrow.string(), "label": pyarrow.int64()})
        )
        columns.validate(full=True)
    except pyarrow.ArrowException as error:
        raise DataError(f"{where}: not text in UTF-8 with integer labels: {error}. Fetch it again.") from error
    return columns


def _raw_reviews(table: Any, split: str, where: str) -> RawReviews:
    texts, labels = table["text"].to_pylist(), table["label"].to_pylist()
    if not texts:
        raise DataError(f"{where}: the {split} split is empty.")
    if None in texts:
        raise DataError(f"{where}: row {texts.index(None)} of the {split} split has no text.")
    for row, label in enumerate(labels):
        if label not in (0, 1):
            raise DataError(
                f"{where}: row {row} of the {split} split has the label {label}; expected 0 (negative) or 1 (positive)."
            )
    return RawReviews(texts, labels)
