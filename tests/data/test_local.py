"""Reviews in a folder of one's own: what is read, what is refused and how, and that nothing in it is run."""

import csv
import hashlib
import json
import math
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_llm.data import local
from nano_llm.data.local import local_source, read_local
from nano_llm.data.published import RawReviews
from nano_llm.errors import DataError

GOOD = [("a dull film", 0), ("a fine film", 1)]
ENDINGS = ["parquet", "csv", "jsonl"]
Row = tuple[Any, Any]


def write_parquet(file: Path, rows: Sequence[Row]) -> None:
    columns = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    empty = {"text": pyarrow.string(), "label": pyarrow.int64()}
    arrays = {name: pyarrow.array(values, None if rows else empty[name]) for name, values in columns.items()}
    pyarrow.parquet.write_table(pyarrow.table(arrays), file)


def write_csv(file: Path, rows: Sequence[Row]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])


def write_jsonl(file: Path, rows: Sequence[Row]) -> None:
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    file.write_text("\n".join(lines), encoding="utf-8")


WRITERS: dict[str, Callable[[Path, Sequence[Row]], None]] = {
    "parquet": write_parquet,
    "csv": write_csv,
    "jsonl": write_jsonl,
}


def folder_of(place: Path, ending: str, train: Sequence[Row] | bytes | str, test: Sequence[Row] = GOOD) -> str:
    """Write a folder; a train file may be given as it is to stand on disk."""
    place.mkdir(parents=True, exist_ok=True)
    file = place / f"train.{ending}"
    if isinstance(train, str):
        train = train.encode()
    if isinstance(train, bytes):
        file.write_bytes(train)
    else:
        WRITERS[ending](file, train)
    WRITERS[ending](place / f"test.{ending}", test)
    return str(place)


def refusal(path: str) -> str:
    """Return the one paragraph that says why a folder is refused."""
    with pytest.raises(DataError) as caught:
        read_local(path)
    message = str(caught.value)
    message.encode()
    assert "\n" not in message
    assert len(message) < 1000
    return message


# ---------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("ending", ENDINGS)
def test_each_format_gives_the_same_reviews(ending: str, tmp_path: Path) -> None:
    rows = [('He said: "a, b\nc"', 0), ("NA", 1), ("null", 0), ("12", 1), ("naïve\u2028\x85 🎬", 0), ("\0x", 1)]
    path = folder_of(tmp_path, ending, rows)
    assert read_local(path)["train"] == RawReviews([text for text, _ in rows], [label for _, label in rows])
    assert read_local(path)["test"] == RawReviews(["a dull film", "a fine film"], [0, 1])


