"""What is installed, by what installations tell of themselves."""

from pathlib import Path

import pytest

from nano_llm.tracking.installation import extras, installed_version, lacking


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def lay(site: Path, name: str, version: str, *lines: str) -> None:
    about = site / f"{name}-{version}.dist-info"
    about.mkdir()
    text = "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *lines])
    (about / "METADATA").write_text(text + "\n")


def test_versions_are_those_of_the_installation(site: Path) -> None:
    lay(site, "lexicon", "1.2")
    assert installed_version("lexicon") == "1.2"
    assert installed_version("of-no-registry") is None


def test_what_is_missing_or_of_another_version_is_lacking(site: Path) -> None:
    lay(site, "lexicon", "1.2")
    lay(site, "local", "2.13.0+cpu")
    needs = ["lexicon>=1", "lexicon<1", "local<2.16,>=2.11", "of-no-registry", "lexicon>=9; python_version < '3'"]
    lay(site, "nano_llm", "0.1.0", *(f"Requires-Dist: {need}" for need in needs))
    assert [str(lack) for lack in lacking()] == ["lexicon<1 (1.2 is installed)", "of-no-registry (not installed)"]


def test_an_extra_lacks_what_it_adds(site: Path) -> None:
    lines = ["Provides-Extra: one", "Provides-Extra: two", "Provides-Extra: all", "Provides-Extra: dev"]
    needs = ["of-no-registry", "first-absent; extra == 'one'", "second-absent; extra == 'two' or extra == 'all'"]
    lay(site, "nano_llm", "0.1.0", *lines, *(f"Requires-Dist: {need}" for need in needs))
    assert extras() == ["one", "two"]
    assert [lack.name for lack in lacking("one")] == ["first-absent"]
    assert [lack.name for lack in lacking("two")] == ["second-absent"]
    assert [lack.name for lack in lacking()] == ["of-no-registry"]
