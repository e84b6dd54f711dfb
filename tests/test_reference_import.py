"""Import of reference checkpoints: same numbers, same settings, nothing guessed, nothing run."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from nano_llm import checkpoint
from nano_llm.cli.import_reference import main
from nano_llm.cli.main import main as nano_llm
from nano_llm.config.schema import (
    Conditioning,
    InterblockTrunkConfig,
    LossAverage,
    MlpReadoutConfig,
    Position,
    SingleHeadConfig,
    TiedReadoutConfig,
    TwoHeadConfig,
    VanillaTrunkConfig,
    Windows,
)
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.errors import CheckpointError, OutputError
from nano_llm.reference_import import LFS_POINTER, read_reference
from properties import examples

FIXTURES = Path(__file__).resolve().parents[1].parent / "shared" / "reference"
VOCAB_SIZE = 64
WORDS = "the plot is thin but every scene jumps with quick wit and good fun for you to love again and again"

# Two heads: logits 0 and 1 are compared; one head: the only logits.
PARITY = {
    "vanilla": {"position_encoding": "rope"},
    "vanilla_sinusoidal": {},
    "interblock": {"position_encoding": "rope", "block_attn_residuals": True},
    "tarnet": {"position_encoding": "rope", "block_attn_residuals": True, "tarnet_two_heads": True},
}
SMALL = {"d_model": 8, "num_heads": 2, "num_layers": 2, "d_ff": 12, "seq_len": 64}


@pytest.fixture(scope="module")
def tokenizer_json() -> str:
    tokenizer = Tokenizer.fit_reference([WORDS, WORDS], VOCAB_SIZE, split_words=True)
    assert tokenizer.vocab_size == VOCAB_SIZE
    return tokenizer.to_json()


@pytest.fixture(scope="module")
def parity() -> dict[str, Tensor]:
    path = FIXTURES / "parity.safetensors"
    if not path.exists():
        pytest.skip("needs ../shared/reference/parity.safetensors, which lies beside the checkout, not in it")
    return load_file(path)


def perceptron(n_fc: int, d: int, width: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the reference's readout; activation and dropout take two numbers after each layer."""
    if n_fc == 1:
        return {"out.weight": (VOCAB_SIZE, d)}
    hidden = {f"hidden.{3 * i}.weight": (width, width if i else d) for i in range(n_fc)}
    return {**hidden, "out.weight": (VOCAB_SIZE, width)}


