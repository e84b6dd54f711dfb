"""What a run is called: a short hash of everything that changes its numbers."""

import hashlib
import json
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from nano_llm.config.schema import Config


def to_plain(value: Any, *, volatile: bool = True) -> Any:
    """Turn typed settings into JSON's types: enums by name, each group with the name of its ``type``.

    Args:
        value: A settings object, or any value inside one.
        volatile: Whether settings that cannot change a run's numbers are kept.
    """
    if is_dataclass(value) and not isinstance(value, type):
        plain = {
            f.name: to_plain(getattr(value, f.name), volatile=volatile)
            for f in fields(value)
            if volatile or not f.metadata.get("volatile")
        }
        return plain | {"type": type(value).__name__}
    return value.name if isinstance(value, Enum) else value


def arm_id(config: Config, data_fingerprint: str) -> str:
    """Return 12 hexadecimal digits that name a configuration over its seeds.

    Equal for equal numbers: labels, paths, device and rhythm of logging take no part; the seed does not either,
    it names the folder below.
    """
    plain = to_plain(config, volatile=False)
    del plain["seed"]
    # The fingerprint stands for everything about the corpus, wherever it was read from.
    plain["data"] = data_fingerprint
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
