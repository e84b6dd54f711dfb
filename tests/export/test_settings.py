"""Settings in the words of transformers."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from export.exporting import export
from nano_llm.config.schema import SingleHeadConfig, TiedReadoutConfig, TrunkConfig
from nano_llm.errors import RequestError
from nano_llm.export.settings import generation_settings, model_settings
from untrained import untrained


def test_transformers_reads_every_setting_back(tmp_path: Path) -> None:
    from transformers import AutoConfig, GenerationConfig

    checkpoint = untrained("model=tarnet", "model/trunk=interblock_paper", "model.dropout=0.1")
    folder = export(tmp_path / "model", checkpoint, dtype="bf16", outcome=0)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    told = model_settings(checkpoint.config, checkpoint.tokenizer, dtype="bfloat16", outcome=0)
    read = config.to_dict()
    assert {name: read[name] for name in told if name != "auto_map"} == {
        name: value for name, value in told.items() if name != "auto_map"
    }
    generation = GenerationConfig.from_pretrained(folder).to_dict()
    told = generation_settings(checkpoint.config, checkpoint.tokenizer)
    assert {name: generation[name] for name in told} == told


@dataclass
class StrangeTrunkConfig(TrunkConfig):
    """A trunk that the shipped code does not know."""


@dataclass
class StrangeReadoutConfig(TiedReadoutConfig):
    """A readout of a known kind."""


def test_a_part_that_the_shipped_code_lacks_is_refused_by_name() -> None:
    checkpoint = untrained("model=vanilla")
    assert isinstance(checkpoint.config.model, SingleHeadConfig)
    model = replace(checkpoint.config.model, trunk=StrangeTrunkConfig(name="strange"))
    config = replace(checkpoint.config, model=model)
    with pytest.raises(RequestError, match=r"model\.trunk: .* has no StrangeTrunkConfig"):
        model_settings(config, checkpoint.tokenizer, dtype="float32", outcome=None)
