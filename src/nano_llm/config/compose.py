"""Compose ``conf/`` with overrides outside Hydra's main, and explain overrides that Hydra refuses."""

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

from hydra import compose, initialize_config_dir, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nano_llm.config import schema
from nano_llm.config.plugins import missing_extra, register_plugins
from nano_llm.config.register import SCHEMAS, config_source, register_schemas
from nano_llm.config.strict import convert, report, suggest
from nano_llm.errors import ConfigError

FORESEEN = (HydraException, OmegaConfBaseException)
REFUSALS = (*FORESEEN, ValueError, TypeError, AttributeError, AssertionError, RecursionError)
"""What Hydra raises about overrides that it cannot take; the last five where it did not foresee them."""
MAX_OVERRIDE = 1 << 17
"""Characters, as many as Linux takes as one word of a command; Hydra reads ten million of them for minutes."""
NO_VALUES = "names no values; write them out and add -m, as in -m seed=0,1 (a search takes intervals too)"


def compose_config(overrides: Sequence[str] = ()) -> schema.Config:
    """Compose and check a config.

    Args:
        overrides: Hydra overrides, such as ``model=tarnet`` or ``trainer.max_steps=100``; those of a sweep change
            nothing here.

    Raises:
        ConfigError: Everything that is wrong with the overrides or the values, in one message.
    """
    told = "{}... has {:,} characters; at most {:,} are read"
    if too_long := [told.format(text[:40], len(text), MAX_OVERRIDE) for text in overrides if len(text) > MAX_OVERRIDE]:
        raise ConfigError(report(too_long))
    with composing():
        try:
            composed = compose("config", overrides=list(overrides))
        except REFUSALS:
            composed = None
    if composed is None:
        raise ConfigError(explain(overrides))
    return convert(composed).run()


@contextmanager
def composing() -> Iterator[None]:
    """Make ``conf/`` composable, also after Hydra's main has left its own state behind."""
    register_schemas()
    register_plugins()
    GlobalHydra.instance().clear()
    source = config_source()
    if source.startswith("pkg://"):
        with initialize_config_module(source.removeprefix("pkg://"), version_base="1.3"):
            yield
    else:
        with initialize_config_dir(source, version_base="1.3"):
            yield


def explain(overrides: Sequence[str], *, multirun: bool = False) -> str:
    """Say what is wrong with overrides that do not compose, and with the values of those that do.

    Args:
        overrides: As typed.
        multirun: Whether several values of a setting were allowed.
    """
    problems = problems_of(overrides, multirun=multirun)
    return report(problems) if problems else "the configuration does not compose, although each override alone does"


def problems_of(overrides: Sequence[str], *, multirun: bool = False) -> list[str]:
    """Return what is wrong with overrides, a line each, as `explain` tells it; nothing if each alone will do."""
    problems: list[str] = []
    accepted: list[str] = []
    with composing():
        # Choices of groups first: whether a setting exists depends on them.
        for override in sorted(overrides, key=lambda text: "." in text.split("=")[0]):
            fitting = []
            singles = _singles(override)
            if multirun and _is_interval(override):  # has no values to go through: a search draws from it
                continue
            if len(singles) > 1 and not multirun:
                problems.append(f"{override}: several values need -m, one run each; {_as_one_value(override)}")
            for single in singles:
                try:
                    compose("config", overrides=[*accepted, single])
                    fitting.append(single)
                except REFUSALS as error:
                    problems.append(_explain_one(single, accepted, error))
            accepted += fitting[:1]
        composed = compose("config", overrides=accepted)
        try:
            convert(composed)
        except ConfigError as error:
            problems.extend(line.removeprefix("  - ") for line in str(error).splitlines()[1:])
    return problems


def _singles(text: str) -> list[str]:
    """Split an override that sweeps, such as ``seed=1,2``, into one for each value."""
    try:
        override = OverridesParser.create().parse_override(text)
    except REFUSALS:
        return [text]
    if not override.is_discrete_sweep() or override.value_type is ValueType.GLOB_CHOICE_SWEEP:
        return [text]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def _as_one_value(override: str) -> str:
    """Say how values are written that were meant together."""
    group, _, values = override.partition("=")
    if _takes_several(group):
        return f"for one run with all of them write '{group}=[{values}]'"
    return "quote a text that holds a comma, as in 'data.prompt.command=\"Write, please:\"'"


def _takes_several(group: str) -> bool:
    """Tell whether several choices of a group go together: its default is a list then. Needs ``composing()``."""
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    (conf,) = (source for source in hydra.config_loader.get_sources() if source.provider == "main")
    root: Any = OmegaConf.to_container(conf.load_config("config").config)
    return any(isinstance(default, dict) and isinstance(default.get(group), list) for default in root["defaults"])


def _is_interval(text: str) -> bool:
    try:
        return OverridesParser.create().parse_override(text).is_interval_sweep()
    except REFUSALS:
        return False


