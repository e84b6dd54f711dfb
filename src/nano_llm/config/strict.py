"""The one strict conversion: a composed config becomes typed objects, or one error names all that is wrong."""

import difflib
import math
import re
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any, get_args, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nano_llm.config import schema
from nano_llm.errors import ConfigError

_MAX_SHOWN = 1000
NUM_BYTES_AND_SPECIALS = 256 + 8
"""Tokens that a byte-level tokenizer has before its first merge: every byte, four specials, four markers."""


def convert(composed: DictConfig) -> schema.Command:
    """Turn a composed config into typed objects.

    Raises:
        ConfigError: Any key is unknown, missing, ill-typed or out of range, or rules that span several keys
            are broken; the message lists every problem with its dotted path.
    """
    problems: list[str] = []
    config = _convert_node(composed, schema.Command, "", problems)
    if not problems:
        problems.extend(broken_rules(config))
        problems.extend(_broken_sweep_rules(config.sweep))
    if problems:
        raise ConfigError(report(problems))
    assert isinstance(config, schema.Command)
    return config


def report(problems: list[str]) -> str:
    """Join problems into the one message that a user sees."""
    noun = "problem" if len(problems) == 1 else "problems"
    lines = [_printable(problem) for problem in problems]
    return "\n".join([f"{len(problems)} {noun} in the configuration:", *(f"  - {line}" for line in lines)])


def _printable(problem: str) -> str:
    """Write what was given so that it fits on a line of a terminal, whatever it is."""
    text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in problem)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN // 2]} ... {text[-_MAX_SHOWN // 2 :]}"


def suggest(name: str, known: list[str]) -> str:
    """Return ``did you mean ...?`` for a near name, else the list of the known ones."""
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known here: {', '.join(known)}"


def _convert_node(node: DictConfig, expected: type, path: str, problems: list[str]) -> Any:
    """Convert one group of settings; what is wrong with it goes to ``problems``."""
    cls = OmegaConf.get_type(node)
    if cls is None or not is_dataclass(cls):
        problems.append(f"{path}: a group of settings was expected here ({expected.__name__})")
        return None
    known = {f.name: f for f in fields(cls)}
    for key in node:
        if str(key) not in known:
            hint = suggest(str(key), list(known))
            problems.append(f"{_join(path, str(key))}={_shown(node._get_node(key))}: no such setting; {hint}")
    hints = get_type_hints(cls)
    values = {
        name: _convert_value(node, declared, hints[name], _join(path, name), problems)
        for name, declared in known.items()
    }
    return cls(**values)


def _convert_value(node: DictConfig, declared: Field[Any], hint: Any, path: str, problems: list[str]) -> Any:
    """Convert one setting, a nested group included."""
    name = declared.name
    if name not in node and not OmegaConf.is_missing(node, name):
        problems.append(f"{path}: removed, but needed ({declared.metadata.get('doc', 'a group of settings')})")
        return None
    written = node._get_node(name)
    if isinstance(written, DictConfig | ListConfig) and written._is_interpolation():
        # What it stands for is checked by OmegaConf for single values alone.
        problems.append(f"{path}={written._value()}: only single values are interpolated; write the group or list out")
        return None
    try:
        if OmegaConf.is_missing(node, name):
            problems.append(f"{path}: needs a value ({declared.metadata.get('doc', 'a group of settings')})")
            return None
        value = node[name]
    except OmegaConfBaseException as error:
        problems.append(f"{path}={_shown(node._get_node(name))}: {str(error).splitlines()[0]}")
        return None
    if isinstance(value, DictConfig):
        # A group may be optional.
        expected = next((kind for kind in get_args(hint) if isinstance(kind, type) and is_dataclass(kind)), hint)
        return _convert_node(value, expected, path, problems)
    if isinstance(value, ListConfig):
        value = list(value)
    problems.extend(value_problems(path, value, declared))
    return value


