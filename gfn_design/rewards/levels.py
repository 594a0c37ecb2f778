"""Values on a few levels, as far apart as desirabilities are, for an automaton to follow."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gfn_design.errors import InputError
from gfn_design.rewards.desirability import desirability, limits

GRID = 4096  # values that are looked at


class Levels(nn.Module):
    """What values are worth, rounded to levels.

    The desirability of a value is the lesser one of the edges of its level, and 1 where it is as
    wanted. Edges lie where the log of the desirability has changed by equal parts, and exactly at
    the limits of what is wanted: so whether a value is as wanted is never rounded.

    Args:
        want: What is wanted; see `desirability`.
        lowest: The smallest value there is.
        highest: The largest.
        n_levels: About so many.
        minimum: Smaller desirabilities count as this one.

    Attributes:
        edges: ``float64[levels - 1]``, rising; of the second level, the third, ...
        worth: ``float64[levels]``, the desirability of each level.
        hits: ``bool[levels]``, whether its values are as wanted.
    """

    edges: Tensor
    worth: Tensor
    hits: Tensor

    def __init__(
        self, want: str, lowest: float, highest: float, n_levels: int, minimum: float
    ) -> None:
        super().__init__()
        wanted, (low, high) = desirability(want), limits(want)
        if low > highest or high < lowest:
            raise InputError(
                f"want: '{want}' asks for what there is not; values lie from {lowest:.4g} to "
                f"{highest:.4g}"
            )
        grid = np.linspace(lowest, highest, GRID)
        worth = wanted(torch.from_numpy(grid)).clamp(min=minimum).log().numpy()
        change = np.abs(np.diff(worth)).cumsum()
        edges: NDArray[np.float64] = grid[:0]
        if change[-1] > 0:
            parts = np.arange(1, n_levels) / n_levels * change[-1]
            edges = grid[1:][np.searchsorted(change, parts).clip(max=GRID - 2)]
        limit = [x for x in (low, np.nextafter(high, math.inf)) if lowest < x <= highest]
        edges = np.unique(np.concatenate([edges, limit]))
        lower = torch.from_numpy(np.concatenate([[lowest], edges]))
        upper = torch.from_numpy(np.concatenate([edges, [highest]]))
        hits = (lower >= low) & (lower <= high)
        worths = torch.where(hits, wanted(lower), wanted(lower).minimum(wanted(upper)))
        self.register_buffer("edges", lower[1:].clone(), persistent=False)
        self.register_buffer("worth", worths.clamp(min=minimum), persistent=False)
        self.register_buffer("hits", hits, persistent=False)

    def __len__(self) -> int:
        return len(self.worth)

    @property
    def gap(self) -> float:
        """By how much the log of a desirability is rounded down, at most, in nats."""
        return float(self.worth.log().diff().abs().max()) if len(self) > 1 else 0.0

    def of(self, values: Tensor) -> Tensor:
        """The level of each value, ``int64``; 0 is the lowest, and that of what is no value."""
        return torch.bucketize(values.nan_to_num(-torch.inf), self.edges, right=True)

    def forward(self, values: Tensor) -> Tensor:
        """The desirability of values, as their levels have it."""
        return self.worth[self.of(values)]
