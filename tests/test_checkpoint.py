"""Checkpoints rebuild a model from themselves, and say so when they cannot."""

import copy
import errno
import hashlib
import json
import os
import pickle
import random
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import odd_json
from nano_llm import checkpoint
from nano_llm.checkpoint import Checkpoint, TrainingState
from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Config
from nano_llm.data.prepare import PreparedData, prepare
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.errors import CheckpointError, DamagedCheckpointError
from nano_llm.files import retired, sealed, sha256, write_json
from nano_llm.learner import Learner
from nano_llm.training.group import ALONE
from nano_llm.training.machine import find_machine
from nano_llm.training.state import State
from properties import examples
from tiny_run import TINY_RUN

WORDS = Tokenizer.of_words(["a", "dull", "film"], 64)


FILES = ("model.safetensors", "config.json", "tokenizer.json", "metrics.json", "training.json", "training.safetensors")


def save(folder: Path, *overrides: str, seed: int = 0, spare: Path | None = None) -> torch.nn.Module:
    config = compose_config(["scale=tiny", "data=scm", *overrides])
    torch.manual_seed(seed)
    model = checkpoint.build_model(config, WORDS.vocab_size).eval()
    training = TrainingState({"step": seed}, {"moment": torch.arange(3.0)})
    checkpoint.save(
        folder, config=config, tokenizer=WORDS, model=model, metrics={"step": seed}, training=training, spare=spare
    )
    return model


def keep(checkpoints: Path, num: int) -> None:
    """Save so many checkpoints of a run, after the steps 1, 2, ..."""
    for step in range(1, num + 1):
        save(checkpoints / "last", seed=step, spare=checkpoints / "previous")


def flipped(content: bytes, position: int) -> bytes:
    changed = bytearray(content)
    changed[position // 8] ^= 1 << position % 8
    return bytes(changed)


def damage(path: Path) -> None:
    path.write_bytes(flipped(path.read_bytes(), 4 * path.stat().st_size))


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


def test_rounded_weights_give_the_logits_of_fp32_weights_that_were_rounded(tmp_path: Path) -> None:
    model = save(tmp_path / "fp32", "model=tarnet")
    loaded = checkpoint.load(tmp_path / "fp32")
    rounded = loaded.model().to(torch.bfloat16)
    checkpoint.save(tmp_path / "bf16", config=loaded.config, tokenizer=WORDS, model=rounded, metrics=loaded.metrics)
    found = checkpoint.load(tmp_path / "bf16")
    assert {tensor.dtype for tensor in found.weights.values()} == {torch.bfloat16}
    assert found.training is None
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))
    tokens_BT = torch.arange(6)[None]
    logits_BTKV = found.model()(tokens_BT)
    assert logits_BTKV.dtype == torch.float32
    assert torch.equal(logits_BTKV, model(tokens_BT))
    assert not torch.equal(logits_BTKV, loaded.model()(tokens_BT))
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("bf16", "fp32")]
    assert sizes[0] < 0.6 * sizes[1]


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
    hashes = json.loads(path.read_text())["sha256"]
    path.write_text(json.dumps(sealed({"format": 99, "sha256": hashes, "of a later version": True})))
    with pytest.raises(CheckpointError, match=r"format 99.*update nano_llm"):
        checkpoint.load(tmp_path / "c")


def test_a_checkpoint_from_before_there_were_seals_is_read(tmp_path: Path) -> None:
    save(tmp_path / "c", seed=3)
    path = tmp_path / "c/manifest.json"
    hashes = json.loads(path.read_text())["sha256"]
    path.write_text(json.dumps({"format": 1, "sha256": hashes}))
    assert checkpoint.load(tmp_path / "c").metrics == {"step": 3}