def value_problems(path: str, value: Any, declared: Field[Any]) -> Iterator[str]:
    """Say which limits of its declaration a number breaks, and what no file and no path can hold of a text.

    A list has the problems of its items.
    """
    if isinstance(value, list):
        for item in value:
            yield from value_problems(path, item, declared)
        return
    if isinstance(value, str):
        if unfit := next((character for character in value if character == "\0" or _is_half(character)), None):
            yield f"{path}={value}: holds {unfit!r}, which is no character of a text ({declared.metadata['doc']})"
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    limits = declared.metadata.get("limits", {})
    allowed = {
        "at_least": lambda limit: value >= limit,
        "at_most": lambda limit: value <= limit,
        "above": lambda limit: value > limit,
        "below": lambda limit: value < limit,
    }
    broken = [f"{name.replace('_', ' ')} {limits[name]:g}" for name in limits if not allowed[name](limits[name])]
    if not _is_finite(value):
        broken = ["finite"]
    if broken:
        yield f"{path}={value}: must be {' and '.join(broken)} ({declared.metadata['doc']})"


def _is_half(character: str) -> bool:
    """Whether it is half of a surrogate pair; a byte of the command line that is no UTF-8 is read as one."""
    return "\ud800" <= character <= "\udfff"


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number that no float holds
        return False


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shown(node: Any) -> str:
    """Write a raw value as a user would, without resolving it."""
    if OmegaConf.is_config(node):
        return "{...}"
    value = node._value() if node is not None else None
    return value.name if isinstance(value, Enum) else str(value)


def broken_rules(config: schema.Config) -> Iterator[str]:
    """Yield the rules across settings that a well-typed config breaks."""
    yield from _broken_place_rules(config)
    yield from _broken_model_rules(config)
    yield from _broken_data_rules(config)
    yield from _broken_training_rules(config)


def _broken_sweep_rules(sweep: schema.SweepConfig) -> Iterator[str]:
    """A search looks at validation figures only."""
    if not sweep.objective.startswith("val_"):
        yield f"sweep.objective={sweep.objective}: must be a validation figure such as val_bpb or val_ce"


def _broken_place_rules(config: schema.Config) -> Iterator[str]:
    """Runs stay below paths.outputs."""
    study = PurePath(config.study)
    if study.is_absolute() or not study.parts or ".." in study.parts:
        yield f"study={config.study}: must name a folder below paths.outputs, such as runs or thesis/first"
    if len(PurePath(config.name).parts) != 1 or config.name == "..":
        yield f"name={config.name}: must be one folder's name, without slashes"


