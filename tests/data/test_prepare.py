"""Preparing data: content, identity, reuse."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

import nano_llm.data.prepare as module
from nano_llm.config.schema import Conditioning, ImdbConfig, ProtocolConfig, ScmConfig, ScmTopic, TokenizerKind
from nano_llm.data.build import fill_folder
from nano_llm.data.imdb import read_imdb
from nano_llm.data.prepare import PreparedData, fingerprint, prepare
from nano_llm.data.scm import sample_pairs
from nano_llm.data.windows import Windows
from nano_llm.errors import DataError, OutputError

MakeImdb = Callable[..., ImdbConfig]
MakeScm = Callable[..., ScmConfig]


def silent(_: str) -> None: ...


def refuse_to_log(line: str) -> None:
    raise AssertionError(f"nothing should be prepared here, but: {line}")


@pytest.fixture
def config(small_imdb: Path, imdb_config: MakeImdb) -> ImdbConfig:
    return imdb_config(path=str(small_imdb), vocab_size=280, window_length=96)


def texts_by_review(windows: Windows, data: PreparedData) -> dict[int, str]:
    """The text of each review, put together from the targets of its windows."""
    found: dict[int, list[int]] = {}
    for row in range(len(windows)):
        first = max(int(windows.first_target_W[row]), int(windows.prompt_length_W[row]))
        tokens = windows.tokens_WL[row, first : windows.length_W[row]]
        found.setdefault(int(windows.review_W[row]), []).extend(int(token) for token in tokens)
    return {review: data.tokenizer.decode(tokens) for review, tokens in found.items()}


def test_fair_windows_hold_every_review_whole(config: ImdbConfig, fair: ProtocolConfig, tmp_path: Path) -> None:
    data = prepare(config, fair, 2, tmp_path / "cache", silent)
    assert list(data.windows) == list(data.splits) == ["train", "validation", "test"]
    assert [len(split) for split in data.splits.values()] == [40, 15, 15]
    for name, windows in data.windows.items():
        split = data.splits[name]
        assert texts_by_review(windows, data) == {row: split[row].text for row in range(len(split))}
        assert np.array_equal(windows.treatment_W, split.treatment_R[windows.review_W])
        prompt = data.tokenizer.encode_prompt("GENERATE an IMDB-like review: [REVIEW]")
        assert (windows.tokens_WL[:, : len(prompt)] == prompt).all()
        assert split.num_bytes_R.tolist() == [len(review.text.encode()) for review in split]


def test_training_windows_start_at_words(config: ImdbConfig, fair: ProtocolConfig, tmp_path: Path) -> None:
    data = prepare(config, fair, 1, tmp_path / "cache", silent)
    windows = data.windows["train"]
    starts = windows.tokens_WL[np.arange(len(windows)), windows.prompt_length_W]
    later = np.diff(windows.review_W, prepend=-1) == 0
    assert later.sum() > 10
    assert data.tokenizer.is_word_start_V[starts[later]].all()


def test_reference_has_its_windows_and_covering_ones_for_bits_per_byte(
    config: ImdbConfig, reference: ProtocolConfig, tmp_path: Path
) -> None:
    data = prepare(config, reference, 1, tmp_path / "cache", silent)
    assert list(data.splits) == ["train", "validation"]
    assert sorted(data.windows) == ["train", "validation", "validation_covering"]
    assert (data.windows["train"].first_target_W == 1).all()
    texts = texts_by_review(data.windows["validation_covering"], data)
    split = data.splits["validation"]
    assert texts == {row: f" {split[row].text} [/REVIEW]" for row in range(len(split))}


def test_the_structural_corpus_goes_the_same_way(scm_config: MakeScm, fair: ProtocolConfig, tmp_path: Path) -> None:
    config = scm_config(num_train=40, num_validation=10, num_test=10, window_length=48)
    data = prepare(config, fair, 2, tmp_path / "cache", silent)
    for name, split in data.splits.items():
        windows = data.windows[name]
        assert texts_by_review(windows, data) == {row: split[row].text for row in range(len(split))}
        assert np.array_equal(windows.propensity_W, split.propensity_R[windows.review_W])
        assert len(set(windows.propensity_W.tolist())) > 1
    row = int(np.flatnonzero(data.windows["test"].review_W == 3)[0])
    length = data.windows["test"].prompt_length_W[row]
    prompt = data.tokenizer.decode(data.windows["test"].tokens_WL[row, :length], keep_special=True)
    assert prompt == f"<bos> GENERATE an IMDB-like review: about {data.splits['test'][3].topic} [REVIEW]"


def test_pairs_are_windows_beside_the_splits(scm_config: MakeScm, fair: ProtocolConfig, tmp_path: Path) -> None:
    config = scm_config(num_train=40, num_validation=10, num_test=10, num_pairs=6, window_length=32)
    data = prepare(config, fair, 2, tmp_path / "cache", silent)
    pairs = data.windows["pairs"]
    assert pairs.review_W.tolist() == list(range(12))
    assert pairs.treatment_W.tolist() == [0, 1] * 6
    texts = texts_by_review(pairs, data)
    for row, review in enumerate(sample_pairs(config)):
        assert review.text.startswith(texts[row])
        assert texts[row]
    assert data.record["counts"]["windows"]["pairs"]["windows"] == 12
    assert "pairs" not in data.splits
    without = prepare(replace(config, num_pairs=0), fair, 2, tmp_path / "cache", silent)
    assert "pairs" not in without.windows


def test_the_record_tells_what_weights_leave_of_the_reviews(
    scm_config: MakeScm, fair: ProtocolConfig, tmp_path: Path
) -> None:
    sizes = {}
    for confounding in (0.0, 4.0):
        config = scm_config(num_train=500, num_validation=10, num_test=10, num_pairs=0, confounding=confounding)
        counts = prepare(config, fair, 2, tmp_path / "cache", silent).record["counts"]
        sizes[confounding] = counts["splits"]["train"]["effective_reviews"]
    assert sizes[0.0] == 500
    assert 100 < sizes[4.0] < 450


def test_an_empty_review_scores_its_end_alone(
    write_imdb: Callable[..., Path], imdb_config: MakeImdb, fair: ProtocolConfig, tmp_path: Path
) -> None:
    folder = write_imdb(tmp_path / "imdb", [("<br />", 0), ("good", 1)], [("", 0), ("a", 1), ("b", 0), ("", 1)])
    data = prepare(imdb_config(path=str(folder)), fair, 2, tmp_path / "cache", silent)
    windows = data.windows["train"]
    assert windows.length_W[0] == windows.prompt_length_W[0] + 2
    assert data.splits["train"].num_bytes_R.tolist() == [0, 4]
    assert texts_by_review(windows, data) == {0: "", 1: "good"}


def test_prepared_data_is_opened_not_prepared_again(config: ImdbConfig, fair: ProtocolConfig, tmp_path: Path) -> None:
    first = prepare(config, fair, 2, tmp_path / "cache", silent)
    again = prepare(replace(config), fair, 2, tmp_path / "cache", refuse_to_log)
    assert again.record == first.record
    assert again.tokenizer.to_json() == first.tokenizer.to_json()
    assert isinstance(again.windows["train"].tokens_WL, np.memmap)
    assert first.folder.name == first.fingerprint == fingerprint(config, fair, 2)


def test_progress_is_logged_with_times(config: ImdbConfig, fair: ProtocolConfig, tmp_path: Path) -> None:
    lines: list[str] = []
    prepare(config, fair, 2, tmp_path / "cache", lines.append)
    assert lines[0].startswith("preparing imdb in ")
    for phase in ("read 40 train, 15 validation, 15 test reviews in", "fitted a tokenizer of 280 tokens in"):
        assert any(phase in line for line in lines)


def test_the_record_counts_what_is_there(config: ImdbConfig, fair: ProtocolConfig, tmp_path: Path) -> None:
    data = prepare(config, fair, 2, tmp_path / "cache", silent)
    counts = data.record["counts"]
    assert counts["vocab_size"] == data.tokenizer.vocab_size == 280
    assert counts["splits"]["train"]["reviews"] == 40
    assert counts["splits"]["train"]["positive_reviews"] == 20
    assert counts["splits"]["train"]["effective_reviews"] == 40
    assert counts["splits"]["train"]["bytes"] == data.splits["train"].num_bytes_R.sum()
    assert counts["windows"]["test"]["windows"] == len(data.windows["test"])
    assert data.record["source"]["kind"] == "folder"


def test_dropped_originals_are_told_recorded_and_change_the_fingerprint(
    config: ImdbConfig, fair: ProtocolConfig, write_cad: Callable[..., Path], tmp_path: Path
) -> None:
    original = read_imdb(config)["train"].texts[0]
    rows = [("Negative", original, "1"), ("Positive", "It turned out well.", "1")]
    excluding = replace(config, cad=str(write_cad(tmp_path / "cad", dev=rows)), exclude_cad=True)
    lines: list[str] = []
    data = prepare(excluding, fair, 2, tmp_path / "cache", lines.append)
    num = 40 - len(data.splits["train"])
    assert num >= 1
    assert f"  dropped {num} cad originals" in lines
    assert data.record["counts"]["dropped"] == {"reviews_also_in_train": 0, "cad_originals": num}
    others = write_cad(tmp_path / "others", dev=[rows[0], ("Positive", "It turned out all right.", "1")])
    changed = [config, replace(excluding, cad=str(others)), replace(config, cad=str(others))]
    found = [fingerprint(each, fair, 2) for each in changed]
    assert found[0] == found[2]
    assert len({data.fingerprint, *found}) == 3


def test_movies_are_prepared_with_the_reviews_and_change_the_fingerprint(
    config: ImdbConfig, fair: ProtocolConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "movies"
    folder.mkdir()
    (folder / "train.txt").write_text("".join(f"tt{row}\n" for row in range(40)))
    (folder / "test.txt").write_text("".join(f"tt{40 + row // 2}\n" for row in range(30)))
    known = replace(config, movies=str(folder))
    data = prepare(known, fair, 2, tmp_path / "cache", silent)
    assert data.splits["train"].movie_R.tolist() == [f"tt{row}" for row in range(40)]
    assert len({fingerprint(known, fair, 2), fingerprint(config, fair, 2)}) == 2
    (folder / "test.txt").write_text("".join(f"tt{40 + row // 3}\n" for row in range(30)))
    assert fingerprint(known, fair, 2) != data.fingerprint


CHANGES: dict[str, dict[str, Any]] = {
    "window_length": {"window_length": 90},
    "vocab_size": {"vocab_size": 270},
    "split_words": {"split_words": False},
    "kind": {"kind": TokenizerKind.words},
    "conditioning": {"conditioning": Conditioning.natural},
    "cap": {"max_train_reviews": 10},
    "chars": {"max_review_chars": 50},
    "seed": {"split_seed": 1},
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_setting_that_shapes_the_data_shapes_the_fingerprint(
    change: str, small_imdb: Path, imdb_config: MakeImdb, fair: ProtocolConfig
) -> None:
    plain = imdb_config(path=str(small_imdb))
    changed = imdb_config(path=str(small_imdb), **CHANGES[change])
    assert fingerprint(plain, fair, 1) != fingerprint(changed, fair, 1)


def test_protocol_outcomes_and_source_shape_the_fingerprint(
    config: ImdbConfig, fair: ProtocolConfig, reference: ProtocolConfig, scm_config: MakeScm, imdb_config: MakeImdb
) -> None:
    protocols = [fair, reference, replace(fair, validation_reviews=9)]
    found = [fingerprint(config, protocol, 1) for protocol in protocols]
    found += [fingerprint(config, fair, 2), fingerprint(imdb_config(path=None), fair, 1)]
    found += [fingerprint(imdb_config(path=None, revision="x"), fair, 1)]
    found += [fingerprint(scm_config(), fair, 2), fingerprint(scm_config(topic=ScmTopic.hidden), fair, 2)]
    assert len(set(found)) == len(found)


def test_labels_places_and_equal_conditionings_share_data(
    config: ImdbConfig, fair: ProtocolConfig, small_imdb: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_imdb, tmp_path / "elsewhere")
    named = replace(config, name="other", path=str(tmp_path / "elsewhere"), repository="x", revision="y")
    assert fingerprint(named, fair, 1) == fingerprint(config, fair, 1)
    spelled_out = replace(config, conditioning=Conditioning.command)
    assert fingerprint(spelled_out, fair, 2) == fingerprint(config, fair, 2)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: os.truncate(folder / "windows-train.tokens.npy", 1000),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: shutil.copy(folder.parent / "foreign.json", folder / "manifest.json"),
    ],
)
def test_a_damaged_cache_is_prepared_anew(
    damage: Callable[[Path], Any], config: ImdbConfig, fair: ProtocolConfig, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    foreign = prepare(config, fair, 1, cache, silent)
    shutil.copy(foreign.folder / "manifest.json", cache / "foreign.json")
    first = prepare(config, fair, 2, cache, silent)
    expected = np.array(first.windows["train"].tokens_WL)
    damage(first.folder)
    lines: list[str] = []
    again = prepare(config, fair, 2, cache, lines.append)
    assert "rebuilding" in lines[0]
    assert np.array_equal(again.windows["train"].tokens_WL, expected)
    prepare(config, fair, 2, cache, refuse_to_log)


def test_a_prepared_folder_works_elsewhere_without_its_source(
    config: ImdbConfig, fair: ProtocolConfig, imdb_config: MakeImdb, tmp_path: Path
) -> None:
    original = prepare(config, fair, 2, tmp_path / "cache", silent)
    copy = shutil.copytree(original.folder, tmp_path / "copy")
    expected = np.array(original.windows["test"].tokens_WL)
    shutil.rmtree(tmp_path / "cache")
    assert config.path is not None
    shutil.rmtree(config.path)
    for path in (None, config.path):
        asked = replace(config, path=path, prepared=str(copy))
        data = prepare(asked, fair, 2, tmp_path / "cache", refuse_to_log)
        assert data.fingerprint == fingerprint(asked, fair, 2) == original.fingerprint
        assert np.array_equal(data.windows["test"].tokens_WL, expected)
        assert data.record == original.record
    assert not (tmp_path / "cache").exists()


def test_a_prepared_folder_of_other_settings_is_refused_by_name(
    config: ImdbConfig, fair: ProtocolConfig, imdb_config: MakeImdb, scm_config: MakeScm, tmp_path: Path
) -> None:
    folder = prepare(config, fair, 2, tmp_path / "cache", silent).folder
    asked = imdb_config(vocab_size=300, window_length=96, prepared=str(folder))
    for use in (lambda: prepare(asked, fair, 1, tmp_path, silent), lambda: fingerprint(asked, fair, 1)):
        with pytest.raises(DataError) as raised:
            use()
        assert "data.tokenizer.vocab_size: requested 300, prepared with 280" in str(raised.value)
        assert "data.conditioning: requested 'tags', prepared with 'command'" in str(raised.value)
        assert "window_length" not in str(raised.value)
    with pytest.raises(DataError, match=r"data\.corpus: requested 'scm', prepared with 'imdb'"):
        prepare(scm_config(prepared=str(folder)), fair, 2, tmp_path, silent)


def test_a_prepared_folder_that_is_missing_or_damaged_is_refused_not_rebuilt(
    config: ImdbConfig, fair: ProtocolConfig, tmp_path: Path
) -> None:
    asked = replace(config, prepared=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="is not a folder"):
        prepare(asked, fair, 2, tmp_path / "cache", silent)
    folder = prepare(config, fair, 2, tmp_path / "cache", silent).folder
    os.truncate(folder / "train.texts.npy", 500)
    with pytest.raises(DataError, match=r"train\.texts\.npy has 500 bytes"):
        prepare(replace(config, prepared=str(folder)), fair, 2, tmp_path / "cache", silent)
    (folder / "manifest.json").write_text('{"files": {}}')
    with pytest.raises(DataError, match="not written by"):
        prepare(replace(config, prepared=str(folder)), fair, 2, tmp_path / "cache", silent)


@pytest.mark.parametrize("name", ["train", "test", "movies"])
def test_files_that_change_after_they_have_named_the_data_leave_no_trace(
    name: str, config: ImdbConfig, fair: ProtocolConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config.path is not None
    movies = tmp_path / "movies"
    movies.mkdir()
    for split, num in (("train", 40), ("test", 30)):
        (movies / f"{split}.txt").write_text("".join(f"tt{split}{row}\n" for row in range(num)))
    known, cache = replace(config, movies=str(movies)), tmp_path / "cache"

    def changed_and_filled(*arguments: Any) -> dict[str, Any]:
        monkeypatch.setattr(module, "fill_folder", fill_folder)
        if name == "movies":
            (movies / "train.txt").write_text("".join(f"tt{row // 2}\n" for row in range(40)))
        else:
            (file,) = Path(str(config.path)).rglob(f"{name}-*.parquet")
            table = pyarrow.parquet.read_table(file)
            pyarrow.parquet.write_table(table.take([*reversed(range(len(table)))]), file)
        return fill_folder(*arguments)

    monkeypatch.setattr(module, "fill_folder", changed_and_filled)
    with pytest.raises(DataError, match=rf"data=imdb \({name}\) changed while they were read; nothing was kept"):
        prepare(known, fair, 2, cache, silent)
    assert list(cache.iterdir()) == []
    assert prepare(known, fair, 2, cache, silent).fingerprint == fingerprint(known, fair, 2)


def test_settings_that_do_not_suit_leave_no_trace(
    config: ImdbConfig, fair: ProtocolConfig, imdb_config: MakeImdb, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    path = config.path
    with pytest.raises(DataError, match="at least 264"):
        prepare(imdb_config(path=path, vocab_size=200), fair, 2, cache, silent)
    with pytest.raises(DataError, match=r"window_length=20 leaves no room"):
        prepare(imdb_config(path=path, vocab_size=280, window_length=20), fair, 2, cache, silent)
    assert list(cache.iterdir()) == []


def test_a_cache_without_room_is_left_as_it_was(config: ImdbConfig, fair: ProtocolConfig, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"Cannot write .*\.npy"):
            prepare(config, fair, 2, tmp_path / "cache", silent)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_word_outside_the_vocabulary_is_named(
    write_imdb: Callable[..., Path], imdb_config: MakeImdb, fair: ProtocolConfig, tmp_path: Path
) -> None:
    folder = write_imdb(
        tmp_path / "imdb", [("a film.", 0), ("a plot.", 1)], [("a film.", 0), ("a zoo, a film.", 1)] * 2
    )
    config = imdb_config(path=str(folder), kind=TokenizerKind.words)
    with pytest.raises(DataError, match=r"has the word 'zoo', which the vocabulary.*lacks"):
        prepare(config, fair, 2, tmp_path / "cache", silent)


SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
from nano_llm.config.compose import compose_config
from nano_llm.data.prepare import prepare
config = compose_config(["data=imdb", f"data.path={sys.argv[1]}", "data.tokenizer.vocab_size=280"])
data = prepare(config.data, config.protocol, 2, Path(sys.argv[2]), print)
print(data.fingerprint, len(data.windows["train"]), *sorted({"torch", "pyarrow", "datasets"} & set(sys.modules)))
"""


