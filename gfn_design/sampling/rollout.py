"""Trajectories drawn from a policy: forwards from the source, and backwards from objects."""

from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.policies.policy import Policy
from gfn_design.sampling.trajectories import Trajectories
from gfn_design.tensors import where_rows


class Sampler(Protocol):
    """What draws trajectories: a policy, or what stands in its place, as one that explores."""

    def forward_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """log P_F of every action: ``float[batch, n_actions]``, -inf where not `legal`."""


@runtime_checkable
class HasRows(Protocol):
    """What stands in a policy's place and holds something for each row that it is asked about."""

    def keep(self, rows: Tensor) -> Any:
        """The same of some of the rows, ``int64[n]``."""


P = TypeVar("P")


def keep(policy: P, rows: Tensor) -> P:
    """What answers for some of the rows, or for the same ones several times."""
    return policy.keep(rows) if isinstance(policy, HasRows) else policy


def choose(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """Draw one action per row by inverting the distribution function: ``int64[batch]``.

    What may not be chosen never is. Of a row of NaNs, as a broken network gives, it is the first
    action that may.

    Args:
        log_probs: ``[batch, actions]``, -inf for what may not be chosen.
        uniform: ``[batch]``, in [0, 1).
    """
    cumulative = log_probs.exp().cumsum(-1)
    upper = (uniform[:, None] * cumulative[:, -1:]).nan_to_num(0.0)
    return (cumulative <= upper).sum(-1)


@torch.no_grad()
def sample(
    environment: Environment, policy: Sampler, uniform: Tensor, start: Tensor | None = None
) -> Trajectories:
    """Draw trajectories from the forward policy; their `log_reward` is left at zero.

    Args:
        environment: What is built.
        policy: Its forward policy decides.
        uniform: The randomness, ``float[batch, max_steps]`` in [0, 1); equal numbers give equal
            trajectories.
        start: The states to begin from, ``int64[batch, *state_shape]``; None is the source.
    """
    state = environment.initial(len(uniform)) if start is None else start
    going = torch.ones_like(uniform[:, 0], dtype=torch.bool)
    states, actions, undoing, alive = [state], [], [], []
    for u in uniform.unbind(1):
        if not going.any():
            break
        alive.append(going)
        log_probs = policy.forward_log_probs(state, environment.legal(state))
        action = choose(log_probs, u).where(going, 0)
        moves = going & (action != environment.stop)
        after, undo = environment.step(state, action.where(moves, 0))
        state = where_rows(moves, after, state)
        states.append(state)
        actions.append(action)
        undoing.append(undo.where(moves, 0))
        going = going if environment.fixed_length else moves
    along = (torch.stack(x, 1) for x in (states, actions, undoing, alive))
    nothing = torch.zeros_like(uniform[:, 0])
    return Trajectories._make((*along, nothing))


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
    n, state = len(objects), objects.clone()
    visited: list[Tensor] = [state]
    undone: list[Tensor] = []
    redo: list[Tensor] = []
    if environment.fixed_length:  # all walk equally far
        for u in uniform.unbind(1):
            undo = choose(policy.backward_log_probs(state, environment.legal_backward(state)), u)
            state, action = environment.backward_step(state, undo)
            visited.append(state)
            undone.append(undo)
            redo.append(action)
        states, actions, backward_actions = (
            torch.stack(x[::-1], 1) for x in (visited, redo, undone)
        )
        alive = torch.ones_like(actions, dtype=torch.bool)
        log_reward = torch.zeros(n, device=state.device)
        return Trajectories(states, actions, backward_actions, alive, log_reward)
    walking = environment.legal_backward(state).any(-1)
    length = torch.zeros(n, dtype=torch.int64, device=state.device)
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
    moves = len(undone)
    steps = moves + 1
    time = torch.arange(steps + 1, device=state.device)
    back = (length[:, None] - time).clamp(min=0)  # states: 0 steps back from the object in padding
    row = torch.arange(n, device=state.device)[:, None]
    states = torch.stack(visited, 1)[row, back]
    built = time[:-1] < length[:, None]
    edge = (length[:, None] - 1 - time[:-1]).clamp(min=0)
    pick = [torch.stack(x, 1)[row, edge] if x else back[:, :-1] for x in (redo, undone)]
    actions = pick[0].masked_fill(~built, 0)
    backward_actions = pick[1].masked_fill(~built, 0)
    alive = time[:-1] <= length[:, None]
    actions = actions.masked_fill(alive & ~built, environment.stop)
    log_reward = torch.zeros(n, device=state.device)
    return Trajectories(states, actions, backward_actions, alive, log_reward)
