"""What `nano-llm doctor` looks at: the installation, the machine, the data, the folders, the keys."""

import importlib
import netrc
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from nano_llm import __version__
from nano_llm.errors import NanoLLMError, OutputError
from nano_llm.files import demand_writable, free_bytes
from nano_llm.serving.key import KEY_VARIABLE, checked_key
from nano_llm.tracking.installation import DISTRIBUTION, extras, installed_version, lacking

if TYPE_CHECKING:
    from nano_llm.config.schema import ImdbConfig

LEAST_FREE_BYTES = 1 << 30
"""Less space than this is told: prepared IMDB and the checkpoints of a run of 20M parameters would hardly fit."""
WANDB_SERVER = "https://api.wandb.ai"
Found = TypeVar("Found")
Facts = dict[str, Any]


def examine() -> Facts:
    """Look at the installation, the machine, the data, the folders and the keys.

    Returns:
        Facts as JSON's types by section, and ``problems``, a sentence or two each, with the remedy. Where packages are
        missing or PyTorch is broken, only the installation and the keys are looked at.
    """
    problems: list[str] = []
    found: Facts = {"nano_llm": __version__, "code": str(Path(__file__).parents[1]), "problems": problems}
    found["extras"] = {extra: [str(lack) for lack in lacking(extra)] for extra in extras()}
    if _has_all_packages(problems):
        found |= _machine(problems) | _corpora_and_folders(problems)
    return found | {"keys": _keys(problems)}


# ------------------------------------------------------------------------------------- installation


def _has_all_packages(problems: list[str]) -> bool:
    """Tell whether the rest can be looked at."""
    if (version := installed_version(DISTRIBUTION)) != __version__:
        problems.append(
            f"This is nano_llm {__version__}, but {DISTRIBUTION} {version or 'of no version'} is installed: what it "
            "needs is not known, or that of another version. Install it again: `make`, or pip install --editable . in "
            "the checkout."
        )
    lacks = lacking()
    for lack in lacks:
        problems.append(
            f"nano_llm needs {lack}. Install it again: `make` in a checkout, or pip install with the wheel that you "
            "have (docs/installation.md)."
        )
    if any(lack.installed is None for lack in lacks):
        return False
    try:
        importlib.import_module("torch")
    except (ImportError, OSError) as error:  # a library that it was built with is not here, or is another
        problems.append(
            f"torch {installed_version('torch')} is installed, but cannot be imported: {error}. Install a build that "
            "fits this machine (docs/installation.md)."
        )
        return False
    return True


# ------------------------------------------------------------------------------------------ machine


def _machine(problems: list[str]) -> Facts:
    import torch

    from nano_llm.tracking.devices import cpu_has_bf16, gpu_troubles, gpus, memory_bytes
    from nano_llm.tracking.environment import environment

    found = gpus()
    problems.extend(gpu_troubles(found))
    return {
        "environment": environment(),
        "machine": {
            "memory_bytes": memory_bytes(),
            "cpu_has_bf16": cpu_has_bf16(),
            "gpus": found,
            "mps": torch.backends.mps.is_available(),
        },
    }


# ----------------------------------------------------------------------------------- data and folders


def _corpora_and_folders(problems: list[str]) -> Facts:
    from nano_llm.config.compose import compose_config
    from nano_llm.config.schema import ImdbConfig

    config = _told(problems, lambda: compose_config(["data=imdb"]))
    if config is None:
        return {}
    assert isinstance(config.data, ImdbConfig)
    places = {"outputs": config.paths.outputs, "cache": config.paths.cache}
    return {
        "data": _data(config.data, problems),
        "folders": {name: _folder(Path(place).expanduser(), problems) for name, place in places.items()},
    }