def test_every_bit_of_the_manifest_is_guarded(tmp_path: Path) -> None:
    save(tmp_path / "c")
    path = tmp_path / "c/manifest.json"
    content = path.read_bytes()
    for position in range(8 * len(content)):
        path.write_bytes(flipped(content, position))
        with pytest.raises(DamagedCheckpointError, match=r"manifest\.json"):
            checkpoint.load(tmp_path / "c")
    path.write_bytes(content)
    assert checkpoint.load(tmp_path / "c").metrics == {"step": 0}


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_are_found_and_located(tmp_path: Path, name: str) -> None:
    save(tmp_path / "c")
    path = tmp_path / "c" / name
    content = path.read_bytes()
    for position in random.Random(0).sample(range(8 * len(content)), min(40, 8 * len(content))):
        path.write_bytes(flipped(content, position))
        with pytest.raises(DamagedCheckpointError, match=rf"damaged: {re.escape(name)} missing or not as written"):
            checkpoint.load(tmp_path / "c")


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_file_cut_anywhere_is_found(tmp_path: Path, name: str) -> None:
    save(tmp_path / "c")
    path = tmp_path / "c" / name
    content = path.read_bytes()
    # A manifest that lacks no more than its last line end says all that it said.
    num_cuts = len(content) - (name == "manifest.json")
    for length in random.Random(0).sample(range(num_cuts), min(40, num_cuts)):
        path.write_bytes(content[:length])
        with pytest.raises(DamagedCheckpointError, match=re.escape(name)):
            checkpoint.load(tmp_path / "c")


def test_files_that_the_manifest_does_not_name_are_not_read(tmp_path: Path) -> None:
    config = compose_config(["scale=tiny", "data=scm"])
    model = checkpoint.build_model(config, WORDS.vocab_size)
    checkpoint.save(tmp_path / "c", config=config, tokenizer=WORDS, model=model, metrics={})
    (tmp_path / "c/training.json").write_text("no JSON")
    (tmp_path / "c/.DS_Store").write_bytes(b"\0")
    assert checkpoint.load(tmp_path / "c").training is None


@pytest.mark.parametrize("names", [[], ["model.safetensors"], [*FILES, "../outside"]])
def test_a_manifest_of_other_files_is_refused(tmp_path: Path, names: list[str]) -> None:
    save(tmp_path / "c")
    (tmp_path / "outside").write_text("")
    manifest = {"format": 1, "sha256": {name: sha256(tmp_path / "c" / name) for name in names}}
    write_json(tmp_path / "c/manifest.json", sealed(manifest))
    with pytest.raises(CheckpointError, match="expected names of files in this folder"):
        checkpoint.load(tmp_path / "c")


def test_a_bad_sector_counts_as_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "c")
    intact = checkpoint.sha256

    def fail(path: Path) -> str:
        if path.name == "model.safetensors":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return intact(path)

    monkeypatch.setattr(checkpoint, "sha256", fail)
    with pytest.raises(DamagedCheckpointError, match=r"damaged: Cannot read model\.safetensors: the disk reports"):
        checkpoint.load(tmp_path / "c")


def test_what_lies_whole_beside_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    for name, step in (("best", 1), ("last", 3), ("previous", 2)):
        save(tmp_path / name, seed=step)
    damage(tmp_path / "best/model.safetensors")
    damage(tmp_path / "previous/config.json")
    with pytest.raises(DamagedCheckpointError, match=r"which has weights too: \S+/last \(after step 3\)\.$"):
        checkpoint.load(tmp_path / "best")
    damage(tmp_path / "last/metrics.json")
    with pytest.raises(DamagedCheckpointError, match="No whole one lies beside it"):
        checkpoint.load(tmp_path / "best")


