"""What a policy says of trajectories, however they were drawn."""

from typing import Protocol

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.policies.policy import Policy
from gfn_design.sampling.distinct_states import distinct
from gfn_design.sampling.rollout import Sampler, keep
from gfn_design.sampling.trajectories import Scored, Trajectories


class Scorer(Sampler, Protocol):
    """What is asked about trajectories: a policy, or what stands in its place."""

    @property
    def prior(self) -> Sampler | None:
        """Whose log P_F takes the place of log P_B, if there is one."""

    def backward_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """log P_B of every backward action: ``float[batch, n_backward_actions]``."""

    def value(self, states: Tensor) -> Tensor | None:
        """See `Policy.value`."""

    def backward_value(self, states: Tensor) -> Tensor | None:
        """See `Policy.backward_value`."""


def score(
    environment: Environment,
    policy: Scorer,
    trajectories: Trajectories,
    all_actions: bool = False,
    relative: bool = True,
) -> Scored:
    """Log-probabilities and values along trajectories under the present policy, with gradients.

    Args:
        environment: What is built.
        policy: Whose probabilities are asked.
        trajectories: However they were drawn.
        all_actions: Also give ``Scored.log_policy``.
        relative: Where the policy has a prior, ``Scored.log_pb`` is the prior's log P_F, by which
            every condition of balance, log P_F = log P_B + log R - log Z over a trajectory, asks
            for prior times reward (Venkatraman et al. 2024, relative trajectory balance).
    """
    states, actions, undoing, alive, log_reward = trajectories
    moves = alive & (actions != environment.stop)
    prior = policy.prior if relative else None

    def along(values: Tensor, real: Tensor) -> Tensor:
        """One value for each real step, zeros elsewhere: padding never reaches a network."""
        return values.new_zeros(alive.shape).masked_scatter(real, values)

    left, entered = states[:, :-1][alive], states[:, 1:][moves]
    leaving, entering = keep(policy, alive.nonzero()[:, 0]), keep(policy, moves.nonzero()[:, 0])
    legal = environment.legal(left)
    log_policy = leaving.forward_log_probs(left, legal)
    log_pf = along(log_policy.gather(1, actions[alive][:, None])[:, 0], alive)
    if prior is None:
        of_all = entering.backward_log_probs(entered, environment.legal_backward(entered))
        log_pb = along(of_all.gather(1, undoing[moves][:, None])[:, 0], moves)
    else:
        of_all = prior.forward_log_probs(left, legal)
        log_pb = along(of_all.gather(1, actions[alive][:, None])[:, 0], alive)
    value, back_value = leaving.value(left), entering.backward_value(entered)
    goes_on = torch.cat([alive[:, 1:], torch.zeros_like(alive[:, :1])], 1)
    whole = log_policy.new_zeros(*alive.shape, log_policy.shape[1])
    return Scored(
        log_pf,
        log_pb,
        value=log_pf.new_zeros(alive.shape) if value is None else along(value.float(), alive),
        alive=alive,
        stops=alive & ~goes_on,
        moves=moves,
        log_reward=log_reward,
        backward_value=None if back_value is None else along(back_value.float(), moves),
        log_policy=whole.masked_scatter(alive[..., None], log_policy) if all_actions else None,
    )


def edge_flows(environment: Environment, policy: Policy, trajectories: Trajectories) -> Tensor:
    """Log flows, where the forward policy's logits are log flows of edges: ``[3, batch, steps]``.

    Of the edge that each step takes; into the state that it enters, over all its parents; and out
    of that state, a stop included (-inf where there is no way on). The latter two are 0 at a stop.
    """
    states, actions, _, alive, _ = trajectories
    moves = alive if environment.fixed_length else alive & (actions != environment.stop)
    left, left_at = distinct(environment, states[:, :-1], alive)
    logits = policy.forward_logits(left).float().where(environment.legal(left), -torch.inf)
    taken = picked(logits, left_at, actions).where(alive, 0)
    entered, entered_at = distinct(environment, states[:, 1:], moves)
    logits = policy.forward_logits(entered).float().where(environment.legal(entered), -torch.inf)
    out = along(logits.logsumexp(1), entered_at).where(moves, 0)
    row, undo = environment.legal_backward(entered).nonzero(as_tuple=True)
    parent, action = environment.backward_step(entered[row], undo)
    edge = policy.forward_logits(parent).float().gather(1, action[:, None])[:, 0]
    table = edge.new_full((len(entered), environment.n_backward_actions), -torch.inf)
    into = table.index_put((row, undo), edge).logsumexp(1)
    return torch.stack([taken, along(into, entered_at).where(moves, 0), out])


def along(values: Tensor, rows: Tensor) -> Tensor:
    """The value of the state at each step, of values of states and the states' rows."""
    return values.float().gather(0, rows.flatten()).view(rows.shape)


def picked(table: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``table[rows, columns]``; `gather` has the cheaper gradient."""
    flat = (rows * table.shape[1] + columns).flatten()
    return table.flatten().gather(0, flat).view(rows.shape)
