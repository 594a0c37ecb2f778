"""Numbers for states that no formula numbers: all are found once, and looked up by their hash."""

import torch
from torch import Tensor

from gfn_design.environments.base import Environment


def state_hash(states: Tensor) -> Tensor:
    """A hash of each state: ``int64[batch]``, from ``int64[batch, *state_shape]``.

    Two of a million states share one with a probability of about 3e-8.
    """
    slots = states.flatten(1) + 2
    key = torch.zeros(len(slots), dtype=torch.int64, device=slots.device)
    for slot in slots.unbind(1):  # mix the high bits down, multiply, add: wraps around in int64
        key = (key ^ (key >> 29 & 2**35 - 1)) * -0x61C8864680B583EB + slot
    return key ^ (key >> 32 & 2**32 - 1)  # the masks make the shifts fill up with zeros


@torch.no_grad()
def reachable_hashes(environment: Environment, limit: int) -> Tensor | None:
    """The hashes of all states in rising order, None where there are more than `limit`.

    Gives up as soon as that is certain, so that it is cheap to ask of large environments.
    """
    layer = environment.initial(1)
    known = state_hash(layer)
    while len(layer):
        legal = environment.legal(layer)[:, : environment.n_moves]
        if int(legal.sum()) > limit * environment.n_backward_actions:  # so many ways in
            return None
        row, action = legal.nonzero(as_tuple=True)
        children = environment.step(layer[row], action)[0]
        hashes, place = state_hash(children).unique(return_inverse=True)
        rows = torch.arange(len(place), device=place.device)
        children = children[torch.empty_like(hashes).scatter_(0, place, rows)]
        new = ~torch.isin(hashes, known)
        layer, known = children[new], torch.cat([known, hashes[new]])
        if len(known) > limit:
            return None
    return known.sort().values


class Enumerated(Environment):
    """An environment that finds all its states by walking, where they are few.

    A subclass calls `number_states` at the end of its constructor.
    """

    hashes: Tensor

    def number_states(self, limit: int) -> None:
        """Number the states, if there are at most `limit`: sets `n_states`."""
        hashes = reachable_hashes(self, limit) if limit else None
        self.n_states = None if hashes is None else len(hashes)
        none = torch.zeros(0, dtype=torch.int64)
        self.register_buffer("hashes", none if hashes is None else hashes, persistent=False)

    def state_index(self, states: Tensor) -> Tensor:
        if self.n_states is None:
            return super().state_index(states)
        return torch.searchsorted(self.hashes, state_hash(states))
