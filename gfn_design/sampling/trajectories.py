"""Trajectories: how they are stored, drawn and scored.

Dimension 0 is the batch, dimension 1 is time. A trajectory is always stored from the source to
its object, however it was drawn. `alive` says where a step is real; elsewhere is padding.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.policies.policy import Policy


class Trajectories(NamedTuple):
    """A batch of complete trajectories, padded at the end to the longest one.

    Attributes:
        states: ``int64[batch, steps + 1, *state_shape]``; the object fills the padding.
        actions: ``int64[batch, steps]``; step t leads from ``states[:, t]`` to the next.
        backward_actions: ``int64[batch, steps]``, undoing them; 0 at a stop and in padding.
        alive: ``bool[batch, steps]``, where a step is taken.
        log_reward: ``float[batch]``, log R of the objects, in nats.
    """

    states: Tensor
    actions: Tensor
    backward_actions: Tensor
    alive: Tensor
    log_reward: Tensor

    @property
    def objects(self) -> Tensor:
        """The finished states: ``int64[batch, *state_shape]``."""
        return self.states[:, -1]


class Scored(NamedTuple):
    """What an objective sees of trajectories; all that has a time is ``[batch, steps]``.

    `log_pf`, `log_pb` and `value` are exactly 0 where not `alive`, so that sums over time need no
    mask.

    Attributes:
        log_pf: log P_F of each action, in nats.
        log_pb: log P_B of the backward action undoing it; 0 at a stop.
        value: The critic's value of the state each step leaves; zeros without a critic.
        alive: Where a step is taken.
        stops: The last step of each trajectory, at which its reward is paid.
        log_reward: ``[batch]``, log R of the objects.
    """

    log_pf: Tensor
    log_pb: Tensor
    value: Tensor
    alive: Tensor
    stops: Tensor
    log_reward: Tensor

    def detach(self) -> "Scored":
        """The same numbers as constants."""
        return Scored(*(field.detach() for field in self))


def choose(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """Draw one action per row by inverting the distribution function: ``int64[batch]``.

    Args:
        log_probs: ``[batch, actions]``, -inf for what may not be chosen.
        uniform: ``[batch]``, in [0, 1).
    """
    cumulative = log_probs.exp().cumsum(-1)
    reached = cumulative > uniform[:, None] * cumulative[:, -1:]
    return (reached & log_probs.isfinite()).to(torch.uint8).argmax(-1)


@torch.no_grad()
def sample(environment: Environment, policy: Policy, uniform: Tensor) -> Trajectories:
    """Draw trajectories from the forward policy; their `log_reward` is left at zero.

    Args:
        environment: What is built.
        policy: Its forward policy decides.
        uniform: The randomness, ``float[batch, max_steps]`` in [0, 1); equal numbers give equal
            trajectories.
    """
    n, limit = uniform.shape
    state = environment.initial(n)
    states = state.new_zeros(n, limit + 1, *state.shape[1:])
    actions, backward_actions = state.new_zeros(2, n, limit)
    alive = torch.zeros(n, limit, dtype=torch.bool, device=state.device)
    running = torch.arange(n, device=state.device)  # rows that have not stopped
    every = slice(None)
    steps = 0
    while steps < limit and len(running):
        rows = every if environment.fixed_length else running
        here = state[rows]
        action = choose(
            policy.forward_log_probs(here, environment.legal(here)), uniform[rows, steps]
        )
        actions[rows, steps], alive[rows, steps] = action, True
        if not environment.fixed_length:
            goes_on = action != environment.stop
            running, here, action = running[goes_on], here[goes_on], action[goes_on]
            rows = running
        after, undo = environment.step(here, action)
        backward_actions[rows, steps] = undo
        state = after if environment.fixed_length else state.index_copy(0, running, after)
        steps += 1
        states[:, steps] = state
    states[:, 0] = environment.initial(n)
    log_reward = torch.zeros(n, device=state.device)
    return Trajectories(
        states[:, : steps + 1],
        actions[:, :steps],
        backward_actions[:, :steps],
        alive[:, :steps],
        log_reward,
    )


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
    steps = moves + (not environment.fixed_length)
    time = torch.arange(steps + 1, device=state.device)
    back = (length[:, None] - time).clamp(min=0)  # states: 0 steps back from the object in padding
    row = torch.arange(n, device=state.device)[:, None]
    states = torch.stack(visited, 1)[row, back]
    built = time[:-1] < length[:, None]
    edge = (length[:, None] - 1 - time[:-1]).clamp(min=0)
    pick = [torch.stack(x, 1)[row, edge] if x else back[:, :-1] for x in (redo, undone)]
    actions = pick[0].masked_fill(~built, 0)
    backward_actions = pick[1].masked_fill(~built, 0)
    alive = built
    if not environment.fixed_length:
        alive = time[:-1] <= length[:, None]
        actions = actions.masked_fill(alive & ~built, environment.stop)
    log_reward = torch.zeros(n, device=state.device)
    return Trajectories(states, actions, backward_actions, alive, log_reward)


def score(environment: Environment, policy: Policy, trajectories: Trajectories) -> Scored:
    """Log-probabilities and values along trajectories under the present policy, with gradients.

    Only real transitions reach a network: what is not alive is never evaluated.
    """
    states, actions, backward_actions, alive, log_reward = trajectories
    if environment.fixed_length:  # nothing is padding: no look at `alive`, which a GPU waits for
        moves = alive

        def real(x: Tensor, where: Tensor) -> Tensor:
            return x.flatten(0, 1)

        def spread(x: Tensor, where: Tensor) -> Tensor:
            return x.view(where.shape)
    else:
        moves = alive & (actions != environment.stop)

        def real(x: Tensor, where: Tensor) -> Tensor:
            return x[where]

        def spread(x: Tensor, where: Tensor) -> Tensor:
            return x.new_zeros(where.shape).masked_scatter(where, x)

    left, entered = real(states[:, :-1], alive), real(states[:, 1:], moves)
    log_pf = policy.forward_log_probs(left, environment.legal(left))
    log_pf = log_pf.gather(1, real(actions, alive)[:, None]).squeeze(1)
    log_pb = policy.backward_log_probs(entered, environment.legal_backward(entered))
    log_pb = log_pb.gather(1, real(backward_actions, moves)[:, None]).squeeze(1)
    value = policy.value(left)
    goes_on = torch.cat([alive[:, 1:], torch.zeros_like(alive[:, :1])], dim=1)
    return Scored(
        log_pf=spread(log_pf, alive),
        log_pb=spread(log_pb, moves),
        value=torch.zeros_like(log_reward)[:, None].expand(alive.shape)
        if value is None
        else spread(value.float(), alive),
        alive=alive,
        stops=alive & ~goes_on,
        log_reward=log_reward,
    )
