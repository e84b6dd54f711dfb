"""Linear maps of few rows are those of many."""

import pytest
import torch
from torch.nn import functional as F

from nano_llm.model.linear import MOST_FEW_ROWS, Linear, linear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (1, 1), (2, 1), (1, 3), (3, 1), (2, 2), (5, 3)])
def test_any_number_of_rows_gives_the_same_as_torch(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    layer = Linear(7, 5, bias=bias).double()
    x = torch.randn(*shape, 7, dtype=torch.float64)
    with torch.inference_mode():
        found = layer(x)
        expected = F.linear(x, layer.weight, layer.bias)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_rows_that_are_not_side_by_side_in_memory() -> None:
    x = torch.randn(3, 4, 7, dtype=torch.float64)[:, 1:2]
    weight, bias = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(linear(x, weight, bias), F.linear(x, weight, bias), rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_rows", [1, MOST_FEW_ROWS])
def test_gradients_are_those_of_torch(num_rows: int) -> None:
    torch.manual_seed(0)
    layer = Linear(7, 5).double()
    x = torch.randn(num_rows, 7, dtype=torch.float64, requires_grad=True)
    found = torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])
    expected = torch.autograd.grad(F.linear(x, layer.weight, layer.bias).square().sum(), [x, *layer.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
