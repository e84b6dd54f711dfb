"""What names prepared data: the settings that shape it, its source, the format of the files.

A prepared folder can be used in place of its source if all settings agree; the source itself may be out of reach.
"""

import hashlib
import json
import platform
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from nano_llm.config.schema import DataConfig, ProtocolConfig
from nano_llm.data.cache import DamagedFolderError, Manifest, read_manifest
from nano_llm.data.template import Template
from nano_llm.errors import DataError

Settings = dict[str, Any]

FORMAT = 2  # raise it whenever the same settings give other files
_SOURCE_SETTINGS = ("repository", "revision")


def shaping_settings(data: DataConfig, protocol: ProtocolConfig, template: Template) -> Settings:
    """Return what shapes the data as dotted names and plain values, the source apart."""
    corpus = type(data).__name__.removesuffix("Config").lower()
    shaping = {"data": {**_plain(data), "corpus": corpus, "conditioning": template.conditioning.value}}
    for name in _SOURCE_SETTINGS:
        shaping["data"].pop(name, None)
    names = ("windows", "tokenizer_corpus", "validation_reviews")
    shaping["protocol"] = {name: _plain(getattr(protocol, name)) for name in names}
    return dict(_flat(shaping))


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        kept = [field for field in fields(value) if not field.metadata.get("volatile", False)]
        return {field.name: _plain(getattr(value, field.name)) for field in kept}
    return value.value if isinstance(value, Enum) else value


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def identity(settings: Settings, source: dict[str, Any]) -> Manifest:
    """Return the part of a manifest that names the data."""
    return {
        "format": FORMAT,
        "fingerprint": fingerprint_of(settings, source),
        "settings": settings,
        "source": source,
        "versions": _versions(),
    }


def fingerprint_of(settings: Settings, source: dict[str, Any]) -> str:
    """Return 16 hexadecimal digits that name the data of these settings and this source."""
    content = json.dumps({"format": FORMAT, "settings": settings, "source": source}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def is_whole(manifest: Manifest) -> bool:
    """Whether a manifest is of this format and names its own content."""
    parts = ("fingerprint", "settings", "source", "counts", "versions")
    if manifest.get("format") != FORMAT or not all(part in manifest for part in parts):
        return False
    return bool(manifest["fingerprint"] == fingerprint_of(manifest["settings"], manifest["source"]))


def matching_manifest(folder: Path, settings: Settings) -> Manifest:
    """Return the manifest of a prepared folder that agrees with the settings.

    Raises:
        DataError: The folder is missing or damaged, or holds data of other settings.
    """
    if not folder.is_dir():
        raise DataError(
            f"data.prepared={folder} is not a folder. Name one written by `nano-llm prepare`, or leave it unset."
        )
    try:
        manifest = read_manifest(folder)
    except DamagedFolderError as error:
        raise DataError(f"data.prepared={folder} cannot be used: {error}. Copy it again or prepare it anew.") from error
    if not is_whole(manifest):
        raise DataError(
            f"data.prepared={folder} was not written by `nano-llm prepare` of this version (format {FORMAT}). "
            "Prepare it anew."
        )
    prepared = manifest["settings"]
    differing = [
        f"{name}: requested {settings.get(name)!r}, prepared with {prepared.get(name)!r}"
        for name in sorted({*settings, *prepared})
        if settings.get(name) != prepared.get(name)
    ]
    if differing:
        raise DataError(
            f"data.prepared={folder} holds data of other settings. {'; '.join(differing)}. Request the settings it was "
            "prepared with, or prepare it anew."
        )
    return manifest


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "numpy": np.__version__, "tokenizers": tokenizers.__version__}
