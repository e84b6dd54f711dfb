"""The doctor: what is here, and what is wrong with it, each with a remedy."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from full_disk import FillingDisk, small_disk
from nano_llm import __version__
from nano_llm.cli.main import main
from sick_gpu import sick_gpus

ROOT = Path(__file__).resolve().parents[2]
REVIEWS = 'text,label\n"A dull film.",0\n"A fine film.",1\n'


@pytest.fixture(autouse=True)
def healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the machine in order: no variables of the user's, an empty home, folders that can be written."""
    for name in [name for name in os.environ if name.startswith(("NANO_LLM_", "WANDB_", "HF_", "NETRC", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for variable, name in (("HOME", "home"), ("NANO_LLM_CACHE", "cache"), ("NANO_LLM_OUTPUTS", "outputs")):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))


Doctor = Callable[[], tuple[int, dict[str, Any]]]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    def ask() -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        status = main(["doctor", "--json"])
        return status, json.loads(capsys.readouterr().out)

    return ask


def distribution(site: Path, name: str, version: str, *lines: str) -> None:
    """Lay what an installation tells of itself into a folder of packages."""
    about = site / f"{name}-{version}.dist-info"
    about.mkdir(parents=True)
    head = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    (about / "METADATA").write_text("\n".join([*head, *lines]) + "\n")


def test_nothing_is_wrong_with_a_machine_in_order(doctor: Doctor, tmp_path: Path) -> None:
    status, found = doctor()
    assert found["problems"] == []
    assert status == 0
    assert found["nano_llm"] == __version__
    assert found["environment"]["packages"]["torch"]
    assert found["machine"]["memory_bytes"] > 1 << 28
    assert found["folders"]["cache"]["path"] == str(tmp_path / "cache")
    assert found["folders"]["cache"]["free_bytes"] > 1 << 30
    assert found["data"]["imdb"]["repository"] == "stanfordnlp/imdb"


def test_every_extra_of_the_project_is_told_of(doctor: Doctor) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    _, found = doctor()
    assert found["extras"].keys() == declared.keys() - {"all", "dev"}


def test_looking_leaves_nothing_behind(doctor: Doctor, tmp_path: Path) -> None:
    for name in ("cache", "outputs"):
        (tmp_path / name).rmdir()
    status, found = doctor()
    assert status == 0
    assert found["folders"]["outputs"]["bytes"] is None
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["home"]


def test_words_tell_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "cache/prepared").write_bytes(bytes(1 << 20))
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"nano_llm {__version__} in ")
    assert f"  cache    {tmp_path}/cache: 0.0 GiB, writable" in shown
    assert "data=scm needs neither" in shown
    assert shown.endswith("\nNothing is wrong.\n")