def _broken_model_rules(config: schema.Config) -> Iterator[str]:
    scale = config.scale
    if scale.d_model % scale.num_heads:
        yield (
            f"scale.d_model={scale.d_model}: must be a multiple of scale.num_heads={scale.num_heads}, "
            "since each head takes an equal slice"
        )
    elif config.model.position is schema.Position.rope and (scale.d_model // scale.num_heads) % 2:
        yield (
            f"scale.num_heads={scale.num_heads}: gives heads of {scale.d_model // scale.num_heads} dimensions, "
            "but model.position=rope turns pairs and needs an even number"
        )
    if config.model.position is schema.Position.sinusoidal and scale.d_model % 2:
        yield f"scale.d_model={scale.d_model}: must be even for model.position=sinusoidal"
    if isinstance(config.model, schema.TwoOutcomeConfig):
        yield from _broken_separation_rules(config.model.separation)


def _broken_separation_rules(separation: schema.SeparationConfig) -> Iterator[str]:
    """Each kind has the knobs that mean something to it."""
    kinds = schema.SeparationKind
    owners = {"scale": (kinds.bayes, kinds.cad_pairs), "margin": (kinds.margin,), "threshold": (kinds.unlikelihood,)}
    for knob, those in owners.items():
        value = getattr(separation, knob)
        if value is not None and separation.kind not in those:
            yield (
                f"model.separation.{knob}={value}: means nothing to model.separation.kind={separation.kind.name}; "
                f"it goes with kind={' or '.join(kind.name for kind in those)}, elsewhere leave it null"
            )
    if separation.kind is kinds.bayes and separation.weight > 1:
        yield f"model.separation.weight={separation.weight}: is a share with kind=bayes and must be at most 1"


def _broken_data_rules(config: schema.Config) -> Iterator[str]:
    data, protocol = config.data, config.protocol
    two_outcomes = isinstance(config.model, schema.TwoOutcomeConfig)
    sentiment_in_prompt = data.conditioning in (schema.Conditioning.tags, schema.Conditioning.natural)
    if two_outcomes and sentiment_in_prompt:
        yield (
            f"data.conditioning={data.conditioning.name}: puts the sentiment into the prompt, but "
            f"model={config.model.name} takes it from the label; use data=imdb or data.conditioning=command"
        )
    longest = max(_prompt_tokens(config))
    if longest + 2 > data.window_length:
        yield (
            f"data.window_length={data.window_length}: too short for the prompt, which may take {longest} tokens "
            f"and must leave room for the review; shorten data.prompt or take at least {longest + 2}"
        )
    bpe = data.tokenizer.kind is schema.TokenizerKind.bpe
    covering = protocol.windows is schema.Windows.covering
    if bpe and covering and data.tokenizer.vocab_size < NUM_BYTES_AND_SPECIALS:
        yield (
            f"data.tokenizer.vocab_size={data.tokenizer.vocab_size}: must be at least {NUM_BYTES_AND_SPECIALS} under "
            "protocol=fair, whose tokenizer can spell every byte; smaller ones exist under protocol=reference"
        )
    if not covering and not (bpe and isinstance(data, schema.ImdbConfig)):
        yield "protocol=reference: is defined for IMDB with data.tokenizer.kind=bpe only; use protocol=fair"
    if isinstance(data, schema.ImdbConfig) and not bpe:
        yield "data.tokenizer.kind=words: needs a corpus with a closed vocabulary (data=scm); use bpe"
    if isinstance(data, schema.ScmConfig) and data.min_sentences > data.max_sentences:
        yield f"data.min_sentences={data.min_sentences}: exceeds data.max_sentences={data.max_sentences}"


def _prompt_tokens(config: schema.Config) -> Iterator[int]:
    """Yield the most tokens that each prompt can take: one a byte of the text, one a marker where these are tokens."""
    data = config.data
    if isinstance(config.model, schema.TwoOutcomeConfig) or data.conditioning is schema.Conditioning.command:
        texts, num_markers = [data.prompt.command], 1
    elif data.conditioning is schema.Conditioning.natural:
        texts, num_markers = [data.prompt.negative, data.prompt.positive], 1
    else:
        texts, num_markers = ["negative"], 3
    words = data.tokenizer.kind is schema.TokenizerKind.words
    markers_are_tokens = config.protocol.windows is schema.Windows.covering
    for text in texts:
        length = len(re.findall(r"\w+|[^\w\s]", text)) if words else len(text.encode())
        yield 1 + length + num_markers * (2 if markers_are_tokens else len(" [/SENTIMENT]"))


def _broken_training_rules(config: schema.Config) -> Iterator[str]:
    trainer = config.trainer
    budgets = (trainer.max_epochs, trainer.max_steps, trainer.max_tokens, trainer.max_minutes)
    if all(budget is None for budget in budgets):
        yield "trainer: needs a budget; set one of max_epochs, max_steps, max_tokens, max_minutes"
    if isinstance(config.schedule, schema.CosineConfig) and config.schedule.per_epoch and trainer.max_epochs is None:
        yield "schedule.per_epoch=true: steps once an epoch and needs trainer.max_epochs"
    if trainer.precision is schema.Precision.fp16 and trainer.device is schema.Device.cpu:
        yield "trainer.precision=fp16: needs scaled gradients on a GPU; on trainer.device=cpu use fp32 or bf16"
    if trainer.deterministic and trainer.max_minutes is not None:
        yield (
            "trainer.deterministic=true: no two runs take equal steps in trainer.max_minutes: the clock decides; "
            "budget in max_epochs, max_steps or max_tokens"
        )
    protocol = config.protocol
    by_bytes = protocol.selection is schema.Selection.val_bpb
    if by_bytes is not (protocol.windows is schema.Windows.covering):
        yield (
            f"protocol.selection={protocol.selection.name}: val_bpb goes with protocol.windows=covering, "
            "val_objective with protocol.windows=reference"
        )
