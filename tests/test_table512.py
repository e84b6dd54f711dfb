"""The path of the reference's table on a machine without network, in small: prepared, in slices, on a new disk."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from small_imdb import write_reviews

SCRIPTS = Path(__file__).resolve().parents[1] / "experiments/table512"
SMALL = ("scale=tiny", "trainer.batch_size=8", "trainer.max_epochs=1")
ROWS = ("imdb_baseline_vanilla_20m", "imdb_baseline_natural_20m", "counterfactual_repeat_20m")


def carry_out(
    script: str, *words: str | Path, place: Path, **environment: str | Path
) -> subprocess.CompletedProcess[str]:
    known = {
        "PYTHON": sys.executable,
        "NANO_LLM_IMDB": place / "reviews",
        "NANO_LLM_CACHE": place / "cache",
        "OMP_NUM_THREADS": "1",
        "WHEELS": "",
        "MINUTES": "60",
    }
    variables = {name: str(value) for name, value in (known | environment).items()}
    command = ["bash", SCRIPTS / script, *words]
    return subprocess.run(command, cwd=place, env=os.environ | variables, capture_output=True, text=True, check=False)


def unpacked(home: Path, archive: str) -> set[tuple[str, str]]:
    """Return the arm and the folder of each checkpoint in an archive that was brought home."""
    pieces = b"".join(piece.read_bytes() for piece in sorted(home.glob(f"{archive}.tar.*")))
    listed = subprocess.run(["tar", "--list"], input=pieces, capture_output=True, check=True).stdout.decode()
    paths = [Path(line).parts for line in listed.splitlines() if "/checkpoints/" in line]
    return {(parts[0].rpartition("-")[0], parts[3]) for parts in paths}


@pytest.mark.slow
def test_a_slice_with_a_row_that_fails_is_gone_on_with_on_a_new_disk(tmp_path: Path) -> None:
    (tmp_path / "reviews").mkdir()
    write_reviews(tmp_path / "reviews")
    prepared = carry_out("prepare.sh", "carried", place=tmp_path)
    assert prepared.returncode == 0, prepared.stderr
    assert not (tmp_path / "carried/wheels").exists()
    (tmp_path / "carried/imdb").rename(tmp_path / "imdb")
    own = tmp_path / "old/home/own.txt"
    own.parent.mkdir(parents=True)
    own.write_text("of somebody")

    cut = carry_out("gpu.sh", "carried", *SMALL, "trainer.session_minutes=0.0001", place=tmp_path, RUNS="old", CPU="1")
    assert cut.returncode == 1
    assert cut.stderr.count("Error:") == 1
    assert cut.stderr.endswith("Failed, for the reasons above: name=counterfactual_repeat_20m\n")
    assert unpacked(own.parent, "state") == {(row, "last") for row in ROWS[:2]}
    assert not unpacked(own.parent, "weights")
    assert own.exists()

    (tmp_path / "imdb").rename(tmp_path / "carried/imdb")
    shutil.copytree(own.parent, tmp_path / "carried/home")
    done = carry_out("gpu.sh", "carried", *SMALL, place=tmp_path, RUNS="new", CPU="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Resuming after step") == 2
    assert "3 arms, 3 runs: 3 finished" in done.stdout
    assert done.stdout.count("tokens/s, MFU n/a (medians of log rows)") == 3
    assert unpacked(tmp_path / "new/home", "weights") == {(row, "best") for row in ROWS}
    assert not unpacked(tmp_path / "new/home", "state")


@pytest.mark.parametrize("script", ["prepare.sh", "gpu.sh"])
def test_without_a_folder_a_script_says_how_it_is_called(script: str, tmp_path: Path) -> None:
    done = carry_out(script, place=tmp_path)
    assert done.returncode != 0
    assert f"usage: experiments/table512/{script} DATA" in done.stderr
    assert not list(tmp_path.iterdir())
