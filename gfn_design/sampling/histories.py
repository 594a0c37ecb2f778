"""Histories of objects, drawn from the backward policy."""

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.policies.policy import Policy
from gfn_design.sampling.trajectories import Trajectories, choose


@torch.no_grad()
def sample_backward(
    environment: Environment, policy: Policy, objects: Tensor, uniform: Tensor
) -> Trajectories:
    """Draw a history of each object from the backward policy, stored from the source on.

    Args:
        environment: What is built.
        policy: Its backward policy decides.
        objects: ``int64[batch, *state_shape]``.
        uniform: The randomness, ``float[batch, max_steps]`` in [0, 1).
    """
    row = torch.arange(len(objects), device=objects.device)
    state, length = objects.clone(), torch.zeros_like(row)
    visited: list[Tensor] = [state]
    undone: list[Tensor] = []
    redo: list[Tensor] = []
    walking = environment.legal_backward(state).any(-1)
    while walking.any():
        rows = walking.nonzero().squeeze(1)
        here = state[rows]
        legal = environment.legal_backward(here)
        undo = choose(policy.backward_log_probs(here, legal), uniform[rows, len(undone)])
        before, action = environment.backward_step(here, undo)
        state = state.index_copy(0, rows, before)
        undone.append(torch.zeros_like(length).index_copy(0, rows, undo))
        redo.append(torch.zeros_like(length).index_copy(0, rows, action))
        visited.append(state)
        length = length + walking
        walking = environment.legal_backward(state).any(-1)
    # Turn time round: what was undone in step k of m was done in step m - 1 - k.
    stops = 0 if environment.fixed_length else 1
    time = torch.arange(len(undone) + stops + 1, device=state.device)
    back = (length[:, None] - time).clamp(min=0)  # states: 0 steps back from the object in padding
    states = torch.stack(visited, 1)[row[:, None], back]
    built = time[:-1] < length[:, None]
    edge = (length[:, None] - 1 - time[:-1]).clamp(min=0)
    pick = [torch.stack(x, 1)[row[:, None], edge] if x else back[:, :-1] for x in (redo, undone)]
    actions = pick[0].masked_fill(~built, 0)
    backward_actions = pick[1].masked_fill(~built, 0)
    alive = time[:-1] < length[:, None] + stops
    actions = actions.masked_fill(alive & ~built, environment.stop)
    return Trajectories(
        states, actions, backward_actions, alive, torch.zeros(len(row), device=state.device)
    )
