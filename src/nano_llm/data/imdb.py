"""IMDB reviews: from a local folder, or from the Hub."""

import contextlib
import importlib
import os
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

from nano_llm.config.schema import ImdbConfig
from nano_llm.data.local import local_source, read_local
from nano_llm.data.published import CONFIG_NAME, OFFICIAL_SPLITS, RawReviews, one_line, reviews_of_table
from nano_llm.errors import DataError

_PROBE_SECONDS = 3.0


def read_imdb(config: ImdbConfig) -> dict[str, RawReviews]:
    """Read both official splits, ``train`` and ``test``.

    Raises:
        DataError: The source is missing, unreachable, unreadable or not what IMDB looks like.
    """
    published = _read_hub(config) if config.path is None else read_local(config.path)
    for split, reviews in published.items():
        if not reviews.texts:
            where = config.repository if config.path is None else f"data.path={config.path}"
            raise DataError(f"{where}: the {split} split is empty; expected a review a row.")
    return published


def imdb_source(config: ImdbConfig) -> dict[str, str]:
    """Name the source by its content: hashes of local files, or the pinned revision on the Hub.

    Raises:
        DataError: The local folder or its files are missing or unreadable.
    """
    if config.path is None:
        return {"kind": "hub", "repository": config.repository, "revision": config.revision}
    return {"kind": "folder", **local_source(config.path)}


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
            found = datasets.load_dataset(config.repository, CONFIG_NAME, revision=config.revision)
        tables = {split: found[split].with_format("arrow")[:] for split in OFFICIAL_SPLITS}
    except Exception as error:  # `datasets` raises many kinds, of several packages
        reason = one_line(error)
        if "OfflineMode" in reason:
            reason = "the Hub does not answer or is switched off, and the reviews are not in the local cache"
        raise DataError(f"{wanted} could not be loaded from the Hub or its cache ({reason}). {_REMEDY}") from error
    return {split: reviews_of_table(table, f"{split} of {wanted}") for split, table in tables.items()}


_REMEDY = (
    "Set data.path or NANO_LLM_IMDB to a folder with train and test files (Parquet, CSV or JSONL), or use data=scm, "
    "which needs no download."
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
