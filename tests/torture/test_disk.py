"""Faults of the disk at every place, where the tests of every day try a few; scaled by ``NANO_LLM_TORTURE``."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from disk_faults import check_command_at_writes, check_run_at_writes, check_run_on_small_disks, flips, leftovers, some
from full_disk import small_disk
from nano_llm import checkpoint
from nano_llm.checkpoint import TrainingState
from nano_llm.cli.main import main
from nano_llm.config.compose import compose_config
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.errors import DamagedCheckpointError
from tiny_run import TINY_RUN, Run, assert_equal_runs, only_run
from torture_factor import FACTOR

pytestmark = pytest.mark.slow

FILES = {
    "manifest.json": 20_000,
    "config.json": 500,
    "tokenizer.json": 500,
    "metrics.json": 500,
    "training.json": 500,
    "model.safetensors": 500,
    "training.safetensors": 500,
}
"""Bits that are flipped, and lengths that the file is cut to, times the factor; all, where the file has no more."""


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    config = compose_config(["scale=tiny", "data=scm"])
    words = Tokenizer.of_words(["a", "dull", "film"], 64)
    training = TrainingState({"step": 7}, {"moment": torch.arange(30.0)})
    model = checkpoint.build_model(config, words.vocab_size)
    checkpoint.save(tmp_path / "c", config=config, tokenizer=words, model=model, metrics={"step": 7}, training=training)
    return tmp_path / "c"


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_of_a_checkpoint_is_found(saved: Path, name: str) -> None:
    path = saved / name
    content = path.read_bytes()
    positions = some(FILES[name] * FACTOR, 8 * len(content), seed=1)
    for changed in flips(content, positions):
        path.write_bytes(changed)
        with pytest.raises(DamagedCheckpointError, match=re.escape(name)):
            checkpoint.load(saved)
    print(f"{name}: {len(positions):,} of {8 * len(content):,} bits flipped")


@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_cut_at_any_byte_is_found(saved: Path, name: str) -> None:
    path = saved / name
    content = path.read_bytes()
    # A manifest that lacks no more than its last line end says all that it said.
    lengths = some(FILES[name] * FACTOR, len(content) - (name == "manifest.json"), seed=1)
    for length in lengths:
        path.write_bytes(content[:length])
        with pytest.raises(DamagedCheckpointError, match=re.escape(name)):
            checkpoint.load(saved)
    print(f"{name}: cut at {len(lengths):,} of {len(content):,} bytes")


def test_a_run_on_a_disk_that_is_full_from_any_write_on(run: Run, tmp_path: Path) -> None:
    print(check_run_at_writes(run, tmp_path, num=10 * FACTOR))


def test_a_run_on_small_disks(run: Run, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 16) as disk:
        print(check_run_on_small_disks(run, disk, num=5 * FACTOR))


def test_commands_on_a_disk_that_is_full_from_any_write_on(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(outputs="trained")
    trained = only_run(tmp_path / "trained")
    requests = tmp_path / "requests.jsonl"
    requests.write_text('{"outcome": "both", "num": 16, "tokens": 4}\n' * 5)
    commands = {
        "generate": ["--requests", str(requests), "--device", "cpu", "--out"],
        "evaluate": ["--device", "cpu", "--to"],
        "report": ["--to"],
    }
    for name, options in commands.items():
        of = trained.parents[1] if name == "report" else trained

        def command(folder: Path, words: tuple[str, ...] = (name, str(of), *options)) -> int:
            return main([*words, str(folder / "written")])

        tried = check_command_at_writes(command, tmp_path / name, 5 * FACTOR, capsys)
        with capsys.disabled():
            print(tried)


def test_a_sweep_on_small_disks(tmp_path: Path, cache: Path) -> None:
    """Whatever the sweep and its cells were writing, the same command goes on once there is space."""

    def sweep(outputs: Path) -> "subprocess.CompletedProcess[str]":
        words = ["-m", *TINY_RUN, "model=vanilla,tarnet", "sweep.retries=0", "study=s", "trainer.max_steps=4"]
        places = [f"paths.outputs={outputs}", f"paths.cache={cache}"]
        return subprocess.run(
            [sys.executable, "-m", "nano_llm.run", *words, *places],
            capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    with small_disk(tmp_path / "disk", 1 << 16) as disk:
        assert sweep(disk.path / "undisturbed").returncode == 0
        needed = disk.used()
        tried = some(2 * FACTOR, 3 * needed // 16)
        for number in tried:
            outputs = disk.path / str(number)
            disk.resize(needed + max(4, 4 * number))
            failed = sweep(outputs)
            disk.resize(1 << 16)
            assert failed.returncode == 1, failed.stderr
            assert "Traceback" not in failed.stderr
            assert "the disk is full" in failed.stderr
            done = sweep(outputs)
            assert done.returncode == 0, done.stderr
            assert leftovers(outputs) == []
            for undisturbed in (disk.path / "undisturbed/s").glob("*/seed-0"):
                assert_equal_runs(undisturbed, outputs / undisturbed.relative_to(disk.path / "undisturbed"))
            subprocess.run(["rm", "-rf", outputs], check=True)
    print(f"a sweep, on {len(tried)} disks that were too small")
