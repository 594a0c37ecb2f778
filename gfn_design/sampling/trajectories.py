"""Trajectories: how they are stored, drawn and scored.

Dimension 0 is the batch, dimension 1 is time. A trajectory is always stored from the source to
its object, however it was drawn. `alive` says where a step is real; elsewhere is padding.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

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
    return (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(-1)


BLOCK = 8  # steps between two looks at how many trajectories have stopped


def walk(
    environment: Environment, policy: Policy, state: Tensor, going: Tensor, uniform: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Take a few steps forward; a trajectory that stops stays where it is.

    What runs depends on nothing but the shapes of the arguments, so it can be compiled.

    Args:
        environment: What is built.
        policy: Its forward policy decides.
        state: ``int64[batch, *state_shape]``.
        going: ``bool[batch]``, which trajectories have not stopped yet.
        uniform: The randomness, ``float[batch, steps]`` in [0, 1).

    Returns:
        The states after each step, the actions, the backward actions undoing them, and which
        trajectories were going before each step and after the last: ``bool[batch, steps + 1]``.
    """
    states, actions, undone, alive = [], [], [], [going]
    for u in uniform.unbind(1):
        action = choose(policy.forward_log_probs(state, environment.legal(state)), u)
        actions.append(action)
        if environment.fixed_length:
            state, undo = environment.step(state, action)
        else:
            going = going & (action != environment.stop)
            after, undo = environment.step(state, action.where(going, 0))
            state = after.where(going.view(-1, *[1] * (state.dim() - 1)), state)
        states.append(state)
        undone.append(undo)
        alive.append(going)
    return (
        torch.stack(states, 1),
        torch.stack(actions, 1),
        torch.stack(undone, 1),
        torch.stack(alive, 1),
    )


@torch.no_grad()
def sample(
    environment: Environment, policy: Policy, uniform: Tensor, walk: Callable[..., Any] = walk
) -> Trajectories:
    """Draw trajectories from the forward policy; their `log_reward` is left at zero.

    Args:
        environment: What is built.
        policy: Its forward policy decides.
        uniform: The randomness, ``float[batch, max_steps]`` in [0, 1); equal numbers give equal
            trajectories.
        walk: The function of that name, or what a compiler made of it.
    """
    n, limit = uniform.shape
    state = objects = environment.initial(n)
    states, actions, undone, alive = [objects[:, None]], [], [], []
    rows = torch.arange(n, device=state.device)  # which trajectories `state` is about
    going = torch.ones_like(rows, dtype=torch.bool)
    for time in range(0, limit, BLOCK):
        after, action, undo, was = walk(
            environment, policy, state, going, uniform[:, time : time + BLOCK]
        )
        state, going, was = after[:, -1], was[:, -1], was[:, :-1]
        if len(rows) < n:  # put these among all
            still = objects[:, None].expand(-1, after.shape[1], *objects.shape[1:])
            after, blank = still.index_copy(0, rows, after), action.new_zeros(n, action.shape[1])
            action, undo = blank.index_copy(0, rows, action), blank.index_copy(0, rows, undo)
            was = blank.bool().index_copy(0, rows, was)
        objects = after[:, -1]
        states.append(after)
        actions.append(action)
        undone.append(undo)
        alive.append(was)
        if not environment.fixed_length:
            left = int(going.sum())
            if not left:
                break
            if 2 * left <= len(rows):  # the others have stopped
                keep = going.nonzero().squeeze(1)
                rows, state, going, uniform = rows[keep], state[keep], going[keep], uniform[keep]
    return _join(environment, states, actions, undone, alive)


def _join(environment: Environment, *parts: list[Tensor]) -> Trajectories:
    """Join blocks of steps, cut off what is padding everywhere, and blank what is no action."""
    states, actions, undone, alive = (torch.cat(part, 1) for part in parts)
    if not environment.fixed_length:
        steps = int(alive.any(0).sum())
        states, actions, undone, alive = (
            states[:, : steps + 1],
            actions[:, :steps],
            undone[:, :steps],
            alive[:, :steps],
        )
        actions = actions.where(alive, 0)
        undone = undone.where(alive & (actions != environment.stop), 0)
    return Trajectories(
        states, actions, undone, alive, torch.zeros(len(states), device=states.device)
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


def distinct(environment: Environment, states: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Each state once, where that is cheap to find out; so that a network sees it once.

    Early states of many trajectories are equal. On a GPU, which would have to wait for their
    number, and where states are not numbered, every real state is its own.

    Args:
        environment: Numbers the states.
        states: ``int64[batch, times, *state_shape]``.
        real: ``bool[batch, times]``; others need not be among what is returned.

    Returns:
        The states, ``int64[n, *state_shape]``, and where in them each state of the batch is,
        ``int64[batch, times]``; anywhere, where not real.
    """
    every = states.flatten(0, 1)
    if environment.n_states is not None and every.device.type == "cpu":
        if not environment.fixed_length:  # padding may hold anything
            blank = ~real.reshape(-1, *[1] * (every.dim() - 1))
            every = environment.initial(1).where(blank, every)
        keys, where = environment.state_index(every).unique(return_inverse=True)
        row = torch.arange(len(every))
        some = torch.empty_like(keys).scatter_(0, where, row)  # whichever of equals comes last
        return every[some], where.view(real.shape)
    if environment.fixed_length:  # all are real
        return every, torch.arange(len(every), device=every.device).view(real.shape)
    where = (real.flatten().cumsum(0) - 1).clamp(min=0)
    return every[real.flatten()], where.view(real.shape)


def score(environment: Environment, policy: Policy, trajectories: Trajectories) -> Scored:
    """Log-probabilities and values along trajectories under the present policy, with gradients.

    Padding never reaches a network.
    """
    states, actions, backward_actions, alive, log_reward = trajectories
    moves = alive & (actions != environment.stop)
    if policy.shared:  # one evaluation of every state for both policies
        real = torch.cat([alive[:, :1], moves], 1)
        seen, where = distinct(environment, states, real)
        left, left_at, entered_at = seen, where[:, :-1], where[:, 1:]
        pf, pb = policy.log_probs(seen, environment.legal(seen), environment.legal_backward(seen))
    else:
        left, left_at = distinct(environment, states[:, :-1], alive)
        pf = policy.forward_log_probs(left, environment.legal(left))
        entered, entered_at = distinct(environment, states[:, 1:], moves)
        pb = policy.backward_log_probs(entered, environment.legal_backward(entered))
    value = policy.value(left)
    goes_on = torch.cat([alive[:, 1:], torch.zeros_like(alive[:, :1])], dim=1)
    return Scored(
        log_pf=_pick(pf, left_at, actions, alive),
        log_pb=_pick(pb, entered_at, backward_actions, moves),
        value=torch.zeros_like(log_reward)[:, None].expand(alive.shape)
        if value is None
        else _pick(value.float()[:, None], left_at, torch.zeros_like(actions), alive),
        alive=alive,
        stops=alive & ~goes_on,
        log_reward=log_reward,
    )


def _pick(table: Tensor, rows: Tensor, columns: Tensor, real: Tensor) -> Tensor:
    """``table[rows, columns]``, 0 where not real; `gather` has the cheaper gradient."""
    picked = table.flatten().gather(0, (rows * table.shape[1] + columns).flatten())
    return picked.view(real.shape).where(real, 0)