def small_weights(flat: dict[str, Any]) -> dict[str, Tensor]:
    """Random weights under the reference's names, position tables included, as its state dict has them."""
    d, f, positions = flat["d_model"], flat["d_ff"], flat.get("seq_len", 128) + 10
    shapes: dict[str, tuple[int, ...]] = {"embed.weight": (VOCAB_SIZE, d)}
    if flat.get("position_encoding") == "rope":
        for layer in range(flat["num_layers"]):
            for wave in ("cos", "sin"):
                shapes[f"blocks.{layer}.attn.rope.{wave}_cached"] = (1, 1, positions, d // flat["num_heads"])
    else:
        shapes["pos_enc.pe"] = (1, positions, d)
    for layer in range(flat["num_layers"]):
        block = {f"attn.w{part}": (d, d) for part in "qkvo"} | {"ffn.0": (f, d), "ffn.3": (d, f)}
        for name, shape in block.items():
            shapes |= {f"blocks.{layer}.{name}.weight": shape, f"blocks.{layer}.{name}.bias": shape[:1]}
        norms = [f"blocks.{layer}.ln1", f"blocks.{layer}.ln2"]
        shapes |= {f"{norm}.{kind}": (d,) for norm in norms for kind in ("weight", "bias")}
        for part in ("attn", "mlp") if flat.get("block_attn_residuals") else ():
            shapes[f"blocks.{layer}.{part}_res_proj.weight"] = (1, d)
            shapes[f"blocks.{layer}.{part}_res_norm.weight"] = (d,)
    shapes |= {"ln_f.weight": (d,), "ln_f.bias": (d,)}
    n_fc, width = flat.get("tarnet_head_n_fc", 2), flat.get("tarnet_head_hidden_dim") or d
    heads = {}
    if flat.get("tarnet_two_heads"):
        heads["tarnet_shared_head"] = (n_fc, width)
        for k in (0, 1):
            own = (flat.get(f"tarnet_head{k}_n_fc"), flat.get(f"tarnet_head{k}_hidden_dim"))
            heads[f"tarnet_sentiment_delta{k}"] = (own[0] or n_fc, own[1] or width)
    elif not flat.get("weight_tie", True):
        heads["head"] = (2, d)
    for head, (depth, units) in heads.items():
        shapes |= {f"{head}.{name}": shape for name, shape in perceptron(depth, d, units).items()}
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def contents_of(flat: dict[str, Any], tokenizer_json: str, weights: dict[str, Tensor] | None = None) -> dict[str, Any]:
    return {
        "model": small_weights(flat) if weights is None else weights,
        "config": flat,
        "vocab": [],
        "tokenizer_state": {"type": "hf_bpe_byte", "tokenizer_json": tokenizer_json},
    }


def imported(tmp_path: Path, contents: dict[str, Any]) -> checkpoint.Checkpoint:
    """Import through the command, and read back what it wrote."""
    torch.save(contents, tmp_path / "best.pt")
    assert main([str(tmp_path / "best.pt"), "--to", str(tmp_path / "ours")]) == 0
    return checkpoint.load(tmp_path / "ours")


def refusal(tmp_path: Path, contents: Any) -> str:
    """Return the message of a refused import, which leaves nothing behind."""
    path = tmp_path / "best.pt"
    if isinstance(contents, bytes):
        path.write_bytes(contents)
    else:
        torch.save(contents, path)
    with pytest.raises(CheckpointError) as caught:
        main([str(path), "--to", str(tmp_path / "ours")])
    assert sorted(tmp_path.iterdir()) == [path]
    message = str(caught.value)
    assert message.startswith(f"Cannot import {path}: ")
    assert "Expected is a best.pt of the reference system" in message
    assert "\n" not in message
    return message


# ------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("variant", PARITY)
def test_logits_are_those_of_the_reference(
    variant: str, parity: dict[str, Tensor], tokenizer_json: str, tmp_path: Path
) -> None:
    prefix = f"{variant}.state."
    weights = {name.removeprefix(prefix): value for name, value in parity.items() if name.startswith(prefix)}
    flat = {"d_model": 32, "num_heads": 4, "num_layers": 6, "d_ff": 48, "seq_len": 64, **PARITY[variant]}
    read = imported(tmp_path, contents_of(flat, tokenizer_json, weights))
    with torch.no_grad():
        logits_BTKV = read.model()(parity[f"{variant}.input_ids"])
    heads = ["logits0", "logits1"] if variant == "tarnet" else ["logits"]
    expected_BTKV = torch.stack([parity[f"{variant}.{head}"] for head in heads], dim=2)
    torch.testing.assert_close(logits_BTKV, expected_BTKV, rtol=0, atol=1e-5)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrapped_models_are_dropped(prefix: str, tokenizer_json: str, tmp_path: Path) -> None:
    weights = small_weights(SMALL)
    plain = imported(tmp_path, contents_of(SMALL, tokenizer_json, weights)).weights
    (tmp_path / "wrapped").mkdir()
    named = {prefix + name: tensor for name, tensor in weights.items()}
    wrapped = imported(tmp_path / "wrapped", contents_of(SMALL, tokenizer_json, named)).weights
    assert plain.keys() == wrapped.keys()
    assert all(torch.equal(plain[name], wrapped[name]) for name in plain)


@pytest.mark.parametrize(
    ("own", "depths", "widths"),
    [
        ({}, [2, 2, 2], [8, 8, 8]),
        ({"tarnet_head_n_fc": 1}, [0, 0, 0], [8, 8, 8]),
        ({"tarnet_head_n_fc": 3, "tarnet_head_hidden_dim": 5}, [3, 3, 3], [5, 5, 5]),
        ({"tarnet_head0_n_fc": 1, "tarnet_head1_n_fc": 3, "tarnet_head1_hidden_dim": 6}, [2, 0, 3], [8, 8, 6]),
    ],
)
def test_heads_of_every_depth_and_width(
    own: dict[str, int], depths: list[int], widths: list[int], tokenizer_json: str, tmp_path: Path
) -> None:
    flat = {**SMALL, "tarnet_two_heads": True, **own}
    weights = small_weights(flat)
    read = imported(tmp_path, contents_of(flat, tokenizer_json, weights))
    model = read.model()
    heads = [model.readout.shared, *model.readout.deltas]
    assert [len(head.hidden) for head in heads] == depths
    assert [head.output.in_features for head in heads] == widths
    assert torch.equal(heads[1].output.weight, weights["tarnet_sentiment_delta0.out.weight"])
    assert torch.equal(heads[2].output.weight, weights["tarnet_sentiment_delta1.out.weight"])


# ------------------------------------------------------------------------------------------ settings


def test_a_silent_config_takes_the_defaults_of_the_reference(tokenizer_json: str, tmp_path: Path) -> None:
    flat = {name: SMALL[name] for name in ("d_model", "num_heads", "num_layers", "d_ff")}
    config = imported(tmp_path, contents_of(flat, tokenizer_json)).config
    assert isinstance(config.model, SingleHeadConfig)
    assert isinstance(config.model.trunk, VanillaTrunkConfig)
    assert isinstance(config.model.readout, TiedReadoutConfig)
    assert config.model.position is Position.sinusoidal
    assert (config.model.dropout, config.model.embedding_std) == (0.1, 1.0)
    assert config.data.conditioning is Conditioning.tags
    assert (config.data.window_length, config.data.tokenizer.vocab_size) == (128, VOCAB_SIZE)
    assert config.protocol.windows is Windows.reference
    assert config.protocol.loss_average is LossAverage.row
    assert config.name == "imported"
    assert config.seed == config.data.split_seed == 42


def test_settings_of_a_two_head_run_are_kept(tokenizer_json: str, tmp_path: Path) -> None:
    flat = {
        **SMALL,
        "vocab_size": 65,  # the reference never updates it
        "tokenizer_type": "char",  # stale after a resume: the stored tokenizer counts
        "bpe_vocab_size": 8000,
        "dropout": 0.25,
        "position_encoding": "rope",
        "block_attn_residuals": True,
        "macro_block_size": 1,
        "max_block_representations": -1,
        "weight_tie": True,
        "tarnet_two_heads": True,
        "tarnet_head_separation_weight": 0.5,
        "imdb_conditioning_style": "natural",
        "imdb_tarnet_command_prompt": "Review:",
        "imdb_max_train_samples": 100,
        "imdb_max_review_chars": 0,
        "learning_rate": 1e-6,
        "epochs": 40,
        "seed": 7,
    }
    config = imported(tmp_path, contents_of(flat, tokenizer_json)).config
    assert isinstance(config.model, TwoHeadConfig)
    assert isinstance(config.model.trunk, InterblockTrunkConfig)
    assert (config.model.trunk.macro_block_size, config.model.trunk.max_block_representations) == (1, 0)
    assert config.model.position is Position.rope
    assert config.model.dropout == 0.25
    assert config.model.separation.weight == 0.5
    scale = config.scale
    assert (scale.d_model, scale.num_heads, scale.num_layers, scale.d_ff) == (8, 2, 2, 12)
    assert config.data.conditioning is Conditioning.auto
    assert config.data.prompt.command == "Review:"
    assert (config.data.max_train_reviews, config.data.max_validation_reviews) == (100, None)
    assert config.data.max_review_chars is None
    assert (config.seed, config.data.split_seed) == (7, 7)
    assert (config.optimizer.lr, config.trainer.max_epochs) == (1e-6, 40)


def test_an_untied_readout_is_a_perceptron(tokenizer_json: str, tmp_path: Path) -> None:
    flat = {**SMALL, "weight_tie": False}
    read = imported(tmp_path, contents_of(flat, tokenizer_json))
    assert isinstance(read.config.model, SingleHeadConfig)
    assert isinstance(read.config.model.readout, MlpReadoutConfig)
    assert read.model()(torch.zeros(1, 3, dtype=torch.long)).shape == (1, 3, 1, VOCAB_SIZE)


@pytest.mark.parametrize(
    "instruction",
    ["It's a \"film\", isn't it?", "null", "a${b} \\${c} ${", "back\\slash\\", "\\' \\\\'", "[x]={1}\nnext \\\n"],
)
def test_instructions_survive_whatever_they_contain(instruction: str, tokenizer_json: str, tmp_path: Path) -> None:
    flat = {**SMALL, "imdb_conditioning_style": "Natural", "imdb_positive_instruction": instruction}
    config = imported(tmp_path, contents_of(flat, tokenizer_json)).config
    assert config.data.conditioning is Conditioning.natural
    assert config.data.prompt.positive == instruction
    assert config.data.prompt.negative == "Create a NEGATIVE IMDB-like review"


@pytest.mark.parametrize("split_words", [True, False])
def test_the_stored_tokenizer_says_whether_merges_cross_words(split_words: bool, tmp_path: Path) -> None:
    fitted = Tokenizer.fit_reference([WORDS, WORDS], VOCAB_SIZE, split_words)
    read = imported(tmp_path, contents_of(SMALL, fitted.to_json()))
    assert read.config.data.tokenizer.split_words is split_words
    assert read.tokenizer.encode(WORDS) == fitted.encode(WORDS)


@pytest.mark.parametrize("style", ["tags", "natural", "tarnet"])
def test_a_tokenizer_that_the_reference_trained_is_kept(style: str, tmp_path: Path) -> None:
    path = FIXTURES / "windows.json"
    if not path.exists():
        pytest.skip("needs ../shared/reference/windows.json, which lies beside the checkout, not in it")
    trained = json.loads(path.read_text(encoding="utf-8"))["styles"][style]
    backend = tokenizers.Tokenizer.from_str(trained["tokenizer_json"])
    weights = {**small_weights(SMALL), "embed.weight": torch.zeros(backend.get_vocab_size(), 8)}
    read = imported(tmp_path, contents_of(SMALL, trained["tokenizer_json"], weights))
    sample = trained["formatted_first"]
    assert read.tokenizer.encode_samples([sample]).tokens_N.tolist() == backend.encode(sample).ids
    assert read.config.data.tokenizer.split_words


# ------------------------------------------------------------------------------------------ the command


def test_the_command_says_what_it_imported(
    tokenizer_json: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = {**SMALL, "position_encoding": "rope", "tarnet_two_heads": True}
    read = imported(tmp_path, contents_of(flat, tokenizer_json))
    lines = capsys.readouterr().out.splitlines()
    count = sum(parameter.numel() for parameter in read.model().parameters())
    assert lines == [
        f"Imported {tmp_path / 'best.pt'}: vanilla trunk, two_head readout, rope positions; "
        "2 layers of width 8, 2 heads",
        f"{count:,} parameters, vocabulary of 64 tokens, windows of 64 tokens",
        f"Checkpoint lies in {tmp_path / 'ours'}",
    ]
    assert read.metrics == {"step": 0, "imported_from": "best.pt"}
    assert read.training is None


def test_an_existing_folder_is_left_alone(tokenizer_json: str, tmp_path: Path) -> None:
    torch.save(contents_of(SMALL, tokenizer_json), tmp_path / "best.pt")
    target = tmp_path / "ours"
    target.mkdir()
    (target / "mine.txt").write_text("kept")
    with pytest.raises(OutputError, match="exists already"):
        main([str(tmp_path / "best.pt"), "--to", str(target)])
    assert [path.name for path in target.iterdir()] == ["mine.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "ours"]


def test_a_refusal_is_one_line_and_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing.pt"
    assert nano_llm(["import", str(missing), "--to", str(tmp_path / "ours")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"Error: Cannot import {missing}: it cannot be read: No such file or directory. ")
    assert error.count("\n") == 1


# ------------------------------------------------------------------------------------------- refusals


class Malicious:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("container", ["torch", "pickle"])
def test_a_malicious_pickle_is_not_executed(container: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    contents = {"model": Malicious(victim)}
    if container == "torch":
        assert "could run foreign code" in refusal(tmp_path, contents)
    else:
        assert "torch.save did not write it" in refusal(tmp_path, pickle.dumps(contents, protocol=2))
    assert not victim.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged, or torch.save did not write it"),
        (b"\x93NUMPY and then nothing", "damaged, or torch.save did not write it"),
        (LFS_POINTER + b"v1\noid sha256:00\nsize 80349704\n", "git lfs pull"),
    ],
)
def test_a_file_that_is_no_checkpoint(content: bytes, reason: str, tmp_path: Path) -> None:
    assert reason in refusal(tmp_path, content)


def test_a_truncated_checkpoint(tokenizer_json: str, tmp_path: Path) -> None:
    whole = tmp_path / "best.pt"
    torch.save(contents_of(SMALL, tokenizer_json), whole)
    assert "damaged" in refusal(tmp_path, whole.read_bytes()[:-500])


@given(data=st.data())
@settings(max_examples=examples(15))
def test_a_damaged_file_is_read_or_refused(
    data: st.DataObject, tokenizer_json: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "best.pt"
    torch.save(contents_of(SMALL, tokenizer_json), path)
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, 3000) | st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    message = ""
    try:
        read_reference(path).model()
    except CheckpointError as error:
        message = str(error)
    message.encode()
    assert "\n" not in message


SPREAD = torch.zeros(1).expand(10**7, 10**6)


@pytest.mark.parametrize("weight", [SPREAD, torch.zeros(64, 8).to_sparse(), torch.zeros(64, 8, device="meta")])
def test_a_weight_that_is_no_plain_array_is_refused(weight: Tensor, tokenizer_json: str, tmp_path: Path) -> None:
    """One number may be spread over a shape of terabytes, which the first copy would ask for."""
    weights = small_weights(SMALL) | {"embed.weight": weight}
    assert "which is no weight" in refusal(tmp_path, contents_of(SMALL, tokenizer_json, weights))


def test_a_model_of_a_thousand_million_layers_is_refused_at_once(tokenizer_json: str, tmp_path: Path) -> None:
    contents = contents_of(SMALL, tokenizer_json)
    contents["config"] = SMALL | {"num_layers": 10**9}
    assert "num_layers" in refusal(tmp_path, contents)


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_reference(tmp_path)


@pytest.mark.parametrize("entry", ["model", "config", "tokenizer_state"])
def test_missing_entries(entry: str, tokenizer_json: str, tmp_path: Path) -> None:
    contents = contents_of(SMALL, tokenizer_json)
    del contents[entry]
    assert f"it has no dict {entry}" in refusal(tmp_path, contents)


def test_something_else_that_torch_saved(tmp_path: Path) -> None:
    assert "an object of the type list" in refusal(tmp_path, [1, 2])


def edited(text: str, **changes: Any) -> str:
    return json.dumps({**json.loads(text), **changes})


def swapped(text: str, one: str, other: str) -> str:
    return text.replace(one, "\0").replace(other, one).replace("\0", other)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: {"type": "char", "vocab": ["a"]}, "its tokenizer is of the type 'char'"),
        (lambda text: {"type": "hf_bpe_byte"}, "no text tokenizer_json"),
        (lambda text: {"tokenizer_json": "{"}, "not a tokenizer.json"),
        (lambda text: {"tokenizer_json": edited(text, pre_tokenizer=None)}, "another way to bytes and back"),
        (lambda text: {"tokenizer_json": text.replace("<eos>", "<end>")}, "has no token <eos>"),
        (lambda text: {"tokenizer_json": swapped(text, "<bos>", "<eos>")}, "does not begin with <pad> <bos>"),
    ],
)
def test_other_tokenizers(
    change: Callable[[str], dict[str, Any]], reason: str, tokenizer_json: str, tmp_path: Path
) -> None:
    contents = contents_of(SMALL, tokenizer_json)
    contents["tokenizer_state"] = change(tokenizer_json)
    assert reason in refusal(tmp_path, contents)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"d_model": "8"}, "d_model='8' is not of the type int"),
        ({"tarnet_two_heads": 1}, "tarnet_two_heads=1 is not of the type bool"),
        ({"seq_len": True}, "seq_len=True is not of the type int"),
        ({"position_encoding": "alibi"}, "position_encoding='alibi' is not rope or sinusoidal"),
        ({"dataset_id": "tiny_shakespeare"}, "dataset_id='tiny_shakespeare' is not imdb_sentiment"),
        ({"imdb_conditioning_style": "none"}, "imdb_conditioning_style='none' is not tags or natural"),
        ({"num_heads": 3}, "must be a multiple of scale.num_heads=3"),
        ({"num_heads": 0}, "scale.num_heads=0: must be at least 1"),
        ({"seq_len": 16}, "too short for the prompt"),
    ],
)
def test_settings_that_our_model_cannot_express(
    change: dict[str, Any], reason: str, tokenizer_json: str, tmp_path: Path
) -> None:
    contents = contents_of({**SMALL, **change}, tokenizer_json, small_weights(SMALL))
    assert reason in refusal(tmp_path, contents)