@pytest.mark.parametrize("ending", ENDINGS)
def test_parts_of_a_split_are_read_in_order_and_named_by_content(ending: str, tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        for number, row in enumerate(GOOD):
            WRITERS[ending](tmp_path / place / f"train-{number:05}-of-00002.{ending}", [row])
        WRITERS[ending](tmp_path / place / f"test.{ending}", GOOD)
    assert read_local(str(tmp_path / "a"))["train"].texts == ["a dull film", "a fine film"]
    source = local_source(str(tmp_path / "a"))
    assert source == local_source(str(tmp_path / "b"))
    WRITERS[ending](tmp_path / "b" / f"test.{ending}", GOOD[::-1])
    assert source["test"] != local_source(str(tmp_path / "b"))["test"]
    assert source["train"] == local_source(str(tmp_path / "b"))["train"]


def test_splits_may_have_different_formats_and_further_columns(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("\ufefflabel,stars,text\r\n1,5,fine\r\n\r\n 0 ,1,dull\r\n", encoding="utf-8")
    (tmp_path / "test.jsonl").write_text('{"stars": [{}], "label": 0, "text": "slow"}\n\n', encoding="utf-8")
    (tmp_path / "notes.csv").write_text("train")
    assert read_local(str(tmp_path)) == {
        "train": RawReviews(["fine", "dull"], [1, 0]),
        "test": RawReviews(["slow"], [0]),
    }


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("text", ["a" * 10_000_000, "<é\0" * 3_000_000], ids=["letters", "signs"])
def test_a_review_of_ten_megabytes_is_data(ending: str, text: str, tmp_path: Path) -> None:
    assert read_local(folder_of(tmp_path, ending, [(text, 0)]))["train"].texts == [text]


def test_a_program_in_the_folder_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loading script, a pickle and a site hook lie beside the data, and a pickle in the Parquet file's metadata."""
    trace = tmp_path / "trace"
    place = tmp_path / "imdb"
    place.mkdir()
    script = f"open({str(trace)!r}, 'w')\n"
    for name in ("imdb.py", "train.py", "test.py", "__init__.py", "conftest.py", "sitecustomize.py", "dataset.py"):
        (place / name).write_text(script)
    (place / "train.pkl").write_bytes(pickle.dumps(_Planted(str(trace))))
    (place / "dataset_infos.json").write_text('{"builder_name": "imdb"}')
    field = pyarrow.field(
        "other",
        pyarrow.string(),
        metadata={
            "ARROW:extension:name": "arrow.py_extension_type",
            "ARROW:extension:metadata": pickle.dumps(_Planted(str(trace)), protocol=0),
        },
    )
    schema = pyarrow.schema([("text", pyarrow.string()), ("label", pyarrow.int64()), field])
    rows = [["dull", "fine"], [0, 1], ["a", "b"]]
    table = pyarrow.table([pyarrow.array(column) for column in rows], schema=schema)
    for split in ("train", "test"):
        pyarrow.parquet.write_table(table, place / f"{split}.parquet")
    monkeypatch.chdir(place)
    assert read_local(str(place))["train"].texts == ["dull", "fine"]
    assert read_local(".")["test"].labels == [0, 1]
    assert not trace.exists()
    pickle.loads((place / "train.pkl").read_bytes()).close()
    assert trace.exists(), "the plant would not have shown"


class _Planted:
    """A pickle that leaves a trace when it is loaded."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return open, (self.trace, "w")


# ------------------------------------------------------------------------------------- what is refused


def test_only_a_folder_with_both_splits_will_do(tmp_path: Path) -> None:
    assert "is not a folder" in refusal(str(tmp_path / "nowhere"))
    assert "no file of the train split" in refusal(str(tmp_path))
    write_csv(tmp_path / "train.csv", GOOD)
    assert "no file of the test split. Expected train and test files" in refusal(str(tmp_path))
    assert "is not a folder" in refusal(str(tmp_path / "train.csv"))
    (tmp_path / "test.csv").mkdir()
    assert "no file of the test split" in refusal(str(tmp_path))


@pytest.mark.parametrize("other", ["train.jsonl", "train-00000-of-00001.csv"])
def test_a_split_in_two_ways_is_refused(other: str, tmp_path: Path) -> None:
    path = folder_of(tmp_path, "csv", GOOD)
    WRITERS[other.rpartition(".")[2]](tmp_path / other, GOOD)
    message = refusal(path)
    assert "in several ways" in message
    assert other in message


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["train-00000-of-00002"], "train-00001-of-00002.csv is not there"),
        (["train-00001-of-00002"], "train-00000-of-00002.csv is not there"),
        (["train-00000-of-00003", "train-00002-of-00003"], "train-00001-of-00003.csv is not there"),
        (["train-00000-of-00001", "train-00000-of-00002"], "train-00000-of-00002.csv is not one of the 1 parts"),
        (["train-00000-of-00002", "train-00001-of-00003"], "train-00001-of-00002.csv is not there"),
        (["train-00000-of-99999"], "train-00001-of-99999.csv is not there"),
        (["train-00000-of-00000"], "train-00000-of-00000.csv is not one of the 0 parts"),
        (["train-00000-of-00001", "train-old"], "train-old.csv is not read"),
        (["train-backup"], "train-backup.csv is not read: it is neither train.csv nor a part"),
        (["train-0-of-1"], "train-0-of-1.csv is not read"),
    ],
)
def test_parts_are_read_all_or_not_at_all(names: list[str], complaint: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "test.csv", GOOD)
    for name in names:
        write_csv(tmp_path / f"{name}.csv", GOOD)
    assert complaint in refusal(str(tmp_path))
    with pytest.raises(DataError, match="csv"):
        local_source(str(tmp_path))


def test_files_are_hashed_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder_of(tmp_path, "csv", GOOD)
    whole = local_source(path)
    assert whole["train"] == hashlib.sha256((tmp_path / "train.csv").read_bytes()).hexdigest()
    monkeypatch.setattr(local, "_PIECE_BYTES", 1)
    monkeypatch.setattr(Path, "read_bytes", None)
    assert local_source(path) == whole


TABLES: dict[str, dict[str, Any] | list[tuple[str, Any]]] = {
    "has the column label not at all; it has text": {"text": ["a", "b"]},
    "has the column text not at all; it has review, label": {"review": ["a"], "label": [0]},
    "has the column label twice": [("text", ["a"]), ("label", [0]), ("label", [1])],
    "has the column text twice": [("text", ["a"]), ("text", ["b"]), ("label", [1])],
    "column label has the type double, expected integer": {"text": ["a"], "label": [1.0]},
    "column label has the type bool, expected integer": {"text": ["a"], "label": [True]},
    "column label has the type string, expected integer": {"text": ["a"], "label": ["pos"]},
    "column text has the type int64, expected string": {"text": [1], "label": [0]},
    "column text has the type null, expected string": {"text": [None], "label": [0]},
    "column text has the type binary, expected string": {"text": [b"a"], "label": [0]},
    "column text has the type list<element: string>, expected": {"text": [["a"]], "label": [0]},
    "row 1 (from 0): column label holds -1; expected 0 (negative)": {"text": ["a", "b"], "label": [0, -1]},
    "row 0 (from 0): column label holds 2;": {"text": ["a"], "label": [2]},
    "row 1 (from 0): column label holds None;": {"text": ["a", "b"], "label": [0, None]},
    "row 1 (from 0): column text holds None": {"text": ["a", None], "label": [0, 1]},
    "not text in UTF-8": {"text": pyarrow.array([b"fine", b"\xff\xfe"]).view(pyarrow.string()), "label": [0, 1]},
    "not text in UTF-8 with integer": {"text": ["a"], "label": pyarrow.array([2**63], pyarrow.uint64())},
}  # fmt: skip


@pytest.mark.parametrize("complaint", TABLES)
def test_a_table_of_another_form_is_refused(complaint: str, tmp_path: Path) -> None:
    columns = TABLES[complaint]
    pairs = list(columns.items()) if isinstance(columns, dict) else columns
    path = folder_of(tmp_path, "parquet", GOOD)
    table = pyarrow.table([pyarrow.array(v) for _, v in pairs], names=[name for name, _ in pairs])
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    message = refusal(path)
    assert complaint in message
    assert "train.parquet" in message


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "has the column text not at all; it has none"),
        ("a dull film,0\n", "has the column text not at all; it has a dull film, 0"),
        ("text,label,label\na,0,1\n", "has the column label twice"),
        ("text;label\na;0\n", "has the column text not at all; it has text;label"),
        ("text,label\na,0\nb,1.0\n", "line 3: column label holds '1.0'; expected 0 (negative)"),
        ("text,label\na,-1\n", "line 2: column label holds '-1'"),
        ("text,label\na,positive\n", "line 2: column label holds 'positive'"),
        ("text,label\na,\n", "line 2: column label holds ''"),
        ("text,label\n,0\n", "line 2: column text holds None, which is no text"),
        ("text,label\na, b,0\n", "line 2: 3 columns, expected 2. Put quotes"),
        ("text,label\na\n", "line 2: 1 columns, expected 2"),
        ('text,label\n"a\nb,0\n', "is not a readable file of comma-separated rows in UTF-8"),
        (b"text,label\na\xff,0\n", "is not a readable file of comma-separated rows in UTF-8"),
        ("text,label\na,0\n".encode("utf-16"), "is not a readable file of comma-separated rows in UTF-8"),
    ],
)
def test_a_csv_of_another_form_is_refused(content: str | bytes, complaint: str, tmp_path: Path) -> None:
    message = refusal(folder_of(tmp_path, "csv", content))
    assert complaint in message
    assert "train.csv" in message


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"text": "a", "label": 0}\n{"text": "b"}', "line 2 has the column label not at all"),
        ('{"text": "a", "label": 0, "label": 1}', "line 1 has the column label twice"),
        ('[{"text": "a", "label": 0}]', "line 1 is no object"),
        ('{"text": "a",\n "label": 0}', "line 1 is no JSON"),
        ('{"text": "a", "label": 1.0}', "line 1: column label holds 1.0"),
        ('{"text": "a", "label": true}', "line 1: column label holds True"),
        ('{"text": "a", "label": "1"}', "line 1: column label holds '1'"),
        ('{"text": "a", "label": -1}', "line 1: column label holds -1"),
        ('{"text": NaN, "label": 1}', "line 1: column text holds nan"),
        ('{"text": null, "label": 1}', "line 1: column text holds None"),
        ('{"text": {"text": "a", "text": "b"}, "label": 1}', "line 1: column text holds [("),
        ("[" * 1_000_000, "line 1 is no JSON"),
        ("x" * 10_000_000, "line 1 is no JSON"),
        ('{"text": "a", "label": ' + "1" * 10_000 + "}", "line 1 is no JSON"),
        (b'{"text": "\xff", "label": 0}', "is not readable text in UTF-8"),
    ],
)
def test_a_jsonl_of_another_form_is_refused(content: str | bytes, complaint: str, tmp_path: Path) -> None:
    message = refusal(folder_of(tmp_path, "jsonl", content))
    assert complaint in message
    assert "train.jsonl" in message


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read even by root")
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_cannot_be_read_is_named(ending: str, tmp_path: Path) -> None:
    path = folder_of(tmp_path, ending, GOOD)
    (tmp_path / f"train.{ending}").unlink()
    (tmp_path / f"train.{ending}").symlink_to("/proc/self/mem")
    assert f"train.{ending}" in refusal(path)
    with pytest.raises(DataError, match=rf"train\.{ending} cannot be read"):
        local_source(path)


# -------------------------------------------------------------------------------------------- anything

whole_texts = st.text(st.characters(exclude_categories=["Cs"]))
labels: st.SearchStrategy[Any] = st.sampled_from([0, 1]) | st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), whole_texts, st.just([0])
)
texts: st.SearchStrategy[Any] = whole_texts | st.one_of(
    st.none(), st.integers(), st.just(math.nan), st.lists(st.text())
)


def is_review(text: object, label: object) -> bool:
    return isinstance(text, str) and type(label) is int and label in (0, 1)


@given(rows=st.lists(st.tuples(texts, labels), max_size=5))
def test_any_rows_of_json_are_read_as_they_are_or_refused(
    rows: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = folder_of(tmp_path_factory.getbasetemp() / "jsonl", "jsonl", rows)
    if all(is_review(text, label) for text, label in rows):
        assert read_local(path)["train"] == RawReviews([text for text, _ in rows], [label for _, label in rows])
    else:
        number = next(number for number, row in enumerate(rows, start=1) if not is_review(*row))
        assert f"train.jsonl, line {number}: column" in refusal(path)


@given(rows=st.lists(st.tuples(whole_texts, st.sampled_from(["0", "1", "2", "-1", "", "0.0", "1 ", "one"]))))
def test_any_rows_of_a_csv_are_read_as_they_are_or_refused(
    rows: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = folder_of(tmp_path_factory.getbasetemp() / "csv", "csv", rows)
    read = [(text, label.strip()) for text, label in rows]
    if all(text and label in ("0", "1") for text, label in read):
        assert read_local(path)["train"] == RawReviews([text for text, _ in read], [int(label) for _, label in read])
    else:
        assert "train.csv, line " in refusal(path)


PIECES: list[bytes] = [
    b"text", b"label", b"text,label\n", b'{"text": "', b'", "label": 0}', b'"', b",", b"\n", b"\r", b"\0", b"{", b"[",
    b"0", b"1", b"\xff", b"\xef\xbb\xbf", "é".encode(), b"\\ud83d", b"1e999", b"NaN", b" ",
]  # fmt: skip


@given(
    content=st.binary() | st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join),
    ending=st.sampled_from(ENDINGS),
)
def test_any_bytes_are_reviews_or_refused(
    content: bytes, ending: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = folder_of(tmp_path_factory.getbasetemp() / "bytes", ending, content)
    try:
        found = read_local(path)["train"]
    except DataError:
        assert f"train.{ending}" in refusal(path)
        return
    assert len(found.texts) == len(found.labels)
    assert all(is_review(*row) for row in zip(found.texts, found.labels, strict=True))


@given(data=st.data())
def test_a_damaged_parquet_file_is_read_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = folder_of(tmp_path_factory.getbasetemp() / "parquet", "parquet", GOOD)
    file = Path(path, "train.parquet")
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    try:
        found = read_local(path)["train"]
    except DataError:
        assert "train.parquet" in refusal(path)
        return
    assert all(is_review(*row) for row in zip(found.texts, found.labels, strict=True))
