"""What a run is called: a short hash of everything that changes its numbers."""

import hashlib
import json
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from typing import Any

from nano_llm.config.schema import Config


def to_plain(value: Any, *, naming: bool = False) -> Any:
    """Turn typed settings into JSON's types: enums by name, each group with the name of its ``type``.

    Args:
        value: A settings object, or any value inside one.
        naming: Keep only the settings that name a run.
    """
    if is_dataclass(value) and not isinstance(value, type):
        plain = {
            f.name: to_plain(getattr(value, f.name), naming=naming)
            for f in fields(value)
            if not naming or _names(f, getattr(value, f.name))
        }
        return plain | {"type": type(value).__name__}
    return value.name if isinstance(value, Enum) else value


def _names(declared: Field[Any], value: Any) -> bool:
    """Tell whether a setting names a run: it can change numbers, and says more than its absence did."""
    said = declared.metadata
    return not said.get("volatile") and not (said.get("silent") and value == said["absent"])


def arm_id(config: Config, data_fingerprint: str) -> str:
    """Return 12 hexadecimal digits that name a configuration over its seeds.

    Equal for equal numbers: labels, paths, device and rhythm of logging take no part; the seed does not either,
    it names the folder below.
    """
    plain = to_plain(config, naming=True)
    del plain["seed"]
    # The fingerprint stands for everything about the corpus, wherever it was read from.
    plain["data"] = data_fingerprint
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