def test_the_one_before_the_last_is_kept(tmp_path: Path) -> None:
    keep(tmp_path, 3)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["last", "previous"]
    assert checkpoint.load(tmp_path / "last").metrics == {"step": 3}
    assert checkpoint.load(tmp_path / "previous").metrics == {"step": 2}


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "manifest.json"])
def test_a_run_goes_on_from_the_one_before_a_damaged_last(tmp_path: Path, name: str) -> None:
    keep(tmp_path, 3)
    damage(tmp_path / "last" / name)
    told: list[str] = []
    found = checkpoint.load_newest(tmp_path, told.append)
    assert found is not None
    assert found.metrics == {"step": 2}
    (line,) = told
    assert re.search(rf"last is damaged: {re.escape(name)} .*previous, after step 2, in its place", line)
    # The damaged one is out of the way: the next save keeps a sound one.
    assert [path.name for path in tmp_path.iterdir()] == ["last"]
    save(tmp_path / "last", seed=4, spare=tmp_path / "previous")
    assert checkpoint.load(tmp_path / "previous").metrics == {"step": 2}


def test_without_any_checkpoint_there_is_none_to_go_on_from(tmp_path: Path) -> None:
    assert checkpoint.load_newest(tmp_path, pytest.fail) is None
    assert not checkpoint.can_resume(tmp_path)


@pytest.mark.parametrize("num_kept", [1, 2])
def test_without_a_whole_checkpoint_a_run_says_what_to_do(tmp_path: Path, num_kept: int) -> None:
    keep(tmp_path, num_kept)
    for path in tmp_path.iterdir():
        damage(path / "model.safetensors")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DamagedCheckpointError, match=rf"last is damaged.*delete {tmp_path} to start again from step 0"):
        checkpoint.load_newest(tmp_path, pytest.fail)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_goes_on_from_the_one_before_where_the_disk_does_not_tell_of_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(tmp_path, 2)
    intact = Path.stat

    def fail(path: Path, **how: bool) -> os.stat_result:
        if path == tmp_path / "last":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return intact(path, **how)

    told: list[str] = []
    with monkeypatch.context() as faulty:
        faulty.setattr(Path, "stat", fail)
        found = checkpoint.load_newest(tmp_path, told.append)
    assert found is not None
    assert found.metrics == {"step": 1}
    assert "the disk reports a fault" in told[0]
    assert checkpoint.load(tmp_path / "last").metrics == {"step": 1}


def test_a_last_one_that_tells_no_step_is_refused(sound: dict[str, bytes], tmp_path: Path) -> None:
    forged(tmp_path / "last", sound | {"metrics.json": b'{"step": "1"}'})
    with pytest.raises(CheckpointError, match="tells no step"):
        checkpoint.load_newest(tmp_path, pytest.fail)


def test_a_last_one_of_a_newer_format_is_not_gone_back_behind(tmp_path: Path) -> None:
    keep(tmp_path, 2)
    write_json(tmp_path / "last/manifest.json", sealed({"format": 2, "sha256": {}}))
    with pytest.raises(CheckpointError, match="format 2") as caught:
        checkpoint.load_newest(tmp_path, pytest.fail)
    assert not isinstance(caught.value, DamagedCheckpointError)
    assert checkpoint.load(tmp_path / "previous").metrics == {"step": 1}


def test_a_kill_in_the_exchange_leaves_the_old_one_to_go_on_from(tmp_path: Path) -> None:
    keep(tmp_path, 2)
    (tmp_path / "previous").rename(retired(tmp_path / "previous"))
    (tmp_path / "last").rename(tmp_path / "previous")
    assert checkpoint.can_resume(tmp_path)
    told: list[str] = []
    found = checkpoint.load_newest(tmp_path, told.append)
    assert found is not None
    assert found.metrics == {"step": 2}
    assert "There is no checkpoint" in told[0]
    save(tmp_path / "last", seed=3, spare=tmp_path / "previous")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "previous"]


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


