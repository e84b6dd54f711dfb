"""Write docs/configuration.md: every group of the configuration, its choices, and every setting.

    python tools/configuration.py

Meanings and limits are those of the schema, defaults and the comments on choices those of ``conf/``.
"""

import re
import typing
from collections.abc import Iterator
from dataclasses import Field, dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

from hydra import compose
from omegaconf import DictConfig, ListConfig, OmegaConf

from nano_llm.config.compose import REFUSALS, composing, options_of
from nano_llm.config.register import SCHEMAS
from nano_llm.config.schema import Config
from nano_llm.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
PAGE = ROOT / "docs/configuration.md"

GROUPS = list(dict.fromkeys(group for group, _, _ in SCHEMAS if group))
PRESETS = ("experiment", "debug")
"""Groups without settings of their own: they set those of others."""

HEAD = """\
<!-- Written by tools/configuration.py from src/nano_llm/config/schema.py and conf/. Do not edit. -->

# Configuration

Every group, every choice, every setting. `group=choice` takes a choice, `group.setting=value` changes a setting:

```bash
nano-llm run --help                                   # choices and values, as they are composed
nano-llm run model=tarnet data=scm --cfg job          # prints a configuration and runs nothing
```

Everything is checked before anything happens: a name that does not exist, a value of the wrong type or out of its
limits, and settings that do not go together are refused at once, with exit status 2. What several settings demand of
each other is in [strict.py](../src/nano_llm/config/strict.py).

A run's id is a hash of all that can change its numbers. Settings marked ° take no part in it; of those that name data,
what lies there does. `null` switches a setting off, or leaves it to what the text says. A default that reads `$NAME` is
that variable of the environment, if it is set.

"""

TYPES = {int: "whole number", float: "number", bool: "`true` · `false`", str: "text", NoneType: "`null`"}
LIMITS = {"at_least": "≥", "above": ">", "at_most": "≤", "below": "<"}


@dataclass(frozen=True)
class Choice:
    """A choice of a group: its schema, its values as the file has them, and what the file says of itself."""

    name: str
    schema: type
    values: dict[str, Any]
    comment: str
    part: str = ""
    """Beginning of the names of its settings, where several choices go together and each has a part of its own."""


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


def render() -> str:
    """Return the page."""
    with composing():
        sections = [list(_root()), *(list(_group(group)) for group in GROUPS), *(list(_preset(one)) for one in PRESETS)]
    return HEAD + "\n\n".join("\n".join(section) for section in sections) + "\n"


def _root() -> Iterator[str]:
    """Yield what belongs to no group."""
    yield "## The run\n"
    yield from _table([Choice("", Config, _plain(compose("config")), "")])


def _group(group: str) -> Iterator[str]:
    choices = list(_choices(group))
    schemas = {choice.schema for choice in choices}
    base = _common_base([choice for choice in choices if not choice.part])
    yield f"## {group}\n"
    if base not in schemas or len(schemas) == 1 or any(choice.part for choice in choices):
        yield f"{_cell(_first_line(base))}\n"
    if len(choices) > 1:
        default = _default_of(group)
        yield from ("| choice | |", "|---|---|")
        for choice in choices:
            shown = f"`{choice.name}`, the default" if choice.name == default else f"`{choice.name}`"
            yield f"| {shown} | {_cell(choice.comment or _first_line(choice.schema))} |"
        yield ""
    yield from _table(choices)


def _preset(group: str) -> Iterator[str]:
    yield f"## {group}\n"
    yield f"Files that choose and set for others: taken by `{group}=choice`, and changed as everything else.\n"
    yield from ("| choice | | command |", "|---|---|---|")
    for name in sorted(options_of(group)):
        _, command, *told = _comment(CONF / group / f"{name}.yaml")
        yield f"| `{name}` | {_cell(' '.join(told))} | `{command}` |"


def _choices(group: str) -> Iterator[Choice]:
    for name in sorted(options_of(group)):
        node = OmegaConf.select(_composed(group, name), group.replace("/", "."))
        comment = " ".join(_comment(CONF / group / f"{name}.yaml"))
        schema = OmegaConf.get_type(node)
        assert schema is not None
        part = OmegaConf.get_type(node[name]) if isinstance(node.get(name), DictConfig) else None
        yield Choice(name, part or schema, _plain(node), comment, f"{name}." if part else "")


def _composed(group: str, name: str) -> DictConfig:
    """Compose with a choice, under the first choice above it that it goes with."""
    above = group.rpartition("/")[0]
    for overrides in [[f"{above}={one}"] for one in options_of(above)] if above else [[]]:
        try:
            return compose("config", overrides=[*overrides, f"{group}={name}"])
        except REFUSALS:
            continue
    raise ConfigError(f"{group}={name} composes with no choice of {above or 'the defaults'}.")


def _plain(node: DictConfig) -> dict[str, Any]:
    """Return values as the files have them: what refers to others is not looked up."""
    plain = OmegaConf.to_container(node, resolve=False)
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items()}


