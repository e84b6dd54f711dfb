from collections.abc import Iterator

import pytest
import torch

from nano_llm.training.machine import CUBLAS_WORKSPACE


@pytest.fixture
def determinism(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave torch and the environment as they were."""
    monkeypatch.setenv(CUBLAS_WORKSPACE, "")
    monkeypatch.delenv(CUBLAS_WORKSPACE)
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
