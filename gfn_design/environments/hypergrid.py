"""A grid walked from one corner: many paths to each cell, and everything known exactly."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.errors import InputError


class Hypergrid(Environment):
    """Cells of a `ndim`-dimensional grid of side `height` (Bengio et al. 2021).

    A state is the cell's coordinates. Action j adds one to coordinate j; the last action stops,
    which is allowed everywhere, so every cell is an object.

    Args:
        ndim: Number of coordinates.
        height: Cells along each coordinate, at least 2.
    """

    moves: Tensor
    strides: Tensor

    def __init__(self, ndim: int = 2, height: int = 8) -> None:
        super().__init__()
        if ndim < 1 or height < 2:
            raise InputError(f"expected ndim >= 1 and height >= 2, got {ndim} and {height}")
        self.ndim, self.height = ndim, height
        self.n_actions, self.n_backward_actions = ndim + 1, ndim
        self.max_steps = ndim * (height - 1) + 1
        self.slot_sizes = (height,) * ndim
        self.n_states = height**ndim if height**ndim < 2**62 else None
        strides = [height**j if height**j < 2**62 else 0 for j in reversed(range(ndim))]
        self.register_buffer("moves", torch.eye(ndim, dtype=torch.int64), persistent=False)
        self.register_buffer("strides", torch.tensor(strides), persistent=False)

    def extra_repr(self) -> str:
        return f"ndim={self.ndim}, height={self.height}"

    def initial(self, n: int) -> Tensor:
        return torch.zeros(n, self.ndim, dtype=torch.int64, device=self.moves.device)

    def legal(self, states: Tensor) -> Tensor:
        grow = states < self.height - 1
        return torch.cat([grow, torch.ones_like(grow[:, :1])], dim=1)

    def legal_backward(self, states: Tensor) -> Tensor:
        return states > 0

    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        return states + self.moves[actions], actions

    def backward_step(self, states: Tensor, backward_actions: Tensor) -> tuple[Tensor, Tensor]:
        return states - self.moves[backward_actions], backward_actions

    def log_ways(self, states: Tensor) -> Tensor:
        steps = states.double()
        return (steps.sum(-1) + 1).lgamma() - (steps + 1).lgamma().sum(-1)

    def decode(self, states: Tensor) -> list[str]:
        return [",".join(map(str, cell)) for cell in states.tolist()]

    def encode(self, texts: Sequence[str]) -> Tensor:
        cells = []
        for text in texts:
            parts = text.split(",")
            if not all(part.strip().isdecimal() for part in parts) or len(parts) != self.ndim:
                raise InputError(f"'{text}' is no cell: expected {self.ndim} numbers, as in '0,1'")
            cells.append([int(part) for part in parts])
            if max(cells[-1]) >= self.height:
                raise InputError(f"'{text}' is no cell: coordinates end at {self.height - 1}")
        return torch.tensor(cells, dtype=torch.int64, device=self.moves.device).view(-1, self.ndim)

    def state_index(self, states: Tensor) -> Tensor:
        return (states * self.strides).sum(-1)