def test_a_size_has_no_default(tokenizer_json: str, tmp_path: Path) -> None:
    contents = contents_of({}, tokenizer_json, small_weights(SMALL))
    assert "d_model is missing, num_heads is missing, num_layers is missing and 1 more" in refusal(tmp_path, contents)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_layers": 1}, "trunk.layers.1.attention_norm.weight has no place"),
        ({"num_layers": 3}, "trunk.layers.2.attention_norm.weight is missing"),
        ({"d_ff": 13}, "trunk.layers.0.feed_forward.up.weight has the shape (12, 8), not (13, 8)"),
        ({"block_attn_residuals": True}, "trunk.mixing.queries.0 is missing"),
        ({"tarnet_two_heads": True}, "readout.shared.hidden.0.weight is missing"),
        ({"weight_tie": False}, "readout.perceptron.hidden.0.weight is missing"),
        ({"position_encoding": "rope"}, "pos_enc.pe is there, but position_encoding is rope"),
        ({"seq_len": 75}, "pos_enc.pe has the shape (1, 74, 8), not 8 columns for 75 or more positions"),
    ],
)
def test_a_config_that_contradicts_the_weights(
    change: dict[str, Any], reason: str, tokenizer_json: str, tmp_path: Path
) -> None:
    contents = contents_of({**SMALL, **change}, tokenizer_json, small_weights(SMALL))
    message = refusal(tmp_path, contents)
    assert "contradict" in message
    assert reason in message


