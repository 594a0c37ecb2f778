"""Trajectories: how they are stored, and what is known along them.

Dimension 0 is the batch, dimension 1 is time. A trajectory is always stored from the source to
its object, however it was drawn. `alive` says where a step is real; elsewhere is padding.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LogRewardFunction = Callable[[Tensor], Tensor]  # log R of objects, in nats


class Trajectories(NamedTuple):
    """A batch of complete trajectories, padded at the end to the longest one.

    Attributes:
        states: ``int64[batch, steps + 1, *state_shape]``; the object fills the padding.
        actions: ``int64[batch, steps]``; step t leads from ``states[:, t]`` to the next.
        backward_actions: ``int64[batch, steps]``, undoing them; 0 at a stop and in padding.
        alive: ``bool[batch, steps]``, where a step is taken.
        log_reward: ``float[batch]``, log R of the objects, in nats; less `Environment.log_copies`
            in what is learned from.
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
        log_pb: log P_B of the backward action undoing it; 0 at a stop. Of a policy with a prior,
            the prior's log P_F of each action.
        value: The critic's value of the state each step leaves; zeros without a critic.
        alive: Where a step is taken.
        stops: The last step of each trajectory, at which its reward is paid.
        moves: Where a step leads to another state, that is does not stop.
        log_reward: ``[batch]``, log R of the objects.
        backward_value: The backward critic's value of the state each step enters, 0 at a stop.
        log_policy: ``[batch, steps, n_actions]``, log P_F of all actions; None if nobody asked.
        log_reward_at: ``[batch, steps]``, log R of the state each step leaves; None if nobody
            asked.
        log_guide: ``[batch, steps]``, log P_G of each step; None without a guide.
        edges: See `edge_flows`; None if nobody asked.
        weight: ``[batch, steps]``, how much the error of each step counts, where steps of a
            `PrioritizedReplay` are among them; None is 1.
    """

    log_pf: Tensor
    log_pb: Tensor
    value: Tensor
    alive: Tensor
    stops: Tensor
    moves: Tensor
    log_reward: Tensor
    backward_value: Tensor | None = None
    log_policy: Tensor | None = None
    log_reward_at: Tensor | None = None
    log_guide: Tensor | None = None
    edges: Tensor | None = None
    weight: Tensor | None = None

    def detach(self) -> "Scored":
        """The same numbers as constants."""
        return Scored._make(x if x is None else x.detach() for x in self)


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