@pytest.mark.parametrize(
    ("call", "name"), [*(("sha256", name) for name in FILES), ("load_file", FILES[0]), ("load_file", FILES[-1])]
)
@pytest.mark.parametrize("spare", [None, "previous"])
def test_a_save_while_a_checkpoint_is_read_gives_the_new_one_whole(
    call: str, name: str, spare: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, kept = tmp_path / "last", None if spare is None else tmp_path / spare
    save(folder, seed=1)
    intact = getattr(checkpoint, call)
    saved: list[torch.nn.Module] = []

    def read_and_then_saved(path: Path) -> Any:
        content = intact(path)
        if path.name == name and not saved:
            monkeypatch.setattr(checkpoint, call, intact)
            saved.append(save(folder, seed=2, spare=kept))
        return content

    monkeypatch.setattr(checkpoint, call, read_and_then_saved)
    loaded = checkpoint.load(folder)
    (new,) = saved
    assert loaded.metrics == {"step": 2}
    assert loaded.fingerprint == sha256(folder / "manifest.json")
    assert loaded.training is not None
    assert loaded.training.values == {"step": 2}
    assert all(torch.equal(loaded.weights[name], tensor) for name, tensor in new.state_dict().items())


def test_an_old_one_that_is_removed_while_it_is_read_gives_way_to_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "best", seed=1)
    (tmp_path / "best").rename(retired(tmp_path / "best"))  # where it lies for the blink of an exchange
    intact = checkpoint.from_plain

    def read_and_then_saved(plain: Any) -> Config:
        monkeypatch.setattr(checkpoint, "from_plain", intact)
        save(tmp_path / "best", seed=2)
        return intact(plain)

    monkeypatch.setattr(checkpoint, "from_plain", read_and_then_saved)
    assert checkpoint.load(tmp_path / "best").metrics == {"step": 2}


# -------------------------------------------------------------------------------------------- anything


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a checkpoint with training state."""
    folder = tmp_path_factory.mktemp("sound") / "c"
    save(folder, "model=tarnet")
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def written(folder: Path, files: dict[str, bytes]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def forged(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files with a manifest that fits them, as somebody does who wants them to be read."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != "manifest.json"}
    manifest = json.dumps({"format": checkpoint.FORMAT, "sha256": hashes})
    return written(folder, files | {"manifest.json": manifest.encode()})


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(folder)
    message = str(caught.value)
    message.encode()
    assert len(message) < 6000
    return message


def tensors_file(header: object, num_bytes: int = 64, length: int | None = None) -> bytes:
    """A file of tensors with a header of one's own, which may lie about its own length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(num_bytes)


