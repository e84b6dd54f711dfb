"""Tokenizers in transformers: the same tokens, without a question."""

import json
from pathlib import Path

import pytest
import tokenizers

from nano_llm.data.template import MARKERS, SPECIALS
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.export.vocabulary import tokenizer_json, tokenizer_settings
from untrained import untrained

TEXTS = ["The film is dull, but café scenes are good. 🙂", "I loved it! I loved it?", "a plot  of two\n\nspaces", ""]
PROMPT = "[SENTIMENT] positive [/SENTIMENT] [REVIEW]"


@pytest.fixture(scope="module", params=["bytes", "merged", "reference", "words"])
def ours(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "words":
        return untrained("model=vanilla").tokenizer
    if request.param == "reference":
        return Tokenizer.fit_reference([f"<bos>{PROMPT} {text} [/REVIEW]<eos>" for text in TEXTS] * 2, 120, True)
    return Tokenizer.fit_bytes(TEXTS * 2, 300, split_words=request.param == "bytes")


@pytest.fixture
def folder(ours: Tokenizer, tmp_path: Path) -> Path:
    """The files of a tokenizer, in a folder whose config names code."""
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(ours))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer_settings(ours, 128)))
    auto_map = {"AutoConfig": "configuration_nano_llm.NanoLlmConfig"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nano_llm", "auto_map": auto_map}))
    return tmp_path


@pytest.fixture
def no_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(question: str = "") -> str:
        raise AssertionError(f"asked on the standard input: {question}")

    monkeypatch.setattr("builtins.input", ask)


@pytest.mark.usefixtures("no_questions")
@pytest.mark.parametrize("how", ["auto", "fast"])
def test_transformers_has_our_tokens(ours: Tokenizer, folder: Path, how: str) -> None:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if how == "auto":
        theirs = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    else:
        theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    assert len(theirs) == ours.vocab_size
    assert theirs(PROMPT).input_ids == ours.encode_prompt(PROMPT)
    for text in TEXTS:
        ids = ours.encode(text)
        assert theirs(text, add_special_tokens=False).input_ids == ids
        assert theirs.decode(ids, skip_special_tokens=True) == ours.decode(ids)
        markup = f"{text} [REVIEW] <eos>"  # as a part of a review it is text
        assert theirs(markup, add_special_tokens=False, split_special_tokens=True).input_ids == ours.encode(markup)


@pytest.mark.usefixtures("no_questions")
def test_special_tokens_are_known_as_such(ours: Tokenizer, folder: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    ids = (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id, theirs.unk_token_id)
    assert ids == (ours.pad_id, ours.bos_id, ours.eos_id, ours.unk_id)
    assert {*theirs.all_special_tokens} == {*SPECIALS, *(MARKERS if ours.has_markers else ())}
    padded = theirs([PROMPT, f"{PROMPT} a"], padding=True)
    assert padded.keys() == {"input_ids", "attention_mask"}
    assert padded["attention_mask"][0][0] == 0, "padding stands on the left, where texts are not written on"
    assert theirs.model_max_length == 128


def test_tokenizers_alone_reads_it(ours: Tokenizer, folder: Path) -> None:
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert theirs.encode(PROMPT).ids == ours.encode_prompt(PROMPT)
    assert theirs.encode(TEXTS[0], add_special_tokens=False).ids == ours.encode(TEXTS[0])


def test_we_read_it_too(ours: Tokenizer, folder: Path) -> None:
    again = Tokenizer.from_json((folder / "tokenizer.json").read_text())
    assert again.encode_prompt(PROMPT) == ours.encode_prompt(PROMPT)
    assert again.encode(TEXTS[0]) == ours.encode(TEXTS[0])
