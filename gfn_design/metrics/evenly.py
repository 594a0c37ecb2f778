"""Objects as if they were drawn."""

import torch
from torch import Tensor


def evenly_drawn(probability: Tensor, n: int) -> Tensor:
    """Rows in proportion to their probability, but at equal distances, not at random.

    Args:
        probability: Of each row, ``float[rows]``; they need not sum to 1.
        n: How many.

    Returns:
        ``int64[n]``, rising, on the CPU; those of samples that are as many are each row once.
    """
    upto = probability.double().cpu().cumsum(0)
    points = (torch.arange(n, dtype=torch.float64) + 0.5) / n * upto[-1]
    return torch.searchsorted(upto, points).clamp(max=len(upto) - 1)