def test_rotary_tables_tell_the_number_of_heads(tokenizer_json: str, tmp_path: Path) -> None:
    flat = {**SMALL, "position_encoding": "rope"}
    contents = contents_of({**flat, "num_heads": 1}, tokenizer_json, small_weights(flat))
    assert "rope.cos_cached has the shape (1, 1, 74, 4), not 8 columns" in refusal(tmp_path, contents)


def test_a_tokenizer_that_contradicts_the_weights(tokenizer_json: str, tmp_path: Path) -> None:
    weights = small_weights(SMALL)
    weights["embed.weight"] = torch.zeros(65, 8)
    message = refusal(tmp_path, contents_of(SMALL, tokenizer_json, weights))
    assert "trunk.embedding.weight has the shape (65, 8), not (64, 8)" in message


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("tarnet_sentiment_blocks0.0.ln1.weight", torch.zeros(8), "unknown parameters"),
        ("blocks.0.attn.wk.weight", torch.zeros(8), "shapes of its attention weights differ"),
        ("blocks.0.attn.wk.bias", torch.zeros(9), "query_key_value.bias has the shape (25,), not (24,)"),
        ("ln_f.bias", torch.zeros(8, dtype=torch.long), "'ln_f.bias', which is no weight"),
        ("ln_f.bias", 1.0, "'ln_f.bias', which is no weight"),
    ],
)
def test_weights_that_fit_nowhere(name: str, value: Any, reason: str, tokenizer_json: str, tmp_path: Path) -> None:
    contents = contents_of(SMALL, tokenizer_json, {**small_weights(SMALL), name: value})
    assert reason in refusal(tmp_path, contents)
