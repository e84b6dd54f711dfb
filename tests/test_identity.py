"""What a run is called, where it lies, and whether it is finished there."""

import shutil
from pathlib import Path

import pytest
from rich.console import Console

from nano_llm.config.compose import compose_config
from nano_llm.errors import DataError
from nano_llm.identity import Located, finished_summary, identify, starts_anew
from nano_llm.tracking.run_folder import RunFolder
from tiny_run import TINY_RUN, Run, metrics, only_run


def located(*overrides: str) -> Located:
    return identify(compose_config([*TINY_RUN, *overrides]))


def test_it_is_known_before_the_run_where_it_will_lie(run: Run, tmp_path: Path, cache: Path) -> None:
    places = [f"paths.outputs={tmp_path / 'outputs'}", f"paths.cache={cache}"]
    found = located(*places)
    assert not found.path.exists()
    summary = run()
    assert summary is not None
    assert summary["id"] == found.run_id
    assert only_run(tmp_path / "outputs") == found.path


def test_what_changes_numbers_is_part_of_the_name_and_what_does_not_is_none(tmp_path: Path) -> None:
    name = located().run_id
    assert located("optimizer.lr=0.5").run_id != name
    assert located("data.num_train=61").run_id != name
    assert located("seed=1").run_id == name
    assert located("trainer.num_threads=1", f"paths.cache={tmp_path}").run_id == name


def test_a_precision_left_open_is_the_one_that_it_stands_for_here() -> None:
    chosen, stated = located("trainer.precision=auto"), located("trainer.precision=fp32")
    assert chosen.config.trainer.precision == chosen.machine.precision
    assert chosen.run_id == stated.run_id


def test_a_corpus_that_is_missing_has_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        identify(compose_config(["data=imdb", f"data.path={tmp_path / 'nowhere'}"]))


def test_seeds_have_folders_of_their_own_and_differ(run: Run, tmp_path: Path) -> None:
    run("seed=1")
    run("seed=2")
    one, two = sorted((tmp_path / "outputs").glob("*/*/seed-*"))
    assert one.parent == two.parent
    assert metrics(one) != metrics(two)


def test_a_flipped_bit_of_the_summary_is_found_and_the_run_ends_again(run: Run, tmp_path: Path) -> None:
    first = run()
    path = only_run(tmp_path / "outputs") / "summary.json"
    path.write_text(path.read_text().replace('"steps": 12', '"steps": 13'))
    assert run() == first


def test_a_run_is_finished_under_its_own_name_and_with_its_best_checkpoint_only(run: Run, tmp_path: Path) -> None:
    summary = run()
    assert summary is not None
    folder = only_run(tmp_path / "outputs")
    assert finished_summary(summary["id"], folder) == summary
    assert not starts_anew(folder)
    assert finished_summary("another", folder) is None
    shutil.rmtree(folder / "checkpoints/best")
    assert finished_summary(summary["id"], folder) is None
    assert starts_anew(folder)


def test_a_run_that_has_lost_its_best_checkpoint_begins_again_once_also_after_a_failed_attempt(
    run: Run, tmp_path: Path
) -> None:
    first = run()
    folder = only_run(tmp_path / "outputs")
    shutil.rmtree(folder / "checkpoints/best")
    with RunFolder(folder, Console(quiet=True)) as attempt:
        attempt.fail("killed by SIGKILL", details="killed by SIGKILL")
    assert starts_anew(folder)
    run("trainer.session_minutes=1e-9")
    assert not starts_anew(folder)
    again = run()
    assert first is not None
    assert again is not None
    assert again["metrics"] == first["metrics"]


def test_a_run_that_was_stopped_goes_on(run: Run, tmp_path: Path) -> None:
    run("trainer.session_minutes=1e-9")
    folder = only_run(tmp_path / "outputs")
    assert finished_summary(folder.parent.name.rpartition("-")[2], folder) is None
    assert not starts_anew(folder)
