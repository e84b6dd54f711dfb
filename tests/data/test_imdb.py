"""Reading IMDB: good folders, bad ones, and the Hub out of reach."""

import builtins
import importlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from nano_llm.config.schema import ImdbConfig
from nano_llm.data import imdb
from nano_llm.data.imdb import imdb_source, read_imdb
from nano_llm.errors import DataError

Rows = Sequence[tuple[str, int]]
WriteImdb = Callable[[Path, Rows, Rows], Path]
MakeConfig = Callable[..., ImdbConfig]

TRAIN: Rows = [("<br />bad", 0), ("good", 1)]
TEST: Rows = [("dull", 0), ("fine", 1)]


def write_table(folder: Path, split: str, columns: dict[str, Any]) -> None:
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"{split}-00000-of-00001.parquet")


def test_reads_the_hubs_layout(tmp_path: Path, write_imdb: WriteImdb, imdb_config: MakeConfig) -> None:
    folder = write_imdb(tmp_path / "imdb", TRAIN, TEST)
    found = read_imdb(imdb_config(path=str(folder)))
    assert found["train"].texts == ["<br />bad", "good"]
    assert found["test"].labels == [0, 1]


def test_reads_a_folder_that_holds_the_files_themselves(
    tmp_path: Path, write_imdb: WriteImdb, imdb_config: MakeConfig
) -> None:
    folder = write_imdb(tmp_path / "imdb", TRAIN, TEST)
    outer, inner = imdb_config(path=str(folder)), imdb_config(path=str(folder / "plain_text"))
    assert read_imdb(inner) == read_imdb(outer)
    assert imdb_source(inner) == imdb_source(outer)


def test_reads_several_files_of_a_split_in_order(tmp_path: Path, imdb_config: MakeConfig) -> None:
    for number, text in enumerate(("first", "second")):
        table = pyarrow.table({"text": [text], "label": [number]})
        pyarrow.parquet.write_table(table, tmp_path / f"train-0000{number}-of-00002.parquet")
    write_table(tmp_path, "test", {"text": ["x"], "label": [0]})
    assert read_imdb(imdb_config(path=str(tmp_path)))["train"].texts == ["first", "second"]


def test_the_source_is_named_by_content_or_revision(
    tmp_path: Path, write_imdb: WriteImdb, imdb_config: MakeConfig
) -> None:
    one = imdb_source(imdb_config(path=str(write_imdb(tmp_path / "a", TRAIN, TEST))))
    same = imdb_source(imdb_config(path=str(write_imdb(tmp_path / "b", TRAIN, TEST))))
    other = imdb_source(imdb_config(path=str(write_imdb(tmp_path / "c", TRAIN, TRAIN))))
    assert one == same
    assert one != other
    hub = imdb_source(imdb_config(path=None, repository="somebody/imdb", revision="abc"))
    assert hub == {"kind": "hub", "repository": "somebody/imdb", "revision": "abc"}


def test_a_missing_folder_names_the_remedies(imdb_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not a folder.*NANO_LLM_IMDB.*data=scm"):
        read_imdb(imdb_config(path=str(tmp_path / "nowhere")))


def test_a_missing_split_is_named(imdb_config: MakeConfig, tmp_path: Path) -> None:
    write_table(tmp_path, "train", {"text": ["x"], "label": [0]})
    with pytest.raises(DataError, match="no file of the test split"):
        imdb_source(imdb_config(path=str(tmp_path)))


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_split_is_refused(split: str, tmp_path: Path, write_imdb: WriteImdb, imdb_config: MakeConfig) -> None:
    rows = {"train": TRAIN, "test": TEST} | {split: []}
    folder = write_imdb(tmp_path / "imdb", rows["train"], rows["test"])
    with pytest.raises(DataError, match=rf"data\.path={folder}: the {split} split is empty"):
        read_imdb(imdb_config(path=str(folder)))


# ----------------------------------------------------------------------------------------------- hub


def stub_datasets(monkeypatch: pytest.MonkeyPatch, load_dataset: Callable[..., Any]) -> None:
    """Puts a `datasets` with this function, and its settings, in the place of the real one."""
    package, settings = ModuleType("datasets"), ModuleType("datasets.config")
    vars(package)["load_dataset"] = load_dataset
    vars(settings)["HF_HUB_OFFLINE"] = False
    monkeypatch.setitem(imdb.sys.modules, "datasets", package)
    monkeypatch.setitem(imdb.sys.modules, "datasets.config", settings)
    monkeypatch.setitem(imdb.sys.modules, "huggingface_hub.constants", settings)


def test_without_datasets_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, imdb_config: MakeConfig) -> None:
    def absent(name: str, *_: Any) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(DataError, match=r"not installed.*NANO_LLM_IMDB.*data=scm.*nano-llm\[data\]") as raised:
        read_imdb(imdb_config(path=None))
    assert "\n" not in str(raised.value)


def test_without_a_network_only_the_cache_is_asked_and_the_error_is_quick(
    monkeypatch: pytest.MonkeyPatch, imdb_config: MakeConfig
) -> None:
    def offline(*_: Any, **__: Any) -> Any:
        settings = imdb.sys.modules["datasets.config"]
        assert vars(settings)["HF_HUB_OFFLINE"], "retries for half a minute"
        raise ConnectionError("Couldn't reach 'stanfordnlp/imdb'\non the Hub (OfflineModeIsEnabled)")

    stub_datasets(monkeypatch, offline)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("no_proxy", "*")
    start = time.monotonic()
    with pytest.raises(DataError, match=r"does not answer.*NANO_LLM_IMDB.*data=scm") as raised:
        read_imdb(imdb_config(path=None))
    assert time.monotonic() - start < 5
    assert "\n" not in str(raised.value)
    assert not vars(imdb.sys.modules["datasets.config"])["HF_HUB_OFFLINE"]


def test_a_silent_network_does_not_hold_the_probe_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def silence(*_: Any, **__: Any) -> Any:
        time.sleep(1)
        raise OSError("no answer")

    monkeypatch.setattr(imdb, "_PROBE_SECONDS", 0.1)
    monkeypatch.setattr(imdb.urllib.request, "urlopen", silence)
    start = time.monotonic()
    assert not imdb._hub_answers()
    assert time.monotonic() - start < 1


def test_the_hub_gives_what_a_folder_gives(monkeypatch: pytest.MonkeyPatch, imdb_config: MakeConfig) -> None:
    asked = {}

    def load_dataset(repository: str, name: str, *, revision: str) -> dict[str, Any]:
        asked.update(repository=repository, name=name, revision=revision)
        tables = {
            split: pyarrow.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
            for split, rows in (("train", TRAIN), ("test", TEST))
        }
        return {split: SimpleNamespace(with_format=lambda _, table=table: table) for split, table in tables.items()}

    stub_datasets(monkeypatch, load_dataset)
    monkeypatch.setattr(imdb, "_hub_answers", lambda: True)
    found = read_imdb(imdb_config(path=None, revision="abc"))
    assert found["train"].texts == ["<br />bad", "good"]
    assert asked == {"repository": "stanfordnlp/imdb", "name": "plain_text", "revision": "abc"}


def test_local_folders_never_ask_for_datasets(
    monkeypatch: pytest.MonkeyPatch, small_imdb: Path, imdb_config: MakeConfig
) -> None:
    real_import = builtins.__import__

    def guarded(name: str, *arguments: Any, **options: Any) -> Any:
        assert name.partition(".")[0] != "datasets"
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", guarded)
    read_imdb(imdb_config(path=str(small_imdb)))
