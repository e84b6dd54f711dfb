"""What an export leaves on the disk, and where it leaves nothing."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from export.exporting import export, load_model
from nano_llm.errors import OutputError, RequestError
from nano_llm.export import folder as folders
from nano_llm.export import shipped
from nano_llm.export.folder import CODE, FILES, check_target
from untrained import untrained


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_an_export_has_its_files_and_the_code_as_it_is_here(tmp_path: Path) -> None:
    folder = export(tmp_path / "new/model", untrained("model=tarnet"))
    assert names(folder) == FILES
    assert names(tmp_path / "new") == {"model"}
    (source,) = shipped.__path__
    for name in CODE:
        assert (folder / name).read_text() == (Path(source) / name).read_text()


def test_weights_have_the_names_and_values_of_the_checkpoint(tmp_path: Path) -> None:
    checkpoint = untrained("model=tarnet")
    folder = export(tmp_path / "model", checkpoint)
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}, "transformers asks for it"
        assert {*file.keys()} == checkpoint.weights.keys()
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in checkpoint.weights.items())


def test_bf16_halves_the_weights_and_is_what_transformers_loads(tmp_path: Path) -> None:
    checkpoint = untrained("model=tarnet")
    whole, half = export(tmp_path / "whole", checkpoint), export(tmp_path / "half", checkpoint, dtype="bf16")
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, half)]
    assert sizes[1] < 0.6 * sizes[0]
    model = load_model(half)
    tokens = torch.arange(40).view(2, 20)
    with torch.no_grad():
        exact, rounded = load_model(whole)(tokens, outcome=0).logits, model(tokens, outcome=0).logits
    assert model.dtype == rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).abs().mean() < 0.05 * exact.std()
    assert model.generate(tokens, max_length=30).shape[1] <= 30


def test_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    export(tmp_path / "model", untrained("model=vanilla"))
    export(tmp_path / "model", untrained("model=tarnet"))
    assert json.loads((tmp_path / "model/config.json").read_text())["readout"] == "two_head"
    assert names(tmp_path) == {"model"}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert names(export(tmp_path / "model", untrained("model=vanilla"))) == FILES


@pytest.mark.parametrize(
    "content",
    [
        {"thesis.txt": "years of work"},
        {"config.json": '{"model_type": "llama"}', "README.md": ""},
        {"config.json": '{"model_type": "nano_llm"}', "notes.md": "mine"},
        {"config.json": "no JSON"},
        {"README.md": "mine"},
    ],
    ids=["other files", "another model", "an export and more", "damaged", "a readme"],
)
def test_a_folder_that_holds_anything_else_is_left_alone(tmp_path: Path, content: dict[str, str]) -> None:
    target = tmp_path / "target"
    target.mkdir()
    for name, text in content.items():
        (target / name).write_text(text)
    for attempt in (check_target, lambda target: export(target, untrained("model=vanilla"))):
        with pytest.raises(OutputError, match="and is left as it is"):
            attempt(target)
    assert {path.name: path.read_text() for path in target.iterdir()} == content


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        check_target(tmp_path / "file")


def test_an_export_that_fails_leaves_the_earlier_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = export(tmp_path / "model", untrained("model=vanilla"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(folders, "write_text", fail)
    with pytest.raises(OutputError, match="disk is full"):
        export(folder, untrained("model=tarnet"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert names(tmp_path) == {"model"}


def test_a_default_outcome_goes_with_two_outcomes_only(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="one law of the next token"):
        export(tmp_path / "model", untrained("model=vanilla"), outcome=0)
    assert not (tmp_path / "model").exists()