@st.composite
def spoiled(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes of which some are flipped, or that are cut, extended or others altogether."""
    changed = bytearray(content)
    for place in draw(st.lists(st.integers(0, len(content) - 1), max_size=4, unique=True)):
        changed[place] ^= draw(st.integers(1, 255))
    cut = draw(st.just(len(content)) | st.integers(0, len(content)))
    return draw(st.binary(max_size=9)) if draw(st.integers(0, 9)) == 0 else bytes(changed[:cut]) + draw(st.binary())


DEEP = b"[" * 100_000
TENSOR = {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}


@given(data=st.data())
def test_no_file_is_read_that_is_not_as_it_was_written(
    data: st.DataObject, sound: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = data.draw(st.sampled_from(sorted(sound.keys() - {"manifest.json"})))
    content = data.draw(spoiled(sound[name]))
    folder = written(tmp_path_factory.getbasetemp() / "spoiled", sound | {name: content})
    if content == sound[name]:
        checkpoint.load(folder)
    else:
        assert f"damaged: {name}" in refusal(folder)


@given(data=st.data())
@settings(max_examples=examples(40))
def test_a_forged_checkpoint_is_one_that_works_or_is_refused(
    data: st.DataObject, sound: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = data.draw(st.sampled_from(sorted(sound.keys() - {"manifest.json"})))
    others = spoiled(sound[name])
    if name.endswith(".json"):
        likely = st.sampled_from([1, 3, 8, 64, 0.5, "rope", "sinusoidal", "TiedReadoutConfig", "VanillaTrunkConfig"])
        documents = odd_json.changed(json.loads(sound[name]), likely | odd_json.values) | odd_json.values
        others |= documents.map(lambda value: json.dumps(value).encode()) | st.just(DEEP)
    else:
        header, _, rest = sound[name][8:].partition(b"}}")
        headers = odd_json.changed(json.loads(header + b"}}")) | odd_json.values
        others |= headers.map(lambda header: tensors_file(header) + rest)
    folder = forged(tmp_path_factory.getbasetemp() / "forged", sound | {name: data.draw(others)})
    try:
        loaded = checkpoint.load(folder)
    except CheckpointError:
        refusal(folder)
        return
    logits = loaded.model()(torch.tensor([loaded.tokenizer.encode("a dull film")]))
    assert logits.shape[-1] == loaded.tokenizer.vocab_size
    assert loaded.tokenizer.decode(range(loaded.tokenizer.vocab_size), keep_special=True)
    assert len(loaded.tokenizer.bytes_V) == loaded.tokenizer.vocab_size
    assert isinstance(loaded.metrics, dict)


# ------------------------------------------------------------------------------------------ training


class OneStep:
    """Hears the loop, and stops it after a step."""

    def __init__(self) -> None:
        self.asked = 0

    def on_step(self, state: State, metrics: dict[str, float], share: float) -> None: ...
    def on_skip(self, state: State, why: str) -> None: ...
    def on_validation(self, state: State, metrics: dict[str, float], is_best: bool) -> None: ...
    def on_save(self, state: State) -> None: ...

    def stop_reason(self) -> str | None:
        self.asked += 1
        return "done" if self.asked > 1 else None


class Resumed(NamedTuple):
    learner: Learner
    config: Config
    data: PreparedData
    values: dict[str, Any]
    tensors: bytes

    def take_up(self, values: Any, tensors: dict[str, torch.Tensor]) -> None:
        weights = self.learner.model.state_dict()
        training = TrainingState(values, tensors)
        self.learner.take_up(Checkpoint(self.config, self.data.tokenizer, weights, {}, training))


@pytest.fixture(scope="module")
def resumed(cache: Path) -> Resumed:
    """A learner after three steps, with a row of figures pending, and its training state."""
    config = compose_config([*TINY_RUN, "trainer.log_every=50"])
    machine = find_machine(config.trainer)
    data = prepare(config.data, config.protocol, config.model.num_outcomes, cache, lambda _: None)
    learner = Learner(config, data, machine, ALONE, lambda: {config.protocol.selection.name: 1.0})
    for _ in range(3):
        learner.training.run(OneStep())
    state = learner.state()
    tensors = safetensors.torch.save(state.tensors)
    return Resumed(learner, config, data, json.loads(json.dumps(state.values)), tensors)


@given(data=st.data())
@settings(max_examples=examples(60))
def test_a_forged_training_state_is_one_that_a_run_goes_on_from_or_is_refused(
    data: st.DataObject, resumed: Resumed
) -> None:
    values, tensors = resumed.values, safetensors.torch.load(resumed.tensors)
    if data.draw(st.booleans()):
        values = data.draw(odd_json.changed(values))
    else:
        name = data.draw(st.sampled_from(sorted(tensors)))
        tensor = tensors.pop(name)
        others = {
            "same": tensor,
            "other shape": tensor[..., :-1] if tensor.ndim else tensor[None],
            "other type": tensor.bool(),
            "complex": tensor.to(torch.complex64),
        }
        changed = others.get(data.draw(st.sampled_from(["gone", *others])))
        if changed is not None:
            names = [name, f"model.{name}", f"{name}.", "optimizer.0", "random.x"]
            tensors[data.draw(st.sampled_from(names))] = changed
    try:
        resumed.take_up(values, tensors)
    except CheckpointError:
        return
    resumed.learner.training.run(OneStep())
    resumed.learner.state()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda values: values["loop"].update(later=1), "later in its loop is missing or unknown"),
        (lambda values: values["loop"]["spent"].update(later=1), r"later in its loop\.spent is missing or unknown"),
        (lambda values: values["loop"]["pending"][0].pop("ce"), r"ce in its loop\.pending\[0\] is missing"),
        (lambda values: values["loop"].update(epoch="1"), r"loop\.epoch is '1'; expected"),
        (lambda values: values["loop"].update(epoch=-1), "is at"),
        (lambda values: values["loop"].update(position=10**6), "stands at window 1000000 of"),
        (lambda values: values.pop("loop"), r"training\.json has scaler; expected loop, scaler"),
        (lambda values: values.update(loop=[]), r"Its loop is \[\]"),
        (lambda values: values.update(scaler={"scale": 1.0}), "Its scaler is"),
    ],
)
def test_a_position_of_another_kind_is_refused(change: Callable[[Any], Any], complaint: str, resumed: Resumed) -> None:
    values = copy.deepcopy(resumed.values)
    change(values)
    with pytest.raises(CheckpointError, match=complaint):
        resumed.take_up(values, safetensors.torch.load(resumed.tensors))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tensors: [tensors.pop(n) for n in [*tensors] if n.startswith("optimizer.")], "moments are missing"),
        (lambda tensors: [tensors.pop(n) for n in [*tensors] if n.startswith("optimizer.1")], "one of the optimizers"),
        (lambda tensors: tensors.pop("optimizer.0.0.exp_avg"), r"optimizer's 0\.0\.exp_avg is missing"),
        (lambda tensors: tensors.update({"optimizer.0.0.exp_avg": torch.ones(3)}), r"of the shape \(3,\)"),
        (lambda tensors: tensors.update({"optimizer.0.99.exp_avg": torch.ones(3)}), r"no place for 0\.99\.exp_avg"),
        (lambda tensors: tensors.update({"model.x": torch.ones(3)}), r"no place for model\.x"),
        (lambda tensors: tensors.update({"objective.x": torch.ones(3)}), "does not fit this run"),
        (lambda tensors: tensors.update({"random.cpu": torch.ones(3)}), "cannot be restored"),
        (lambda tensors: tensors.pop("random.cpu"), "random state is missing"),
    ],
)
def test_tensors_of_another_training_are_refused(
    change: Callable[[Any], Any], complaint: str, resumed: Resumed
) -> None:
    tensors = safetensors.torch.load(resumed.tensors)
    change(tensors)
    with pytest.raises(CheckpointError, match=complaint):
        resumed.take_up(resumed.values, tensors)


def test_a_training_state_from_before_steps_were_skipped_is_gone_on_from(resumed: Resumed) -> None:
    values = copy.deepcopy(resumed.values)
    for name in ("num_skipped", "skipped_in_a_row", "recent_norms"):
        del values["loop"][name]
    resumed.take_up(values, safetensors.torch.load(resumed.tensors))
    assert resumed.learner.training.state.to_json() == resumed.values["loop"]


@given(data=st.data())
def test_any_manifest_is_one_that_fits_or_is_refused(
    data: st.DataObject, sound: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    manifest = odd_json.changed(json.loads(sound["manifest.json"])) | odd_json.values
    others = manifest.map(lambda value: json.dumps(value).encode()) | spoiled(sound["manifest.json"]) | st.just(DEEP)
    content = data.draw(others)
    folder = written(tmp_path_factory.getbasetemp() / "manifest", sound | {"manifest.json": content})
    try:
        loaded = checkpoint.load(folder)
    except CheckpointError:
        refusal(folder)
        return
    # Whatever else it says, it names the files that are read, with their hashes.
    hashes = json.loads(content)["sha256"]
    assert {name: hashlib.sha256(sound[name]).hexdigest() for name in hashes} == dict(hashes)
    assert loaded.metrics == {"step": 0}


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("model.safetensors", tensors_file({}), "Cannot read the tensors|there are 0 weights"),
        ("model.safetensors", tensors_file({"a": TENSOR}), "there are 1 weights for"),
        ("model.safetensors", tensors_file({"a": TENSOR}, length=2**63), "Cannot read the tensors"),
        ("model.safetensors", tensors_file({"a": TENSOR}, length=90_000_000), "Cannot read the tensors"),
        ("model.safetensors", tensors_file({"a": {**TENSOR, "shape": [2**40, 2**40]}}), "Cannot read the tensors"),
        ("model.safetensors", tensors_file({"a": {**TENSOR, "shape": [2**32, 2**32]}}), "Cannot read the tensors"),
        (
            "model.safetensors",
            tensors_file({"a": {**TENSOR, "dtype": "F4"}}),
            "Cannot read|there are 1 weights",
        ),
        ("model.safetensors", tensors_file(b'{"a":' * 100_000), "Cannot read the tensors"),
        ("training.safetensors", b"", "Cannot read the tensors"),
        ("config.json", DEEP, r"Cannot read .*config\.json"),
        ("config.json", b"\xff", r"Cannot read .*config\.json"),
        ("metrics.json", b"[]", r"metrics\.json holds list; expected a JSON object"),
        ("training.json", b"null", r"training\.json holds NoneType; expected a JSON object"),
        ("tokenizer.json", DEEP, r"not a tokenizer\.json"),
        ("tokenizer.json", b"\xff", "does not fit this version"),
    ],
)
def test_contents_that_fit_their_hash_and_nothing_else_are_refused(
    name: str, content: bytes, complaint: str, sound: dict[str, bytes], tmp_path: Path
) -> None:
    assert re.search(complaint, refusal(forged(tmp_path / "c", sound | {name: content})))


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool])
def test_weights_of_another_type_or_shape_are_refused(
    dtype: torch.dtype, sound: dict[str, bytes], tmp_path: Path
) -> None:
    weights = safetensors.torch.load(sound["model.safetensors"])
    name = "trunk.embedding.weight"
    other = safetensors.torch.save(weights | {name: weights[name].to(dtype)})
    assert f"{name} holds {dtype}" in refusal(forged(tmp_path / "c", sound | {"model.safetensors": other}))
    other = safetensors.torch.save(weights | {name: weights[name][:-1]})
    size = WORDS.vocab_size
    assert f"{name} has the shape ({size - 1}, 32), not ({size}, 32)" in refusal(
        forged(tmp_path / "c", sound | {"model.safetensors": other})
    )


def test_a_size_that_no_file_could_hold_is_refused_before_memory_is_asked_for(
    sound: dict[str, bytes], tmp_path: Path
) -> None:
    for name, value in (("num_layers", 10**9), ("d_model", 2**40), ("d_ff", 2**40), ("num_layers", 1024)):
        config = json.loads(sound["config.json"])
        config["scale"][name] = value
        folder = forged(tmp_path / "c", sound | {"config.json": json.dumps(config).encode()})
        assert f"{name}={value}" in refusal(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "config.json", "extra.pkl", "model.pt"])
def test_a_pickle_is_never_loaded(name: str, sound: dict[str, bytes], tmp_path: Path) -> None:
    planted = Planted(str(tmp_path / "trace"))
    torch.save(planted, tmp_path / "planted.pt")
    for content in (pickle.dumps(planted), (tmp_path / "planted.pt").read_bytes()):
        folder = forged(tmp_path / "c", sound | {name: content})
        if name in sound:
            refusal(folder)
        else:
            checkpoint.load(folder).model()
        assert not (tmp_path / "trace").exists()
    pickle.loads(pickle.dumps(planted)).close()
    assert (tmp_path / "trace").exists(), "the plant would not have shown"


class Planted:
    """A pickle that leaves a trace when it is loaded."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return open, (self.trace, "w")
