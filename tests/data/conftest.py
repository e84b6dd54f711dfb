"""Configurations as composed from ``conf/``, and small corpora on disk."""

import csv
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nano_llm.config.compose import compose_config
from nano_llm.config.schema import ImdbConfig, ProtocolConfig, ScmConfig

SHARED = Path(__file__).resolve().parents[3] / "shared"
WORDS = ("a", "the", "film", "plot", "was", "is", "dull", "slow", "and", "but", "never", "I", "saw", "it's")
Rows = Sequence[tuple[str, int]]
NOTHING_FROM_THE_ENVIRONMENT = ("data.path=null", "data.cad=null", "data.movies=null")


@pytest.fixture
def shared() -> Path:
    """Skips where the shared folder beside the checkout is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder shared/ beside the checkout: reference windows, IMDB")
    return SHARED


@pytest.fixture(scope="session")
def _composed() -> dict[str, Any]:
    imdb = compose_config(["data=imdb", *NOTHING_FROM_THE_ENVIRONMENT, "protocol=fair"])
    reference = compose_config(["data=imdb", *NOTHING_FROM_THE_ENVIRONMENT, "protocol=reference"])
    scm = compose_config(["data=scm"])
    return {"imdb": imdb.data, "scm": scm.data, "fair": imdb.protocol, "reference": reference.protocol}


@pytest.fixture
def imdb_config(_composed: dict[str, Any]) -> Callable[..., ImdbConfig]:
    """Gives ``data=imdb`` with changes; ``vocab_size``, ``split_words`` and ``kind`` go to the tokenizer."""
    return lambda **changes: _changed(_composed["imdb"], changes)


@pytest.fixture
def scm_config(_composed: dict[str, Any]) -> Callable[..., ScmConfig]:
    return lambda **changes: _changed(_composed["scm"], changes)


def _changed(config: Any, changes: dict[str, Any]) -> Any:
    names = ("kind", "vocab_size", "split_words")
    tokenizer = replace(config.tokenizer, **{name: changes.pop(name) for name in names if name in changes})
    return replace(config, tokenizer=tokenizer, **changes)


@pytest.fixture
def fair(_composed: dict[str, Any]) -> ProtocolConfig:
    return replace(_composed["fair"])


@pytest.fixture
def reference(_composed: dict[str, Any]) -> ProtocolConfig:
    return replace(_composed["reference"])


def random_rows(num: int, seed: int, longest: int = 60) -> list[tuple[str, int]]:
    """Reviews of random words, labelled 0 and 1 in turn, stored label by label as on the Hub."""
    rng = random.Random(seed)
    rows = [(" ".join(rng.choices(WORDS, k=rng.randint(1, longest))) + ".", index % 2) for index in range(num)]
    return sorted(rows, key=lambda row: row[1])


@pytest.fixture
def write_imdb() -> Callable[[Path, Rows, Rows], Path]:
    """Writes a folder in the Hub's layout."""

    def write(folder: Path, train: Rows, test: Rows) -> Path:
        import pyarrow
        import pyarrow.parquet

        inner = folder / "plain_text"
        inner.mkdir(parents=True)
        for split, rows in (("train", train), ("test", test)):
            schema = pyarrow.schema({"text": pyarrow.string(), "label": pyarrow.int64()})
            columns = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
            table = pyarrow.table(columns, schema=schema)
            pyarrow.parquet.write_table(table, inner / f"{split}-00000-of-00001.parquet")
        return folder

    return write


@pytest.fixture
def write_cad() -> Callable[..., Path]:
    """Writes a folder of pairs: by split, rows of sentiment, text and batch_id, quoted as in the published files."""

    def write(folder: Path, **splits: Sequence[tuple[str, str, str]]) -> Path:
        folder.mkdir(parents=True)
        for split in ("train", "dev"):
            splits.setdefault(split, [])
        for split, rows in splits.items():
            with (folder / f"{split}_paired.tsv").open("w", encoding="utf-8", newline="") as stream:
                writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
                writer.writerows([("Sentiment", "Text", "batch_id"), *rows])
        return folder

    return write


@pytest.fixture
def small_imdb(tmp_path: Path, write_imdb: Callable[[Path, Rows, Rows], Path]) -> Path:
    """40 training and 30 test reviews."""
    return write_imdb(tmp_path / "imdb", random_rows(40, 0), random_rows(30, 1))
