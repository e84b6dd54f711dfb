"""``nano-llm export``: a run becomes a folder for transformers, or a sentence says why not."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from export.exporting import modules_in
from hub_stand_in import TOKEN, Hub, hub_stand_in
from nano_llm.cli.main import main
from nano_llm.export.folder import FILES
from nano_llm.tracking import locate as located


def export(run: Path | str, target: Path, *options: str) -> int:
    return main(["export", str(run), "--to", str(target), "--device", "cpu", *options])


def refusal(capsys: pytest.CaptureFixture[str], run: Path | str, target: Path, *options: str) -> str:
    assert export(run, target, *options) in (1, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ")
    assert captured.err.count("\n") == 1
    return captured.err


@contextmanager
def logged_in_to_a_stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import close_session, constants

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with hub_stand_in() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        yield hub
        close_session()


def test_a_checkpoint_is_exported(two_heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(two_heads, tmp_path / "model", "--dtype", "bf16", "--outcome", "y0") == 0
    assert capsys.readouterr().out == f"Exported {two_heads} to {tmp_path / 'model'}\n"
    assert {path.name for path in (tmp_path / "model").iterdir()} == FILES
    config = json.loads((tmp_path / "model/config.json").read_text())
    assert (config["outcome"], config["dtype"]) == (0, "bfloat16")


def test_the_card_of_a_run_tells_its_records(trained: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(trained / "outputs", outputs)
    (run,) = outputs.glob("*/*/seed-*")
    step = json.loads((run / "checkpoints/best/metrics.json").read_text())["step"]
    figure = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "num_clusters": 9}
    figure |= {"unit": "bits a byte", "better": "lower", "meaning": "of a test"}
    (run / "evaluation").mkdir(exist_ok=True)
    (run / "evaluation/heads.json").write_text(
        json.dumps({"suite": "quick", "step": step, "figures": {"bpb": figure}, "details": {}})
    )
    assert export("latest", tmp_path / "model", "--outputs", str(outputs)) == 0
    card = (tmp_path / "model/README.md").read_text()
    assert f"| run | {run.parent.name}/seed-0 |" in card
    assert "- train: 60 reviews" in card
    assert "| bpb ↓ | 0.5000 | [0.4000, 0.6000] | 9 | bits a byte | of a test |" in card
    assert str(tmp_path) not in card


def test_what_the_documentation_shows_works(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained / "outputs", tmp_path / "outputs")
    page = (Path(__file__).parents[2] / "docs/export.md").read_text(encoding="utf-8")
    commands, _ = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    with logged_in_to_a_stand_in(monkeypatch) as hub:
        for command in commands.splitlines():
            words = shlex.split(command, comments=True)
            assert words[0] == "nano-llm"
            assert main(words[1:]) == 0, capsys.readouterr().err
    assert hub.files
    capsys.readouterr()
    with modules_in(tmp_path / "modules"):
        exec(example, {})
    assert len(capsys.readouterr().out.splitlines()) >= 2


def test_exporting_loads_neither_transformers_nor_the_hub(two_heads: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from nano_llm.cli.main import main; "
        f"status = main(['export', {str(two_heads)!r}, '--to', {str(tmp_path / 'model')!r}, '--device', 'cpu']); "
        "sys.exit(status or ' '.join({'transformers', 'huggingface_hub'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_outcome_of_a_model_without_outcomes_is_refused(
    one_head: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "one law of the next token" in refusal(capsys, one_head, tmp_path / "model", "--outcome", "y1")
    assert not (tmp_path / "model").exists()


def test_the_card_of_a_shipped_model_names_no_run(
    two_heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(two_heads, tmp_path / "models/toy/checkpoints/best")
    monkeypatch.setattr(located, "models_folder", lambda: tmp_path / "models")
    assert export("toy", tmp_path / "exported") == 0
    assert "| run |" not in (tmp_path / "exported/README.md").read_text()


@pytest.mark.parametrize("name", ["gguf", "toy.gguf", "TOY.GGUF"])
def test_a_gguf_is_refused_and_told_why(
    name: str, two_heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refusal(capsys, two_heads, tmp_path / name)
    assert "no architecture of llama.cpp" in told
    assert "docs/export.md" in told
    assert not (tmp_path / name).exists()


def test_what_is_no_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "neither a run" in refusal(capsys, tmp_path, tmp_path / "model")


def test_a_folder_of_others_is_refused_before_the_model_is_read(
    two_heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("")
    assert "holds what no export does (mine.txt)" in refusal(capsys, two_heads, tmp_path)
    assert "holds what no export does" in refusal(capsys, two_heads, two_heads)
    assert (two_heads / "manifest.json").is_file()


def test_a_push_without_a_login_writes_nothing(
    two_heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no/token"))
    assert "`hf auth login`" in refusal(capsys, two_heads, tmp_path / "model", "--push", "me/toy")
    assert not (tmp_path / "model").exists()


def test_a_push_to_a_name_without_its_owner_writes_nothing(
    two_heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with logged_in_to_a_stand_in(monkeypatch):
        assert "owner/name" in refusal(capsys, two_heads, tmp_path / "model", "--push", "toy")
    assert not (tmp_path / "model").exists()


def test_a_push_uploads_the_whole_export(
    two_heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with logged_in_to_a_stand_in(monkeypatch) as hub:
        assert export(two_heads, tmp_path / "model", "--push", "me/toy") == 0
    assert capsys.readouterr().out.endswith(f"Uploaded it to {hub.address}/me/toy\n")
    assert hub.files == {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert 'name = "me/toy"' in hub.files["README.md"].decode()
