"""Stored configurations: what was composed comes back, and of anything else it is said what is wrong."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import odd_json
from nano_llm.config.compose import compose_config
from nano_llm.config.identity import to_plain
from nano_llm.config.schema import Config
from nano_llm.config.stored import from_plain
from nano_llm.config.strict import broken_rules
from nano_llm.errors import ConfigError

SOUND = [
    to_plain(compose_config(overrides))
    for overrides in (
        ["data=scm", "model=tarnet"],
        [
            "tracker=[wandb,tensorboard]",
            "tracker.wandb.tags=[a]",
            "data=tags",
            "data.path=null",
            "model=vanilla",
            "optimizer=adamw",
        ],
    )
]
WANDB = SOUND[1]["tracker"]["wandb"]
NAMES = sorted({"Config", "Command", "HeadConfig", "SeparationConfig", "OptimizerConfig", "ScmConfig", "ModelConfig",
                "DataConfig", "TrunkConfig", "TwoOutcomeReadoutConfig", "ScheduleConfig", "TrackerConfig",
                "WandbConfig", "TensorboardConfig", "Enum", "Any"})  # fmt: skip


def problems(plain: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        from_plain(plain)
    message = str(caught.value)
    message.encode()
    assert all(line.startswith("  - ") for line in message.splitlines()[1:])
    return message


def with_value(path: str, value: Any) -> Any:
    plain = json.loads(json.dumps(SOUND[0]))
    *groups, name = path.split(".")
    node = plain
    for group in groups:
        node = node[group]
    node[name] = value
    return plain


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("seed", SOUND[0]["paths"], "seed={'outputs'"),
        ("seed", True, "seed=True: not of the type"),
        ("seed", 10**400, "seed="),
        ("model", SOUND[0]["scale"], "model: not a known group of settings (ScaleConfig)"),
        ("model.type", "ModelConfig", "model: not a known group of settings (ModelConfig)"),
        ("data.type", "DataConfig", "data: not a known group of settings (DataConfig)"),
        ("model.readout.type", "TiedReadoutConfig", "model.readout: not a known group"),
        ("model.position", ["rope"], "model.position=['rope']: not of the type"),
        ("scale.d_model", -64, "scale.d_model=-64: must be at least 1"),
        ("scale.num_layers", 10**9, "scale.num_layers=1000000000: must be at most 1024"),
        ("scale.num_heads", 3, "must be a multiple of scale.num_heads=3"),
        ("optimizer.lr", float("nan"), "optimizer.lr=nan: must be finite"),
        ("optimizer.lr", 10**400, "must be finite"),
        ("data.prompt.command", "\ud800", r"holds '\ud800', which is no character"),
        ("name", "a\0b", r"holds '\x00', which is no character"),
        ("tracker", None, "tracker: not a known group of settings (None)"),
        ("tracker.wandb", {"type": "TensorboardConfig"}, "tracker.wandb: not a known group of settings"),
        ("tracker.wandb", WANDB | {"tags": "a"}, "tracker.wandb.tags='a': not of the type list[str]"),
        ("tracker.wandb", WANDB | {"tags": ["a", 1]}, "tracker.wandb.tags=['a', 1]: not of the type list[str]"),
        ("tracker.wandb", WANDB | {"tags": ["\ud800"]}, r"holds '\ud800', which is no character"),
    ],
)
def test_what_no_command_could_have_composed_is_refused(path: str, value: Any, complaint: str) -> None:
    assert complaint in problems(with_value(path, value))


@given(st.sampled_from(SOUND).flatmap(lambda sound: odd_json.changed(sound, odd_json.values | st.sampled_from(NAMES))))
@example(with_value("model", {"type": "Enum"}))
@example(with_value("data.prompt", {"type": "HeadConfig", "hidden_layers": 1, "hidden_width": None}))
def test_a_changed_configuration_is_one_that_passes_the_strict_check_or_is_refused(plain: Any) -> None:
    try:
        config = from_plain(plain)
    except ConfigError:
        problems(plain)
        return
    assert isinstance(config, Config)
    assert list(broken_rules(config)) == []
    assert from_plain(json.loads(json.dumps(to_plain(config), allow_nan=False))) == config


@given(odd_json.values)
def test_other_json_is_no_configuration(plain: Any) -> None:
    assert "root: not a known group of settings" in problems(plain)
