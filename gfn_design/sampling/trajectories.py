"""Trajectories: how they are stored, and how a policy draws them.

Dimension 0 is the batch, dimension 1 is time. A trajectory is always stored from the source to
its object, however it was drawn. `alive` says where a step is real; elsewhere is padding.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.tensors import where_rows

LogRewardFunction = Callable[[Tensor], Tensor]  # log R of objects, in nats


class Trajectories(NamedTuple):
    """A batch of complete trajectories, padded at the end to the longest one.

    Attributes:
        states: ``int64[batch, steps + 1, *state_shape]``; the object fills the padding.
        actions: ``int64[batch, steps]``; step t leads from ``states[:, t]`` to the next.
        backward_actions: ``int64[batch, steps]``, undoing them; 0 at a stop and in padding.
        alive: ``bool[batch, steps]``, where a step is taken.
        log_reward: ``float[batch]``, log R of the objects, in nats; in what is learned from, less
            `Environment.log_states_per_object`.
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

    @property
    def stops(self) -> Tensor:
        """The last step of each, at which its reward is paid: ``bool[batch, steps]``."""
        after = torch.cat([self.alive[:, 1:], torch.zeros_like(self.alive[:, :1])], 1)
        return self.alive & ~after

    def moves(self, environment: Environment) -> Tensor:
        """Where a step leads to another state, that is does not stop: ``bool[batch, steps]``."""
        if environment.fixed_length:
            return self.alive
        return self.alive & (self.actions != environment.stop)


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


def concatenate(first: Trajectories, second: Trajectories) -> Trajectories:
    """The trajectories of two batches in one."""
    steps = max(first.actions.shape[1], second.actions.shape[1])
    parts = []
    for batch in (first, second):
        more = steps - batch.actions.shape[1]
        end = batch.states[:, -1:].expand(-1, more, *batch.states.shape[2:])
        padded = [F.pad(x, (0, more)) for x in batch[1:4]]
        parts.append((torch.cat([batch.states, end], 1), *padded, batch.log_reward))
    return Trajectories(*(torch.cat(pair) for pair in zip(*parts, strict=True)))
