"""Trackers are chosen together, are there before training begins, and never stop it."""

from pathlib import Path
from typing import Any

import pytest
import torch.utils.tensorboard
from rich.console import Console

from nano_llm.config.compose import compose_config
from nano_llm.errors import ConfigError
from nano_llm.session import run_session
from nano_llm.sweep.cell import Cell
from nano_llm.tracking import installation, trackers
from nano_llm.tracking.run_folder import RunFolder
from nano_llm.tracking.status import read_status
from nano_llm.tracking.tracker import Start
from tiny_run import TINY_RUN, Run, assert_equal_runs, only_run


def fail(*_: Any, **__: Any) -> None:
    raise OSError("the client is broken\nas it says at length")


@pytest.mark.parametrize("point", ["__init__", "add_scalar", "close"])
def test_a_client_that_fails_is_left_out_and_the_run_goes_on(
    run: Run, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    monkeypatch.setattr(torch.utils.tensorboard.SummaryWriter, point, fail)
    chosen = [*TINY_RUN, "tracker=tensorboard", f"paths.outputs={tmp_path / 'outputs'}", f"paths.cache={cache}"]
    with (tmp_path / "console").open("w") as output:
        run_session(compose_config(chosen), chosen, Console(file=output, width=120))
    run(outputs="plain")
    folder = only_run(tmp_path / "outputs")
    assert_equal_runs(only_run(tmp_path / "plain"), folder)
    assert read_status(folder).state == "finished"
    for told in ((tmp_path / "console").read_text(), (folder / "run.log").read_text()):
        assert told.count("has failed") == 1
        assert (
            "The tracker tensorboard has failed and is left out from here on (OSError: the client is broken)." in told
        )


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
@pytest.mark.parametrize("found", [None, "0.1"])
def test_a_missing_or_old_package_is_told_before_anything_begins(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, found: str | None
) -> None:
    real = installation.installed_version
    monkeypatch.setattr(installation, "installed_version", lambda sought: found if sought == name else real(sought))
    there = "not installed" if found is None else "0.1 is installed"
    expected = rf"tracker={name}: needs {name}<.*\({there}\).*pip install 'nano-llm\[track\]'"
    with pytest.raises(ConfigError, match=expected):
        run("tracker=[wandb,tensorboard]")
    assert not (tmp_path / "outputs").exists()
    with pytest.raises(ConfigError, match=expected):  # so that a sweep starts no cell
        Cell.of(compose_config([*TINY_RUN, "tracker=[tensorboard,wandb]"]), [])


def test_files_are_all_there_is_by_default(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "installed_version", lambda name: None)
    run("trainer.max_steps=2")
    assert not {"wandb", "tensorboard"} & {path.name for path in only_run(tmp_path / "outputs").iterdir()}


class Impatience:
    """A tracker whose user does not wait for its end, which it notes."""

    def __init__(self, name: str, ended: list[str]) -> None:
        self._name, self._ended = name, ended

    def log(self, row: dict[str, Any]) -> None:
        """Show nothing."""

    def finish(self, state: str, summary: dict[str, Any] | None) -> None:
        self._ended.append(self._name)
        raise KeyboardInterrupt


def test_an_upload_ends_last_and_may_be_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second tracker is closed all the same, and whoever has asked for the run hears of no interruption."""
    ended: list[str] = []
    monkeypatch.setattr(trackers, "WandbTracker", lambda *_: Impatience("wandb", ended))
    monkeypatch.setattr(trackers, "TensorboardTracker", lambda *_: Impatience("tensorboard", ended))
    config = compose_config([*TINY_RUN, "tracker=[wandb,tensorboard]"])
    with RunFolder(tmp_path, Console(quiet=True)) as folder, trackers.Trackers(folder) as opened:
        opened.begin(Start(config, "id", 0))
    assert ended == ["tensorboard", "wandb"]
    assert "The tracker wandb is not waited for any longer" in (tmp_path / "run.log").read_text()
