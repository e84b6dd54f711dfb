"""Exports are loaded by the real transformers, whose copies of their code go to a folder of the tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nano_llm.export import card


@pytest.fixture(scope="session", autouse=True)
def own_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from transformers import dynamic_module_utils

    folder = tmp_path_factory.mktemp("modules")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(folder))
        patch.setattr(card, "NUM_TOKENS", 6)
        yield folder
