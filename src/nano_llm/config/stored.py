"""Read back a configuration that was stored as JSON."""

import typing
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any

from omegaconf import MISSING

from nano_llm.config import schema
from nano_llm.config.identity import to_plain
from nano_llm.config.register import SCHEMAS
from nano_llm.config.strict import broken_rules, report, suggest, value_problems
from nano_llm.errors import ConfigError


def from_plain(plain: Any) -> schema.Config:
    """Rebuild what `identity.to_plain` wrote.

    Raises:
        ConfigError: A group, a setting or a value is unknown to this version or out of its limits, one is missing, or
            rules that span several settings are broken.
    """
    problems: list[str] = []
    config = _build(plain, [schema.Config], "", problems)
    if not problems:
        problems.extend(broken_rules(config))
    if problems:
        raise ConfigError(report(problems))
    assert isinstance(config, schema.Config)
    return config


def _build(plain: Any, choices: list[type], path: str, problems: list[str]) -> Any:
    """Rebuild a group of settings, of one of the types that may stand here."""
    name = plain.get("type") if isinstance(plain, dict) else None
    cls = next((choice for choice in choices if choice.__name__ == name), None)
    if cls is None:
        problems.append(
            f"{path.rstrip('.') or 'root'}: not a known group of settings ({name}); known here: "
            f"{', '.join(choice.__name__ for choice in choices)}"
        )
        return None
    declared = {field.name: field for field in fields(cls)}
    hints = typing.get_type_hints(cls)
    plain = {name: _absent(field) for name, field in declared.items() if _absent(field) != MISSING} | plain
    problems.extend(
        f"{path}{key}: no such setting; {suggest(key, [*declared])}" for key in plain if key not in (*declared, "type")
    )
    problems.extend(f"{path}{key}: missing" for key in declared if key not in plain)
    values = {
        key: _value(plain[key], hints[key], field, f"{path}{key}", problems)
        for key, field in declared.items()
        if key in plain
    }
    return cls(**values)


def _absent(declared: Field[Any]) -> Any:
    """Return, as JSON, what a configuration means that was stored before this setting existed."""
    return to_plain(declared.metadata.get("absent", MISSING))


def _value(value: Any, hint: Any, declared: Field[Any], path: str, problems: list[str]) -> Any:
    allowed = typing.get_args(hint) if isinstance(hint, UnionType) else (hint,)
    group = next((kind for kind in allowed if is_dataclass(kind)), None)
    if group is not None and not (value is None and NoneType in allowed):
        return _build(value, _choices(group), f"{path}.", problems)
    if hint == list[str] and isinstance(value, list) and all(isinstance(item, str) for item in value):
        problems.extend(value_problems(path, value, declared))
        return value
    for kind in allowed:
        if isinstance(kind, type) and issubclass(kind, Enum) and isinstance(value, str) and value in kind.__members__:
            return kind[value]
        if type(value) is kind or (kind is float and type(value) is int):
            problems.extend(value_problems(path, value, declared))
            return value
    problems.append(f"{path}={value!r:.80}: not of the type {hint}")
    return None


def _choices(hint: Any) -> list[type]:
    """Return the types of a group that can be chosen: its variants, or itself where it has none."""
    return [cls for _, _, cls in SCHEMAS if issubclass(cls, hint)] or [hint]