def run_script(path: Path, cache: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-c", SCRIPT, str(path), str(cache)]
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)


def test_processes_that_share_a_cache_do_not_harm_each_other(small_imdb: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    processes = [run_script(small_imdb, cache) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0][-1].split()[:2] == outputs[1][-1].split()[:2]
    assert sum("fitted a tokenizer" in line for lines in outputs for line in lines) == 1
    assert len(list(cache.iterdir())) == 1
    # A third, warm, imports neither torch nor what reads the source.
    assert len(run_script(small_imdb, cache).communicate(timeout=60)[0].split()) == 2


def test_the_real_corpus_as_far_as_it_is_capped(
    shared: Path, imdb_config: MakeImdb, fair: ProtocolConfig, tmp_path: Path
) -> None:
    config = imdb_config(
        path=str(shared / "data" / "imdb"), max_train_reviews=200, max_validation_reviews=60, max_test_reviews=40
    )
    data = prepare(config, fair, 2, tmp_path / "cache", silent)
    assert {name: int(split.treatment_R.sum()) for name, split in data.splits.items()} == {
        "train": 100,
        "validation": 31,  # of 60; of the 123 reviews that are also in train, more are negative
        "test": 21,
    }
    for name, windows in data.windows.items():
        split = data.splits[name]
        assert texts_by_review(windows, data) == {row: split[row].text for row in range(len(split))}
