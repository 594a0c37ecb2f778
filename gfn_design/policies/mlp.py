"""Multilayer perceptrons over integer states."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfn_design.environments.base import Environment

ONE_HOT_LIMIT = 96  # columns up to which a one-hot product is faster than an embedding sum


class SlotEmbedding(nn.Module):
    """One-hot encoding of every slot times a matrix, without storing zeros; blanks add nothing.

    Args:
        slot_sizes: Values each slot of the flattened state can take.
        width: Numbers in the output.
    """

    offsets: Tensor

    def __init__(self, slot_sizes: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.columns = sum(slot_sizes)
        starts = torch.tensor((0, *slot_sizes[:-1])).cumsum(0)
        self.register_buffer("offsets", starts, persistent=False)
        # The last row is what a blank slot points at: zero, and without a gradient.
        bound = 1 / math.sqrt(self.columns)  # as nn.Linear begins
        weight = torch.empty(self.columns + 1, width).uniform_(-bound, bound)
        weight[-1] = 0
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))

    def forward(self, states: Tensor) -> Tensor:
        """``int64[batch, *state_shape]`` to ``float[batch, width]``."""
        slots = states.flatten(1)
        rows = (slots + self.offsets).masked_fill(slots < 0, self.columns)
        if self.columns > ONE_HOT_LIMIT:
            summed = F.embedding_bag(rows, self.weight, mode="sum", padding_idx=self.columns)
            return summed + self.bias
        one_hot = self.weight.new_zeros(len(slots), self.columns + 1).scatter_(1, rows, 1.0)
        return torch.addmm(self.bias, one_hot[:, :-1], self.weight[:-1])


class MLP(nn.Sequential):
    """`depth` hidden layers of `width` rectified units over the slots of a state.

    Args:
        environment: Whose states are read.
        outputs: Numbers given for each state.
        width: Units in each hidden layer.
        depth: Hidden layers, at least 1.
    """

    def __init__(
        self, environment: Environment, outputs: int, width: int = 256, depth: int = 4
    ) -> None:
        layers: list[nn.Module] = [SlotEmbedding(environment.slot_sizes, width), nn.ReLU()]
        for _ in range(depth - 1):
            layers += [nn.Linear(width, width), nn.ReLU()]
        super().__init__(*layers, nn.Linear(width, outputs))
