"""Equal states are evaluated once."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gfn_design.environments.base import Environment

FEW = 256  # numbers: to compare with all of more takes longer than to search among them


def one_of_each(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Places of one of each of the equal keys, and which of those every key is equal to."""
    unique, where = keys.unique(return_inverse=True)
    place = torch.arange(len(keys), device=keys.device)
    return torch.empty_like(unique).scatter_(0, where, place), where


class Opening(nn.Module):
    """The states that the first steps of a trajectory can leave, as long as they are few.

    Of many trajectories that begin alike, all answers of a network to the early states are found
    by asking it once for each, in one go.

    Args:
        environment: Numbers its states.
        most: States that a step may leave at most.
        steps: Of a trajectory, at most.

    Attributes:
        states: ``int64[n, *state_shape]``, by ascending number; on the environment's device.
        steps: How many steps leave one of these states and no other.
    """

    states: Tensor
    keys: Tensor

    def __init__(self, environment: Environment, most: int, steps: int) -> None:
        super().__init__()
        layer = environment.initial(1)
        layers: list[Tensor] = []
        while 0 < len(layer) <= most and len(layers) < min(steps, environment.max_steps):
            layers.append(layer)
            legal = environment.legal(layer)[:, : environment.n_moves]
            row, action = legal.nonzero(as_tuple=True)
            after, _ = environment.step(layer[row], action)
            layer = after[one_of_each(environment.state_index(after))[0]]
        self.steps = len(layers)
        states = torch.cat(layers)
        some, _ = one_of_each(environment.state_index(states))
        self.register_buffer("states", states[some], persistent=False)
        self.register_buffer("keys", environment.state_index(states[some]), persistent=False)

    def rows(self, keys: Tensor) -> Tensor:
        """Where in `states` the states with these numbers are."""
        if torch.compiler.is_compiling() and len(self.keys) <= FEW:  # part of the kernels around it
            return (self.keys < keys[..., None]).sum(-1)
        return torch.searchsorted(self.keys, keys)


class Visited(NamedTuple):
    """The states that the steps of trajectories leave and enter, each once.

    Attributes:
        left: ``int64[n, *state_shape]``.
        left_at: ``int64[batch, steps]``, where in `left` the state is that each step leaves.
        entered: ``int64[m, *state_shape]``; of a shared policy the same as `left`, as it is where
            nobody asks about them: there is one backward action, which has probability one.
        entered_at: ``int64[batch, steps]``, where in `entered` the state is that each step enters.
    """

    left: Tensor
    left_at: Tensor
    entered: Tensor
    entered_at: Tensor


def each(states: Tensor) -> tuple[Tensor, Tensor]:
    """Every state of a batch, and where it is; see `distinct`."""
    shape = states.shape[:2]
    return states.flatten(0, 1), torch.arange(shape.numel(), device=states.device).view(shape)


def distinct(
    environment: Environment, states: Tensor, real: Tensor, opening: Opening | None = None
) -> tuple[Tensor, Tensor]:
    """Each state once, where that is cheap to find out; so that a network sees it once.

    With an opening, equal states are found among the first steps alone, and shapes follow from
    shapes. On a GPU, which would have to wait for their number, and where states are not numbered,
    every real state is its own.

    Args:
        environment: Numbers the states.
        states: ``int64[batch, times, *state_shape]``, from the source on.
        real: ``bool[batch, times]``; others need not be among what is returned.
        opening: Of an environment with trajectories of a fixed length.

    Returns:
        The states, ``int64[n, *state_shape]``, and where in them each state of the batch is,
        ``int64[batch, times]``; anywhere, where not real.
    """
    if opening is not None:
        early = states[:, : opening.steps]
        known = opening.rows(environment.state_index(early.flatten(0, 1))).view(early.shape[:2])
        late, own = each(states[:, opening.steps :])
        seen = torch.cat([opening.states, late])
        return seen, torch.cat([known, len(opening.states) + own], 1)
    every = states.flatten(0, 1)
    if environment.n_states is not None and every.device.type == "cpu":
        if not environment.fixed_length:  # padding may hold anything
            blank = ~real.reshape(-1, *[1] * (every.dim() - 1))
            every = environment.initial(1).where(blank, every)
        some, where = one_of_each(environment.state_index(every))
        return every.index_select(0, some), where.view(real.shape)
    if environment.fixed_length:  # all are real
        return each(states)
    where = (real.flatten().cumsum(0) - 1).clamp(min=0)
    some = every[real.flatten()]
    return some if len(some) else every[:1], where.view(real.shape)  # which points at something
