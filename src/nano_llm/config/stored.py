"""Read back a configuration that was stored as JSON."""

import typing
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import Any

from omegaconf import MISSING

from nano_llm.config import schema
from nano_llm.config.identity import to_plain
from nano_llm.config.strict import report, suggest
from nano_llm.errors import ConfigError


def from_plain(plain: Any) -> schema.Config:
    """Rebuild what `identity.to_plain` wrote.

    Raises:
        ConfigError: A group, a setting or a value is unknown to this version, or one is missing.
    """
    problems: list[str] = []
    config = _build(plain, "", problems)
    if problems or not isinstance(config, schema.Config):
        raise ConfigError(report(problems or ["the root is not a configuration"]))
    return config


def _build(plain: Any, path: str, problems: list[str]) -> Any:
    name = plain.get("type") if isinstance(plain, dict) else None
    cls = vars(schema).get(name) if isinstance(name, str) else None
    if not (isinstance(cls, type) and is_dataclass(cls)):
        problems.append(f"{path or 'root'}: not a known group of settings ({name})")
        return None
    hints = typing.get_type_hints(cls)
    plain = {f.name: _absent(f) for f in fields(cls) if _absent(f) != MISSING} | plain
    known = [f.name for f in fields(cls)]
    problems.extend(
        f"{path}{key}: no such setting; {suggest(key, known)}" for key in plain if key not in (*known, "type")
    )
    problems.extend(f"{path}{key}: missing" for key in known if key not in plain)
    return cls(**{key: _value(plain[key], hints[key], f"{path}{key}", problems) for key in known if key in plain})


def _absent(declared: Field[Any]) -> Any:
    """Return, as JSON, what a configuration means that was stored before this setting existed."""
    return to_plain(declared.metadata.get("absent", MISSING))


def _value(value: Any, hint: Any, path: str, problems: list[str]) -> Any:
    if isinstance(value, dict):
        return _build(value, f"{path}.", problems)
    allowed = typing.get_args(hint) if isinstance(hint, UnionType) else (hint,)
    for kind in allowed:
        if issubclass(kind, Enum) and value in kind.__members__:
            return kind[value]
        if type(value) is kind or (kind is float and type(value) is int):
            return value
    problems.append(f"{path}={value}: not of the type {hint}")
    return None