def _data(config: "ImdbConfig", problems: list[str]) -> Facts:
    """Read what the variables name, as a run would; nothing is fetched from the Hub."""
    from nano_llm.data.cad import cad_source, read_members
    from nano_llm.data.corpus import require_both_treatments
    from nano_llm.data.imdb import imdb_source, read_imdb
    from nano_llm.data.movies import read_movies

    def reviews() -> dict[str, int]:
        published = read_imdb(config)
        require_both_treatments(published["train"].labels)
        return {split: len(found.texts) for split, found in published.items()}

    def pairs() -> dict[str, int]:
        return {split: len(read_members(config.cad, split)) for split in cad_source(config.cad)}

    def movies(path: str, counts: dict[str, int]) -> dict[str, int]:
        return {split: len(set(read_movies(path, split, number))) for split, number in counts.items()}

    counts = None if config.path is None else _told(problems, reviews)
    known: Facts = {"imdb": {"kind": "folder", "path": config.path, "reviews": counts}, "cad": None, "movies": None}
    if config.path is None:
        known["imdb"] = imdb_source(config)
    if config.cad is not None:
        known["cad"] = {"path": config.cad, "pairs": _told(problems, pairs)}
    if config.movies is not None:
        path = config.movies
        # A line a review: without reviews there is nothing to hold them against.
        found = None if counts is None else _told(problems, lambda: movies(path, counts))
        known["movies"] = {"path": path, "movies": found}
    return known


def _folder(folder: Path, problems: list[str]) -> Facts:
    def free() -> int:
        demand_writable(folder)
        left = free_bytes(folder)
        if left < LEAST_FREE_BYTES:
            raise OutputError(
                f"Only {in_gibibytes(left)} are left for {folder}; prepared data and checkpoints may need "
                f"{in_gibibytes(LEAST_FREE_BYTES)}. Free some, or choose another folder (paths.outputs, paths.cache)."
            )
        return left

    left = _told(problems, free)
    return {"path": str(folder), "bytes": _bytes_in(folder) if _is_there(folder) else None, "free_bytes": left}


def _is_there(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError:  # one above it may not be looked into
        return False


def in_gibibytes(num_bytes: int) -> str:
    """Write a number of bytes for people."""
    return f"{num_bytes / 2**30:.1f} GiB"


def _bytes_in(folder: Path) -> int:
    """Return the size of all files below a folder; those that vanish meanwhile or may not be seen do not count."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118  # of many thousand files
            except OSError:
                continue
    return total


def _told(problems: list[str], look: Callable[[], Found]) -> Found | None:
    """Return what a look finds; None where it finds a problem, which is kept."""
    try:
        return look()
    except NanoLLMError as error:
        problems.append(str(error))
        return None


# --------------------------------------------------------------------------------------------- keys


def _keys(problems: list[str]) -> dict[str, bool]:
    """Tell which keys are here; never what they are."""
    if key := os.environ.get(KEY_VARIABLE):
        _told(problems, lambda: checked_key(key, KEY_VARIABLE))
    return {
        "WANDB_API_KEY": bool(os.environ.get("WANDB_API_KEY"))
        or _is_in_netrc(os.environ.get("WANDB_BASE_URL") or WANDB_SERVER),
        "HF_TOKEN": bool(os.environ.get("HF_TOKEN")) or _is_in_hub_file(),
        KEY_VARIABLE: bool(os.environ.get(KEY_VARIABLE)),
    }


def _is_in_netrc(server: str) -> bool:
    """Tell whether `wandb login` has left a key for a server here."""
    try:
        host = urlsplit(server).netloc
        return bool(host) and netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, ValueError, netrc.NetrcParseError):  # ValueError: no address, or a file that is no text
        return False


def _is_in_hub_file() -> bool:
    """Tell whether `hf auth login` has left a token here."""
    home = os.environ.get("HF_HOME", Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))
    try:
        return Path(os.environ.get("HF_TOKEN_PATH", Path(home, "token"))).expanduser().is_file()
    except OSError:  # in a home of somebody else
        return False
