"""Exports are loaded by the real transformers, whose copies of their code go to a folder of the tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from export.exporting import modules_in
from nano_llm.export import card


@pytest.fixture(scope="module", autouse=True)
def own_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    # Not for longer: processes that other tests fork take over where modules are looked for.
    folder = tmp_path_factory.mktemp("modules")
    with modules_in(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(card, "NUM_TOKENS", 6)
        yield folder
