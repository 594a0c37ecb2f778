"""What a policy says of trajectories, however they were drawn."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.sampling.trajectories import Sampler, Trajectories, keep


class PolicyLike(Sampler, Protocol):
    """What is asked about trajectories: a policy, or what stands in its place."""

    @property
    def prior(self) -> Sampler | None:
        """Whose log P_F takes the place of log P_B, if there is one."""

    def backward_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """log P_B of every backward action: ``float[batch, n_backward_actions]``."""

    def value(self, states: Tensor) -> Tensor | None:
        """What the objective says states have, in nats: ``float[batch]``; None without a critic."""

    def backward_value(self, states: Tensor) -> Tensor | None:
        """Expected costs back to the source, in nats: ``float[batch]``; None without a critic."""


class StepLogProbs(NamedTuple):
    """What a policy says of trajectories, for objectives; all with a time is ``[batch, steps]``.

    `log_pf`, `log_pb` and `value` are exactly 0 where not `alive`, so that sums over time need no
    mask.

    Attributes:
        log_pf: log P_F of each action, in nats.
        log_pb: log P_B of the backward action undoing it; 0 at a stop. Of a policy with a prior,
            the prior's log P_F of each action.
        value: Of the state each step leaves, by a critic or log F; zeros without either.
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

    def detach(self) -> "StepLogProbs":
        """The same numbers as constants."""
        return StepLogProbs._make(x if x is None else x.detach() for x in self)


def log_probabilities(
    environment: Environment,
    policy: PolicyLike,
    trajectories: Trajectories,
    all_actions: bool = False,
) -> StepLogProbs:
    """Log-probabilities and values along trajectories under the present policy, with gradients.

    Where the policy has a prior, ``log_pb`` is the prior's log P_F, by which every condition of
    balance, log P_F = log P_B + log R - log Z over a trajectory, asks for prior times reward
    (Venkatraman et al. 2024, relative trajectory balance).

    Args:
        environment: What is built.
        policy: Whose probabilities are asked.
        trajectories: However they were drawn.
        all_actions: Also give ``log_policy``.
    """
    states, actions, undoing, alive, log_reward = trajectories
    moves = trajectories.moves(environment)

    def along(values: Tensor | None, real: Tensor) -> Tensor:
        """One value for each real step, zeros elsewhere: padding never reaches a network."""
        nothing = torch.zeros(alive.shape, device=alive.device)
        return nothing if values is None else nothing.to(values).masked_scatter(real, values)

    left, entered = states[:, :-1][alive], states[:, 1:][moves]
    leaving, entering = keep(policy, alive.nonzero()[:, 0]), keep(policy, moves.nonzero()[:, 0])
    legal = environment.legal(left)
    log_policy = leaving.forward_log_probs(left, legal)
    log_pf = along(log_policy.gather(1, actions[alive][:, None])[:, 0], alive)
    if policy.prior is None:
        of_all = entering.backward_log_probs(entered, environment.legal_backward(entered))
        log_pb = along(of_all.gather(1, undoing[moves][:, None])[:, 0], moves)
    else:
        of_all = policy.prior.forward_log_probs(left, legal)
        log_pb = along(of_all.gather(1, actions[alive][:, None])[:, 0], alive)
    value, back_value = leaving.value(left), entering.backward_value(entered)
    whole = log_policy.new_zeros(*alive.shape, log_policy.shape[1])
    return StepLogProbs(
        log_pf,
        log_pb,
        along(None if value is None else value.float(), alive),
        alive,
        trajectories.stops,
        moves,
        log_reward,
        None if back_value is None else along(back_value.float(), moves),
        whole.masked_scatter(alive[..., None], log_policy) if all_actions else None,
    )