def _comment(path: Path) -> list[str]:
    """Return the comment lines that a file begins with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("# ") for line in lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")]]


def _default_of(group: str) -> str | None:
    """Return the choice that is taken when none is named."""
    above, _, name = group.rpartition("/")
    path = CONF / above / f"{_default_of(above)}.yaml" if above else CONF / "config.yaml"
    listed = OmegaConf.load(path)["defaults"]
    chosen = next((entry[name] for entry in listed if isinstance(entry, DictConfig) and name in entry), None)
    return chosen[0] if isinstance(chosen, ListConfig) else chosen  # of those that may go together, one is the default


def _common_base(choices: list[Choice]) -> type:
    """Return the most special class that all choices are of."""
    lines = [choice.schema.__mro__ for choice in choices]
    return next(cls for cls in lines[0] if all(cls in line for line in lines))


def _table(choices: list[Choice]) -> Iterator[str]:
    """Yield a row for each setting of any choice, those of all choices first."""
    owners: dict[str, list[Choice]] = {}
    for choice in choices:
        for name in settings_of(choice.schema, choice.part):
            owners.setdefault(name, []).append(choice)
    yield from ("| setting | takes | default | meaning |", "|---|---|---|---|")
    for name in sorted(owners, key=lambda name: -len(owners[name])):
        hint, field = settings_of(owners[name][0].schema, owners[name][0].part)[name]
        mark = "°" if field.metadata["volatile"] else ""
        default = _default({choice.name: _value(choice.values, name) for choice in owners[name]}, len(choices))
        cells = (f"`{name}`{mark}", _takes(hint, field), default, _meaning(hint, field))
        yield f"| {' | '.join(_cell(cell) for cell in cells)} |"


def settings_of(schema: type, prefix: str = "") -> dict[str, tuple[Any, Field[Any]]]:
    """Return type and declaration of the settings of a group, by dotted name; groups of their own are left out."""
    found: dict[str, tuple[Any, Field[Any]]] = {}
    hints = typing.get_type_hints(schema)
    for field in fields(schema):
        hint = hints[field.name]
        nested = next((kind for kind in (hint, *typing.get_args(hint)) if is_dataclass(kind)), None)
        if nested is None:
            found[prefix + field.name] = (hint, field)
        elif isinstance(nested, type) and not any(group and issubclass(cls, nested) for group, _, cls in SCHEMAS):
            found |= settings_of(nested, f"{prefix}{field.name}.")
    return found


def _default(values: dict[str, str], num_choices: int) -> str:
    """Join the defaults of the choices that have a setting."""
    if len(values) > 1 and all(value == f"`{name}`" for name, value in values.items()):
        return "the choice"
    owners: dict[str, list[str]] = {}
    for name, value in values.items():
        owners.setdefault(value, []).append(name)
    if len(owners) == 1 and len(values) == num_choices:
        return next(iter(owners))
    return " · ".join(f"{value} ({', '.join(names)})" for value, names in owners.items())


def _value(values: dict[str, Any], path: str) -> str:
    """Return a default, with what it refers to in words."""
    raw: Any = values
    for part in path.split("."):
        raw = raw[part]
    if isinstance(raw, Enum):
        return f"`{raw.name}`"
    if isinstance(raw, bool) or raw is None:
        return {True: "`true`", False: "`false`", None: "`null`"}[raw]
    text = str(raw)
    if variable := re.fullmatch(r"\$\{oc\.env:(\w+),\"?([^\"]*)\"?\}", text):
        return f"`${variable[1]}`, else `{variable[2]}`"
    if reference := re.fullmatch(r"\$\{([\w.]+)\}", text):
        return f"as `{reference[1]}`"
    return f"`{text}`"


def _takes(hint: Any, field: Field[Any]) -> str:
    """Say which values a setting takes."""
    given = field.metadata["limits"]
    limits = " and ".join(f"{sign} {given[name]:,}" for name, sign in LIMITS.items() if name in given)
    members = typing.get_args(hint) if isinstance(hint, UnionType) else (hint,)
    words = []
    for member in members:
        if isinstance(member, type) and issubclass(member, Enum):
            words.append(" · ".join(f"`{name}`" for name in member.__members__))
        elif typing.get_origin(member) is list:
            words.append("list of texts")
        else:
            words.append(f"{TYPES[member]} {limits}".strip() if member in (int, float) else TYPES[member])
    return " or ".join(words)


def _meaning(hint: Any, field: Field[Any]) -> str:
    """Return what a setting means, without the list of what it takes."""
    doc: str = field.metadata["doc"]
    if not (isinstance(hint, type) and issubclass(hint, Enum)):
        return doc
    listed = " | ".join(hint.__members__)
    return re.sub(rf"(: )?{re.escape(listed)}([;,] )?", "", doc).strip() or _first_line(hint)


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").splitlines()[0]


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|").replace("<", "\\<")


if __name__ == "__main__":
    main()