def test_a_gpu_that_fails_is_explained(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sick_gpus(monkeypatch)
    status, found = doctor()
    assert status == 1
    assert [problem.partition(" does not compute")[0] for problem in found["problems"]] == ["GPU 0", "GPU 1"]
    assert "uncorrectable ECC error. Free it" in found["problems"][0]
    assert found["environment"]["gpu"] is None
    assert main(["doctor"]) == 1
    assert "  GPU 1  does not tell its name, bf16 unknown\n" in capsys.readouterr().out


# ----------------------------------------------------------------------------------- data and folders


def negatives_only(folder: Path) -> None:
    (folder / "train.csv").write_text('text,label\n"A dull film.",0\n')


def cut_in_the_middle(folder: Path) -> None:
    table = pyarrow.table({"text": ["A dull film."] * 100, "label": [0] * 100})
    (folder / "train.csv").unlink()
    pyarrow.parquet.write_table(table, folder / "train.parquet")
    content = (folder / "train.parquet").read_bytes()
    (folder / "train.parquet").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("harm", "told", "remedy"),
    [
        (lambda folder: (folder / "test.csv").unlink(), "no file of the test split", "Expected train and test files"),
        (
            lambda folder: (folder / "train.csv").rename(folder / "train-00000-of-00002.csv"),
            "train-00001-of-00002.csv is not there",
            "Put all parts",
        ),
        (cut_in_the_middle, "train.parquet is not a readable Parquet file", "Fetch it again"),
        (negatives_only, "reviews of the label 0 only", "Add reviews of the other label"),
        (
            lambda folder: (folder / "train.csv").write_text("text,label\n"),
            "the train split is empty",
            "expected a rev",
        ),
        (lambda folder: folder.rename(folder.with_name("moved")), "is not a folder", "leave both unset to download"),
    ],
)
def test_half_a_corpus_is_found(
    harm: Callable[[Path], object],
    told: str,
    remedy: str,
    doctor: Doctor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "imdb"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text(REVIEWS)
    monkeypatch.setenv("NANO_LLM_IMDB", str(folder))
    status, found = doctor()
    assert (status, found["data"]["imdb"]["reviews"]) == (0, {"train": 2, "test": 2})
    harm(folder)
    status, found = doctor()
    assert status == 1
    [problem] = found["problems"]
    assert told in problem
    assert remedy in problem
    assert found["data"]["imdb"]["reviews"] is None


def test_pairs_and_movies_are_held_against_what_they_belong_to(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(REVIEWS)
        (tmp_path / f"{split}.txt").write_text("tt1\ntt2\n")
    for variable in ("NANO_LLM_IMDB", "NANO_LLM_IMDB_MOVIES", "NANO_LLM_CAD"):
        monkeypatch.setenv(variable, str(tmp_path))
    (tmp_path / "test.txt").write_text("tt1\n")
    status, found = doctor()
    assert status == 1
    assert len(found["problems"]) == 2
    assert any("NANO_LLM_CAD" in problem for problem in found["problems"])
    assert any("test.txt has 1 lines" in problem for problem in found["problems"])
    assert main(["doctor"]) == 1
    assert "\n2 problems:\n  - " in capsys.readouterr().out


def test_a_cache_that_cannot_be_written_is_found(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NANO_LLM_CACHE", str(tmp_path / "file/cache"))
    status, found = doctor()
    assert status == 1
    assert found["problems"] == [
        f"Cannot write in {tmp_path}/file/cache: a part of its path is a file, not a folder; choose another place."
    ]
    assert found["folders"]["cache"]["free_bytes"] is None
    assert found["folders"]["outputs"]["free_bytes"] > 0


def test_a_full_disk_is_found(doctor: Doctor, tmp_path: Path) -> None:
    with FillingDisk((tmp_path / "outputs",), full_from=0):
        status, found = doctor()
    assert status == 1
    [problem] = found["problems"]
    assert problem.startswith(f"Cannot write in {tmp_path}/outputs: the disk is full; free some space")


def test_a_disk_with_little_space_is_found(doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "small", 1024):
        monkeypatch.setenv("NANO_LLM_CACHE", str(tmp_path / "small/cache"))
        status, found = doctor()
    assert status == 1
    [problem] = found["problems"]
    assert problem.startswith(f"Only 0.0 GiB are left for {tmp_path}/small/cache")


# --------------------------------------------------------------------------------------------- keys


def test_keys_are_told_of_and_never_shown(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor()[1]["keys"] == {"WANDB_API_KEY": False, "HF_TOKEN": False, "NANO_LLM_API_KEY": False}
    netrc = tmp_path / "home/.netrc"
    netrc.write_text("machine api.wandb.ai login user password sesame\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HF_TOKEN", "sesame")
    monkeypatch.setenv("NANO_LLM_API_KEY", "sesame")
    status, found = doctor()
    assert status == 0
    assert found["keys"] == {"WANDB_API_KEY": True, "HF_TOKEN": True, "NANO_LLM_API_KEY": True}
    assert main(["doctor"]) == 0
    assert "sesame" not in capsys.readouterr().out + json.dumps(found)


def test_a_key_for_another_server_of_wandb_is_found_where_it_is_named(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080/")
    netrc = tmp_path / "home/.netrc"
    for machine, expected in (("api.wandb.ai", False), ("wandb.example.org:8080", True)):
        netrc.write_text(f"machine {machine} login user password sesame\n")
        netrc.chmod(0o600)
        assert doctor()[1]["keys"]["WANDB_API_KEY"] is expected
    monkeypatch.setenv("WANDB_BASE_URL", "https://[no-address")
    assert not doctor()[1]["keys"]["WANDB_API_KEY"]


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, "home/.cache/huggingface/token"),
        ({"XDG_CACHE_HOME": "caches"}, "caches/huggingface/token"),
        ({"XDG_CACHE_HOME": "caches", "HF_HOME": "hub"}, "hub/token"),
    ],
)
def test_a_token_of_the_hub_is_found_where_logging_in_leaves_it(
    variables: dict[str, str], place: str, doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, folder in variables.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    assert not doctor()[1]["keys"]["HF_TOKEN"]
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text("sesame")
    assert doctor()[1]["keys"]["HF_TOKEN"]


def test_a_place_of_the_hub_that_cannot_be_looked_at_holds_no_token(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN_PATH", "x" * 5000)  # as a folder of somebody else is, for whoever is not root
    status, found = doctor()
    assert status == 0
    assert not found["keys"]["HF_TOKEN"]


def test_a_key_that_no_header_could_hold_is_found(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANO_LLM_API_KEY", "sesame\n")
    status, found = doctor()
    assert status == 1
    [problem] = found["problems"]
    assert problem.startswith("NANO_LLM_API_KEY has a character that cannot be printed")
    assert "sesame" not in problem


# ------------------------------------------------------------------------------------- installation


def test_an_old_torch_is_found(doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path / "site", "torch", "2.1.0")
    monkeypatch.syspath_prepend(tmp_path / "site")
    status, found = doctor()
    assert status == 1
    [problem] = found["problems"]
    assert problem.startswith("nano_llm needs torch<2.16,>=2.11 (2.1.0 is installed). Install it again")


def test_a_missing_package_is_found_before_it_is_imported(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    distribution(tmp_path / "site", "nano_llm", __version__, "Requires-Dist: of-no-registry>=3")
    monkeypatch.syspath_prepend(tmp_path / "site")
    status, found = doctor()
    assert status == 1
    [problem] = found["problems"]
    assert problem.startswith("nano_llm needs of-no-registry>=3 (not installed). Install it again")
    assert "machine" not in found
    assert main(["doctor"]) == 1
    assert problem in capsys.readouterr().out


def test_what_an_extra_lacks_is_told_with_its_remedy_and_is_not_wrong(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = [f"Requires-Dist: {need}; extra == 'serve'" for need in ("of-no-registry>=3", "aged<1,>=0.31", "present")]
    distribution(tmp_path / "site", "nano_llm", __version__, "Provides-Extra: serve", *wanted)
    distribution(tmp_path / "site", "aged", "0.20")
    distribution(tmp_path / "site", "present", "1")
    monkeypatch.syspath_prepend(tmp_path / "site")
    status, found = doctor()
    assert (status, found["problems"]) == (0, [])
    lacks = ["of-no-registry>=3 (not installed)", "aged<1,>=0.31 (0.20 is installed)"]
    assert found["extras"] == {"serve": lacks}
    assert main(["doctor"]) == 0
    assert f"  serve  lacks {lacks[0]}, {lacks[1]}: pip install 'nano-llm[serve]'\n" in capsys.readouterr().out


def test_code_of_another_version_than_the_installed_one_is_found(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path / "site", "nano_llm", "0.0.1")
    monkeypatch.syspath_prepend(tmp_path / "site")
    status, found = doctor()
    assert status == 1
    [problem] = found["problems"]
    assert f"This is nano_llm {__version__}, but nano-llm 0.0.1 is installed" in problem


def test_a_torch_that_cannot_be_imported_is_found(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')\n")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    command = [sys.executable, "-m", "nano_llm.cli.main", "doctor"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot be imported: libcudart.so.13: cannot open shared object file. Install a build" in done.stdout
    assert done.stderr == ""