def _explain_one(text: str, accepted: list[str], error: Exception) -> str:
    """Explain one refused override, given those accepted before it."""
    try:
        override = OverridesParser.create().parse_override(text)
    except REFUSALS:
        override = None
    if override is None or not override.key_or_group:
        return (
            f"{text}: not an override of the form key=value; quote values that hold commas, brackets or accents, "
            "as in 'data.prompt.command=\"Write a review:\"'"
        )
    if override.is_sweep_override():
        return f"{text}: {NO_VALUES}"
    key = override.get_key_element().lstrip("+~")
    reason = next(iter(str(error.__cause__ or error).splitlines()), type(error).__name__)
    missing_option = re.search(r"Could not (?:find|load) '(.*)'", str(error))
    if missing_option:
        if extra := missing_extra(missing_option.group(1)):
            return f"{text}: needs more packages; pip install 'nano-llm[{extra}]'"
        group, _, option = missing_option.group(1).rpartition("/")
        return f"{text}: {_explain_option(group, option)}"
    if "/" in key and options_of(key):
        return f"{text}: {_explain_misfit(key, text, accepted)}"
    # The last one is about a setting below a part that was not chosen, such as tracker.wandb.
    if "Could not override" in str(error) or "not in struct" in reason or isinstance(error, AssertionError):
        return f"{text}: {_explain_key(key, override, accepted)}"
    if clash := re.search(r"^In '(\w+)/(\w+)': .*\n *full_key: (\S+)", str(error), re.DOTALL):
        above, choice, setting = clash.groups()
        return f"{text}: does not go with {above}={choice}, which sets {setting}; leave one of the two out"
    if override.is_delete() and key not in group_names():
        return f"{text}: settings cannot be removed; set {key} to another value instead"
    return f"{text}: {_expected(key, accepted, reason)}"


def _explain_misfit(group: str, text: str, accepted: list[str]) -> str:
    """Say with which choices of the group above a choice does go."""
    above = group.partition("/")[0]
    others = _without(accepted, above)
    fitting = [f"{above}={option}" for option in options_of(above) if _paths_with([*others, f"{above}={option}", text])]
    return f"does not go with this {above}; it goes with {' or '.join(fitting) or 'none of them'}"


def _explain_option(group: str, option: str) -> str:
    return f"no such choice of {group}; {suggest(option, options_of(group))}"


def options_of(group: str) -> list[str]:
    """Return the choices of a config group, schema nodes left out. Needs ``composing()``."""
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    return [name for name in hydra.config_loader.get_group_options(group) if not name.startswith("_")]


def _explain_key(key: str, override: Override, accepted: list[str]) -> str:
    """Say where an unknown key does exist, or which known key is near."""
    composed = compose("config", overrides=accepted)
    group = key.split(".")[0]
    others = _without(accepted, group)
    elsewhere = [option for option in options_of(group) if key in _paths_with([*others, f"{group}={option}"])]
    if elsewhere:
        chosen = next((text for text in reversed(accepted) if text.split("=")[0] == group), f"this {group}")
        return f"no such setting with {chosen}; it exists with {', '.join(f'{group}={o}' for o in elsewhere)}"
    return f"no such setting; {_near(key, composed)}"


def _near(key: str, composed: DictConfig) -> str:
    """Suggest a setting for a mistyped path: its siblings where the group exists, else near paths."""
    parent_path, _, name = key.rpartition(".")
    parent = OmegaConf.select(composed, parent_path) if parent_path else composed
    if isinstance(parent, DictConfig):
        return suggest(name, [str(sibling) for sibling in parent])
    near = difflib.get_close_matches(key, list(_paths(composed)), n=2)
    return f"did you mean {' or '.join(near)}?" if near else f"known groups: {', '.join(map(str, composed))}"


def _without(accepted: list[str], group: str) -> list[str]:
    """Leave out overrides of a group and of its settings, which another choice may not have."""
    return [text for text in accepted if re.split(r"[=./]", text.lstrip("+~"))[0] != group]


def _paths_with(overrides: list[str]) -> set[str]:
    """Return the settings that exist under some overrides; none if these do not compose."""
    try:
        return set(_paths(compose("config", overrides=overrides)))
    except REFUSALS:
        return set()


def _paths(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted paths of all settings below a node."""
    for name in map(str, node):
        path = f"{prefix}{name}"
        child = node._get_node(name)
        yield path
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            yield from _paths(child, f"{path}.")


def _expected(key: str, accepted: list[str], reason: str) -> str:
    """Say what a setting takes, from its declaration."""
    composed = compose("config", overrides=accepted)
    if key in group_names():
        group = key.replace(".", "/")
        return f"is a group of settings; choose one with {group}={'|'.join(options_of(group))}"
    parent_path, _, name = key.rpartition(".")
    parent = OmegaConf.select(composed, parent_path) if parent_path else composed
    cls = OmegaConf.get_type(parent)
    if not is_dataclass(cls) or name not in (hints := get_type_hints(cls)):
        return reason
    doc = next(f.metadata.get("doc", "a group of settings") for f in fields(cls) if f.name == name)
    return f"must be {_kind(hints[name])} ({doc})"


def group_names() -> set[str]:
    """Return the dotted names of the config groups."""
    return {group.replace("/", ".") for group, _, _ in SCHEMAS if group}


def _kind(hint: Any) -> str:
    """Write a type in words."""
    if isinstance(hint, UnionType):
        return " or ".join(_kind(member) for member in get_args(hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"one of {', '.join(hint.__members__)}"
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        NoneType: "null",
        list[str]: "a list of texts such as [a,b]",
    }
    return words.get(hint, str(hint))
