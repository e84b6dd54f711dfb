"""What is installed of nano_llm and of the packages that it asks for, as the installation tells of itself.

Nothing is imported for it: a package that is missing or broken is the very thing to be told.
"""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement

DISTRIBUTION = "nano-llm"
NOT_FOR_USERS = ("all", "dev")
"""Extras that bring nothing which a user could be told to lack."""


@dataclass(frozen=True, slots=True)
class Lack:
    """A package that is not there as it is asked for."""

    name: str
    wanted: str
    """Versions, as ``<3,>=2.2``; empty where any will do."""
    installed: str | None

    def __str__(self) -> str:
        """Return a few words for people."""
        there = "not installed" if self.installed is None else f"{self.installed} is installed"
        return f"{self.name}{self.wanted} ({there})"


def installed_version(name: str) -> str | None:
    """Return the version of an installed package, None where it is not there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def extras() -> list[str]:
    """Return the extras that a user can have; none where nano_llm itself is not installed."""
    try:
        found = metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return []
    return [name for name in found if name not in NOT_FOR_USERS]


def lacking(extra: str | None = None) -> list[Lack]:
    """Return what nano_llm asks for and does not find here.

    Args:
        extra: Of which to tell; None: of what nano_llm needs whatever is done with it.

    Returns:
        Packages that are missing or of another version than asked for; none where nano_llm itself is not installed.
    """
    return [
        Lack(need.name, str(need.specifier), found)
        for need in _needs(extra)
        if (found := installed_version(need.name)) is None or not need.specifier.contains(found, prereleases=True)
    ]


def _needs(extra: str | None) -> list[Requirement]:
    try:
        asked = [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:
        return []
    if extra is None:
        return [need for need in asked if need.marker is None or need.marker.evaluate({"extra": ""})]
    return [
        need
        for need in asked
        if need.marker is not None
        and need.marker.evaluate({"extra": extra})
        and not need.marker.evaluate({"extra": ""})
    ]
