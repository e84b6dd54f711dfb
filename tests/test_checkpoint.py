"""Checkpoints rebuild a model from themselves, and say so when they cannot."""

import json
from pathlib import Path

import pytest
import torch

from nano_llm import checkpoint
from nano_llm.checkpoint import TrainingState
from nano_llm.config.compose import compose_config
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.errors import CheckpointError
from nano_llm.files import retired

WORDS = Tokenizer.of_words(["a", "dull", "film"], 64)


def save(folder: Path, *overrides: str, seed: int = 0) -> torch.nn.Module:
    config = compose_config(["scale=tiny", "data=scm", *overrides])
    torch.manual_seed(seed)
    model = checkpoint.build_model(config, WORDS.vocab_size).eval()
    training = TrainingState({"step": seed}, {"moment": torch.arange(3.0)})
    checkpoint.save(folder, config=config, tokenizer=WORDS, model=model, metrics={"step": seed}, training=training)
    return model


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=vanilla"],
        ["model=vanilla", "model/readout=mlp"],
        ["model=interblock"],
        ["model=tarnet"],
        ["model=tarnet_symmetric"],
        ["model=s_plus"],
        ["model=t_learner"],
    ],
)
def test_a_loaded_model_gives_the_same_logits(tmp_path: Path, overrides: list[str]) -> None:
    model = save(tmp_path / "c", *overrides)
    loaded = checkpoint.load(tmp_path / "c")
    tokens_BT = torch.arange(6)[None]
    assert torch.equal(loaded.model()(tokens_BT), model(tokens_BT))
    assert loaded.tokenizer.encode("a dull film") == WORDS.encode("a dull film")
    assert loaded.config.model == compose_config(["scale=tiny", "data=scm", *overrides]).model
    assert loaded.training is not None
    assert torch.equal(loaded.training.tensors["moment"], torch.arange(3.0))


def test_a_tied_embedding_is_stored_once(tmp_path: Path) -> None:
    save(tmp_path / "c", "model=vanilla")
    shapes = [tuple(tensor.shape) for tensor in checkpoint.load(tmp_path / "c").weights.values()]
    assert shapes.count((WORDS.vocab_size, 32)) == 1


def test_every_file_is_covered_by_the_manifest(tmp_path: Path) -> None:
    save(tmp_path / "c")
    manifest = json.loads((tmp_path / "c/manifest.json").read_text())
    assert {*manifest["sha256"], "manifest.json"} == {path.name for path in (tmp_path / "c").iterdir()}


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "training.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "delete"])
def test_damage_is_found_and_located(tmp_path: Path, name: str, damage: str) -> None:
    save(tmp_path / "c")
    path = tmp_path / "c" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "flip":
        path.write_bytes(content)
    else:
        path.unlink()
    with pytest.raises(CheckpointError, match=rf"damaged: {name}"):
        checkpoint.load(tmp_path / "c")


def test_a_newer_format_asks_for_an_update(tmp_path: Path) -> None:
    save(tmp_path / "c")
    path = tmp_path / "c/manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(CheckpointError, match=r"format 99.*update nano_llm"):
        checkpoint.load(tmp_path / "c")


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_folder_without_a_sound_manifest_is_refused(tmp_path: Path, content: str | None) -> None:
    save(tmp_path / "c")
    path = tmp_path / "c/manifest.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(CheckpointError, match="manifest"):
        checkpoint.load(tmp_path / "c")


def test_a_kill_between_the_two_renames_leaves_the_old_checkpoint_in_reach(tmp_path: Path) -> None:
    save(tmp_path / "c", seed=1)
    (tmp_path / "c").rename(retired(tmp_path / "c"))
    assert checkpoint.exists(tmp_path / "c")
    assert checkpoint.load(tmp_path / "c").metrics == {"step": 1}
    save(tmp_path / "c", seed=2)
    assert checkpoint.load(tmp_path / "c").metrics == {"step": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_random_state_replays_what_is_drawn() -> None:
    cpu = torch.device("cpu")
    state = checkpoint.random_state(cpu)
    first = torch.rand(5)
    checkpoint.set_random_state(state, cpu)
    assert torch.equal(torch.rand(5), first)
