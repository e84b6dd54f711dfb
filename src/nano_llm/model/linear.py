"""Linear maps that read their weights at the speed of memory, also for the few rows of one step of decoding.

N rows, I features in, O features out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_FEW_ROWS = 3
"""Rows up to which the product with the weight on the left is the faster one on a CPU."""


def linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Map (..., I) to (..., O).

    Libraries take a product of few rows for one of vectors, which leaves much of the memory's bandwidth unused, and
    more for two rows than for one. With the weight on the left it is one of matrices, if it has two columns at least.
    """
    if torch.is_grad_enabled() or x.device.type != "cpu" or (num_rows := x.shape[:-1].numel()) > MOST_FEW_ROWS:
        return F.linear(x, weight_OI, bias_O)
    x_NI = x.reshape(num_rows, -1).contiguous()  # other strides would take another, much slower product
    if num_rows == 1:
        x_NI = torch.cat((x_NI, x_NI))
    y_ON = weight_OI @ x_NI.mT if bias_O is None else torch.addmm(bias_O[:, None], weight_OI, x_NI.mT)
    return y_ON.mT[:num_rows].contiguous().view(*x.shape[:-1], -1)


class Linear(nn.Linear):
    """A linear map by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., I) to (..., O)."""
        return linear(x, self.weight, self.bias)
