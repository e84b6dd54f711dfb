"""The door to all commands."""

import subprocess
from pathlib import Path

import pytest

from nano_llm import __version__
from nano_llm.cli.main import COMMANDS, main


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_an_unknown_command_suggests_a_known_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepar"]) == 2
    assert "did you mean prepare" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "run"])
def test_every_command_explains_itself_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert "example" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nano-llm pre", {"prepare"}),
        ("nano-llm run model=ta", {"model=tarnet"}),
        ("nano-llm run model=", {"model=tarnet", "model=vanilla", "model=interblock"}),
        ("nano-llm prepare data=s", {"data=scm"}),
        ("nano-llm run trainer.max_s", {"trainer.max_steps="}),
    ],
)
def test_completion_in_bash(
    line: str, expected: set[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    monkeypatch.setattr("sys.argv", ["nano-llm", "-sc", "query=bash"])
    assert main(["-sc", "query=bash"]) == 0
    offered = set(capfd.readouterr().out.split())
    assert expected <= offered
    assert not [word for word in offered if "=_" in word]


@pytest.mark.parametrize("rest", ["", "latest ", "latest --ste", "outputs/de"])
@pytest.mark.parametrize(
    "command",
    ["generate", "counterfactual", "chat", "serve", "ask", "bench", "evaluate", "status", "doctor"],
)
def test_commands_without_overrides_are_offered_none(
    command: str, rest: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", f"nano-llm {command} {rest}")
    monkeypatch.setattr("sys.argv", ["nano-llm", "-sc", "query=bash"])
    assert main(["-sc", "query=bash"]) == 0
    assert capfd.readouterr() == ("", "")


def test_prepare_copies_a_folder_that_a_run_can_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = ["data=scm", "data.num_train=16", "data.num_validation=4", "data.num_test=4"]
    target = tmp_path / "of/a/project/prepared"
    assert main(["prepare", "--to", str(target), *corpus, f"paths.cache={tmp_path}/cache"]) == 0
    assert "train: 16 windows" in capsys.readouterr().out
    assert main(["prepare", *corpus, f"data.prepared={target}", f"paths.cache={tmp_path}/unused"]) == 0
    assert not (tmp_path / "unused").exists()


def test_prepare_takes_a_copy_that_is_there_for_its_own_and_leaves_anything_else_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["prepare", "--to", str(tmp_path / "prepared"), "data=scm", f"paths.cache={tmp_path}/cache"]
    small = ["data.num_train=16", "data.num_validation=4", "data.num_test=4"]
    assert main([*command, *small]) == 0
    assert main([*command, *small]) == 0
    assert main([*command, *small, "data.num_train=17"]) == 1
    assert "exists already" in capsys.readouterr().err
    (tmp_path / "prepared/tokenizer.json").write_text("mine")
    assert main([*command, *small]) == 1
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "prepared/tokenizer.json").read_text() == "mine"


def test_the_console_script_is_installed() -> None:
    import shutil
    import sys

    script = shutil.which("nano-llm", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("nano-llm is not installed in this environment; `make test` installs it")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __version__
