"""Networks over patterns: what stands in adjacent slots."""

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.policies.mlp import Layer


class Patterns(nn.Module):
    """Numbers the patterns of a state: what stands in each window of adjacent slots.

    A window is a run of 1 to `longest` slots of the flattened state. A pattern in one window is
    another than the same symbols in another window, and a window with a blank slot has none.
    Those of short windows come first.

    Args:
        slot_sizes: Values each slot of the flattened state can take.
        longest: Slots of the longest window.

    Attributes:
        windows: How many windows have at most so many slots, by that number.
        count: Above all numbers of patterns in them, likewise; 0 is no pattern.
    """

    sizes: Tensor
    first: Tensor

    def __init__(self, slot_sizes: tuple[int, ...], longest: int) -> None:
        super().__init__()
        self.windows, self.count, first = [0], [1], []
        for size in range(1, min(longest, len(slot_sizes)) + 1):
            count = self.count[-1]
            for start in range(len(slot_sizes) - size + 1):
                first.append(count)
                count += prod(slot_sizes[start : start + size])
            self.windows.append(len(first))
            self.count.append(count)
        self.register_buffer("sizes", torch.tensor(slot_sizes), persistent=False)
        self.register_buffer("first", torch.tensor(first), persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """The pattern in every window: ``int64[batch, windows]``, 0 where a slot is blank."""
        slots = states.flatten(1)
        code, whole = slots, slots >= 0
        codes, filled = [code], [whole]
        for size in range(2, len(self.windows)):  # with one slot more at the end
            last = slots[:, size - 1 :]
            code = code[:, :-1] * self.sizes[size - 1 :] + last
            whole = whole[:, :-1] & (last >= 0)
            codes.append(code)
            filled.append(whole)
        return (torch.cat(codes, 1) + self.first).where(torch.cat(filled, 1), 0)


class PatternMLP(nn.Module):
    """`depth` hidden layers of `width` rectified units over the patterns of a state.

    The first layer adds up a vector for every pattern of up to `longest` adjacent slots, so that
    what lies side by side on a string need not be put together by later layers. With `table`,
    every pattern of up to so many slots also has outputs of its own, zero at first, which are
    added to those of the layers: the layers then say what is alike, and the table what is not
    (wide and deep learning, Cheng et al. 2016). Both have a row for each pattern: of DNA 8-mers
    there are 528 of up to 3 slots, and 50,960 of up to 7.

    Args:
        environment: Whose states are read.
        outputs: Numbers given for each state.
        width: Units in each hidden layer.
        depth: Hidden layers, at least 1.
        longest: Slots of the longest pattern that the layers read, at least 1.
        table: Slots of the longest pattern with outputs of its own; 0 for no table.
        table_rate: What the table gives is multiplied by this, which with Adam is its learning
            rate over that of the layers.
    """

    def __init__(
        self,
        environment: Environment,
        outputs: int,
        width: int = 256,
        depth: int = 2,
        longest: int = 3,
        table: int = 0,
        table_rate: float = 10.0,
    ) -> None:
        super().__init__()
        if longest < 1 or table < 0:
            given = f"{longest} and {table}"
            raise InputError(f"longest must be at least 1 and table not negative, got {given}")
        sizes = environment.slot_sizes
        longest, table = min(longest, len(sizes)), min(table, len(sizes))
        self.patterns = Patterns(sizes, max(longest, table))
        self.read, self.table_rate = self.patterns.windows[longest], table_rate
        self.embedding = _Rows(self.patterns.count[longest], width)
        self.bias = nn.Parameter(torch.zeros(width))
        bound = sum(sizes) ** -0.5  # as an MLP begins
        nn.init.uniform_(self.embedding.weight[1:], -bound, bound)
        self.table = _Rows(self.patterns.count[table], outputs) if table else None
        self.known = self.patterns.windows[table]
        widths = [width] * (depth - 1) + [outputs]
        self.layers = nn.ModuleList(Layer(width, after) for after in widths)

    def forward(self, states: Tensor) -> Tensor:
        """``int64[batch, *state_shape]`` to ``float[batch, outputs]``."""
        rows = self.patterns(states)
        x = self.embedding(rows[:, : self.read]) + self.bias
        for layer in self.layers:
            x = layer(x.relu())
        if self.table is None:
            return x
        return x + self.table_rate * self.table(rows[:, : self.known])


class _Rows(nn.Module):
    """Adds up rows of a matrix that begins at zero; row 0 stays there."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rows, width))

    def forward(self, rows: Tensor) -> Tensor:
        return F.embedding_bag(rows, self.weight, mode="sum", padding_idx=0)
