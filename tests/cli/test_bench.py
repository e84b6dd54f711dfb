"""``nano-llm bench``: what it prints, writes and refuses."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from nano_llm.bench import data
from nano_llm.bench.harness import Measured, Turn, field, spread
from nano_llm.cli.main import main


def found(overrides: Sequence[str], repeats: int, imdb: Path | None) -> Measured:
    """What a measurement would have found; its row tells what was asked for."""
    asked = {"asked": " ".join(overrides), "repeats": repeats, "imdb": str(imdb), "seconds": spread([1.0])}
    columns = {name: field(name) for name in ("asked", "repeats", "imdb")}
    ceilings = {"fp32_gigaflops_per_second": 100.0, "copy_gigabytes_per_second": 10.0}
    return Measured({"corpus": "fake"}, [Turn(ceilings, {})], [asked], columns)


@pytest.fixture
def fake_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "measure", found)
    monkeypatch.delenv("NANO_LLM_IMDB", raising=False)


@pytest.mark.usefixtures("fake_data")
def test_it_prints_ceilings_and_table_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "data", "data.num_train=16"]) == 0
    shown = capsys.readouterr().out
    assert "ceilings: fp32 100 GFLOP/s, copy 10 GB/s" in shown
    assert "| model=tarnet data=scm data.num_train=16 | 3 | None |" in shown
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("fake_data")
def test_all_figures_are_written_where_asked_for(tmp_path: Path) -> None:
    assert main(["bench", "data", "--repeats", "2", "--out", str(tmp_path / "data.json")]) == 0
    written = json.loads((tmp_path / "data.json").read_text())
    assert (written["bench"], written["repeats"]) == ("data", 2)
    assert written["settings"] == {"corpus": "fake"}
    assert written["rows"][0]["seconds"] == {"median": 1.0, "lowest": 1.0, "highest": 1.0}
    assert written["ceilings"]["copy_gigabytes_per_second"]["median"] == 10
    assert written["environment"]["packages"]["torch"]


@pytest.mark.usefixtures("fake_data")
def test_imdb_is_named_by_option_or_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["bench", "data", "--imdb", "given"]) == 0
    assert "| model=tarnet data=imdb | 3 | given |" in capsys.readouterr().out
    monkeypatch.setenv("NANO_LLM_IMDB", "found")
    assert main(["bench", "data"]) == 0
    assert "| model=tarnet data=imdb | 3 | found |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("bench", "package", "told"),
    [
        ("train", "transformers", "GPT-2 needs transformers: pip install 'nano-llm[hf]'"),
        ("decode", "transformers", "GPT-2 needs transformers: pip install 'nano-llm[hf]'"),
        ("serve", "uvicorn", "Serving needs uvicorn: pip install 'nano-llm[serve]'"),
    ],
)
def test_a_missing_extra_is_named(
    bench: str, package: str, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["bench", bench]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("bench", ["train", "decode", "serve"])
def test_an_unknown_scale_is_refused_before_anything_is_measured(
    bench: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", bench, "--scales", "tiny", "nanoo"]) == 2
    assert "did you mean nano?" in capsys.readouterr().err


def test_an_unknown_setting_of_the_corpus_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "data", "data.nothing=1"]) == 2
    assert "data.nothing=1: no such setting" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_told_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["bench", "data", "--out", str(tmp_path / "missing/data.json")]) == 1
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [[], ["speed"], ["train", "--repeats", "0"], ["decode", "--tokens", "237"], ["serve", "--tokens", "many"]],
)
def test_other_lines_are_refused(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", *line])
    assert caught.value.code == 2
    assert "usage: nano-llm bench" in capsys.readouterr().err
