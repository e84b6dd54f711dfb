"""The card of a model: true, complete, and its example runs."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from export.exporting import UNKNOWN, author_of, export
from hub_stand_in import wrong_in_card
from nano_llm.checkpoint import Checkpoint, build_model
from nano_llm.config.compose import compose_config
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.export.card import Background, render_card, render_licence
from nano_llm.export.figures import Figure
from untrained import untrained

ROOT = Path(__file__).resolve().parents[2]
FIGURE = Figure("cf_kl ↓", "0.0574", "[0.0547, 0.0602]", "200", False, "nats a token", "KL of law and outcome", "quick")
DATA = {
    "fingerprint": "34fc91542f05dfa9",
    "source": {"kind": "hub", "repository": "stanfordnlp/imdb", "revision": "e6281661"},
    "counts": {"splits": {"train": {"reviews": 25000, "tokens": 9876543}}},
}
KNOWN = Background("tarnet-c3179b6ee245/seed-0", "704a560c", DATA, [FIGURE])


def card(checkpoint: Checkpoint, background: Background = UNKNOWN, **given: Any) -> str:
    chosen = {"dtype": "float32", "outcome": 1, "repository": None} | given
    return render_card(checkpoint, author_of(checkpoint), background, **chosen)


def of_imdb(*overrides: str) -> Checkpoint:
    """A model of real reviews, whose tokenizer has seen two sentences."""
    paths = ("data.path=null", "data.cad=null", "data.movies=null")
    config = compose_config(["data=imdb", "scale=tiny", *paths, *overrides])
    like = untrained("model=tarnet")
    tokenizer = Tokenizer.fit_bytes(["the film is dull", "the film is good"], 300, True)
    weights = build_model(config, tokenizer.vocab_size).state_dict()
    return replace(like, config=config, tokenizer=tokenizer, weights=weights)


def test_the_hub_reads_its_head() -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    told = huggingface_hub.ModelCard(card(untrained("model=tarnet"))).data
    assert (told.library_name, told.pipeline_tag, told.license) == ("transformers", "text-generation", "mit")
    told = huggingface_hub.ModelCard(card(of_imdb("model=tarnet"), KNOWN)).data
    assert told.datasets == ["stanfordnlp/imdb"]
    assert (told.license, told.license_name) == ("other", "mit-code-reviews-of-others")


def test_its_head_is_as_the_hub_demands() -> None:
    text = card(of_imdb("model=tarnet"), KNOWN)
    assert "\nlicense_link: " in text
    assert not wrong_in_card(text)


def test_the_licence_is_that_of_the_program_and_tells_whose_the_reviews_are() -> None:
    text = render_licence(of_imdb("model=tarnet").config)
    assert text.endswith((ROOT / "LICENSE").read_text(encoding="utf-8"))
    assert "authors have not licensed them" in text


def test_it_and_the_documentation_ask_for_the_transformers_of_the_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (least,) = [needed.split(",")[0] for needed in extras["hf"] if needed.startswith("transformers>=")]
    for text in (card(untrained("model=tarnet")), (ROOT / "docs/export.md").read_text(encoding="utf-8")):
        assert f'pip install "{least}" torch' in text


def test_it_tells_what_is_known_of_a_run() -> None:
    text = card(of_imdb("model=tarnet"), KNOWN)
    assert "- train: 25,000 reviews, 9,876,543 tokens" in text
    assert "| cf_kl ↓ | 0.0574 | [0.0547, 0.0602] | 200 | nats a token | KL of law and outcome |" in text
    assert "| run | tarnet-c3179b6ee245/seed-0 |" in text
    assert "trained at commit 704a560c" in text
    for said in ("stanfordnlp/imdb", "Maas", "1606.03976", "2603.15031", "authors have not licensed them"):
        assert said in text


def test_what_is_not_known_is_said_to_be_missing() -> None:
    text = card(untrained("model=vanilla"), outcome=None)
    assert "No evaluation records" in text
    assert "nobody wrote them" in text
    for wrong in ("Maas", "1606.03976", "2603.15031", "outcome="):
        assert wrong not in text


def test_a_local_folder_is_not_named() -> None:
    checkpoint = of_imdb("model=tarnet", "data.path=/home/somebody/secret")
    local = replace(UNKNOWN, data={"source": {"kind": "folder", "train": "hash"}})
    for background in (UNKNOWN, local):
        text = card(checkpoint, background)
        assert "a local folder" in text
        assert "secret" not in text
        assert "stanfordnlp" not in text


def test_a_shipped_model_tells_what_its_local_folder_held() -> None:
    local = replace(UNKNOWN, data={"source": {"kind": "folder", "train": "hash"}}, is_shipped=True)
    (told,) = re.findall("## Data\n\n(.*)\n", card(of_imdb("model=tarnet"), local))
    assert "IMDB reviews of Maas et al." in told
    assert "local folder" not in told


def test_samples_of_both_outcomes_are_shown_and_the_same_each_time() -> None:
    checkpoint = untrained("model=tarnet")
    text = card(checkpoint)
    assert text == card(checkpoint)
    headings = re.findall(r"^(Y[01] \((?:negative|positive)\), \w+):\n\n    \w", text, re.MULTILINE)
    assert headings == [
        "Y0 (negative), drama",
        "Y1 (positive), drama",
        "Y0 (negative), comedy",
        "Y1 (positive), comedy",
    ]


def test_explicit_words_are_redacted_in_samples() -> None:
    checkpoint = untrained("model=vanilla", words=["fucking"])
    (index,) = checkpoint.tokenizer.encode("fucking")
    embedding = checkpoint.weights["trunk.embedding.weight"]
    embedding[index] *= 3
    checkpoint.weights["trunk.final_norm.weight"].zero_()
    checkpoint.weights["trunk.final_norm.bias"].copy_(embedding[index])  # so that it says nothing else
    text = card(checkpoint, outcome=None)
    assert "    [redacted] [redacted]" in text
    assert "fucking" not in text


def of_the_reference() -> Checkpoint:
    """A model whose tokenizer spells markers as text."""
    checkpoint = of_imdb("model=tarnet")
    command = "GENERATE an IMDB-like review: [REVIEW]"
    tokenizer = Tokenizer.fit_reference([f"<bos>{command} the film is dull. [/REVIEW]<eos>"] * 2, 300, True)
    weights = build_model(checkpoint.config, tokenizer.vocab_size).state_dict()
    return replace(checkpoint, tokenizer=tokenizer, weights=weights)


MODELS = {
    "two outcomes": (lambda: untrained("model=tarnet"), "0 "),
    "tags": (lambda: untrained("model=vanilla"), "[SENTIMENT] negative"),
    "reference": (of_the_reference, "0 "),
}


@pytest.mark.parametrize("kind", MODELS)
def test_its_example_runs_as_it_stands(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build, beginning = MODELS[kind]
    folder = export(tmp_path / "model", build())
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert "path/to/this/folder" in code
    assert ('stop_strings=[" [/REVIEW]"]' in code) is (kind == "reference")
    torch.manual_seed(0)
    exec(code.replace("path/to/this/folder", str(folder)), {})
    written = capsys.readouterr().out
    assert written.startswith(beginning)
    assert len(written) > 40


def test_its_example_names_the_repository_it_goes_to() -> None:
    assert 'name = "me/toy"' in card(untrained("model=tarnet"), repository="me/toy")
