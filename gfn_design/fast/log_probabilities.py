"""Log-probabilities with one answer for each distinct state, and none that is known already."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.fast.early_states import EarlyStates
from gfn_design.fast.prefixes import log_probabilities as of_prefixes
from gfn_design.fast.prefixes import reads_prefixes
from gfn_design.fast.recorded_layers import recorded_log_probs
from gfn_design.policies.policy import Policy
from gfn_design.sampling.distinct_states import at_steps, distinct, every_visit, picked
from gfn_design.sampling.exploration import FollowsMember
from gfn_design.sampling.log_probabilities import PolicyLike, StepLogProbs
from gfn_design.sampling.trajectories import Trajectories


class DistinctStates(NamedTuple):
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


def distinct_states(
    environment: Environment,
    shared: bool,
    trajectories: Trajectories,
    early: EarlyStates | None = None,
) -> DistinctStates:
    """The states that trajectories meet, each as often as the policy must be asked about it.

    Args:
        environment: What is built.
        shared: Whether one evaluation of a state gives both policies.
        trajectories: However they were drawn.
        early: Of trajectories of a fixed length, find equal states among the first steps alone; so
            that shapes follow from shapes, as in a compiled graph they must.
    """
    states, alive = trajectories.states, trajectories.alive
    moves = trajectories.moves(environment)
    if shared:  # one evaluation of every state for both policies
        real = torch.cat([alive[:, :1], moves], 1)
        some, where = _distinct(environment, states, real, early)
        return DistinctStates(some, where[:, :-1], some, where[:, 1:])
    left, left_at = _distinct(environment, states[:, :-1], alive, early)
    if environment.n_backward_actions == 1:
        return DistinctStates(left, left_at, left, left_at)
    if early is None:
        return DistinctStates(left, left_at, *_cheaply(environment, states[:, 1:], moves))
    return DistinctStates(left, left_at, *each(states[:, 1:]))


def each(states: Tensor) -> tuple[Tensor, Tensor]:
    """Every state of a batch, and where it is; see `distinct`."""
    shape = states.shape[:2]
    return states.flatten(0, 1), torch.arange(shape.numel(), device=states.device).view(shape)


def _cheaply(environment: Environment, states: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """`distinct`, but for a GPU, which would have to wait for the number of states."""
    if environment.n_states is not None and states.device.type == "cpu":
        return distinct(environment, states, real)
    return each(states) if environment.fixed_length else every_visit(states, real)


def _distinct(
    environment: Environment, states: Tensor, real: Tensor, early: EarlyStates | None
) -> tuple[Tensor, Tensor]:
    if early is None:
        return _cheaply(environment, states, real)
    first = states[:, : early.steps]
    known = early.rows(environment.state_index(first.flatten(0, 1))).view(first.shape[:2])
    late, own = each(states[:, early.steps :])
    seen = torch.cat([early.states, late])
    return seen, torch.cat([known, len(early.states) + own], 1)


def log_probabilities(
    environment: Environment,
    policy: PolicyLike,
    trajectories: Trajectories,
    all_actions: bool = False,
    early: EarlyStates | None = None,
    states: DistinctStates | None = None,
    recorded: Sequence[Tensor] | None = None,
) -> StepLogProbs:
    """As `gfn_design.sampling.log_probabilities.log_probabilities`.

    Args:
        environment: What is built.
        policy: Whose probabilities are asked.
        trajectories: However they were drawn.
        all_actions: Also give ``log_policy``.
        early: See `distinct_states`.
        states: What that says of these trajectories, where it is known.
        recorded: What each layer of the forward policy, an `MLP`, gave of the distinct states that
            are left; nothing of it is found again.
    """
    if reads_prefixes(policy) and states is None:
        return of_prefixes(environment, cast(Policy, policy), trajectories, all_actions)
    actions, alive = trajectories.actions, trajectories.alive
    shared = isinstance(policy, Policy) and policy.shared
    if states is None:
        states = distinct_states(environment, shared, trajectories, early)
    left, left_at, entered, entered_at = states
    legal, prior = environment.legal(left), policy.prior
    log_pb: Tensor | None = None
    if shared:
        pf, pb = _both(cast(Policy, policy), environment, left, legal, recorded)
        if prior is None:
            log_pb = picked(pb, entered_at, trajectories.backward_actions)
    else:
        pf = _forward(policy, left, legal, recorded)
    chosen_from = left_at
    if isinstance(policy, FollowsMember):
        members = pf.shape[1]
        pf, chosen_from = pf.flatten(0, 1), left_at * members + policy.member[:, None]
    log_pf = picked(pf, chosen_from, actions)
    if prior is not None:
        log_pb = picked(prior.forward_log_probs(left, legal), left_at, actions)
    elif log_pb is None:
        log_pb = torch.zeros_like(log_pf)
        if environment.n_backward_actions > 1:
            of_all = policy.backward_log_probs(entered, environment.legal_backward(entered))
            log_pb = picked(of_all, entered_at, trajectories.backward_actions)
    moves = trajectories.moves(environment)
    return StepLogProbs(
        log_pf.where(alive, 0),
        log_pb.where(moves if prior is None else alive, 0),
        _values(policy.value(left), left_at, alive),
        alive,
        trajectories.stops,
        moves,
        trajectories.log_reward,
        _or_none(policy.backward_value(entered), entered_at, moves),
        pf[chosen_from] if all_actions else None,
    )


def _values(of_states: Tensor | None, at: Tensor, real: Tensor) -> Tensor:
    """Values along trajectories, zeros without any."""
    found = _or_none(of_states, at, real)
    return torch.zeros_like(real, dtype=torch.float32) if found is None else found


def _or_none(of_states: Tensor | None, at: Tensor, real: Tensor) -> Tensor | None:
    return None if of_states is None else at_steps(of_states, at).where(real, 0)


def _forward(
    policy: PolicyLike, states: Tensor, legal: Tensor, recorded: Sequence[Tensor] | None
) -> Tensor:
    if isinstance(policy, FollowsMember):
        return policy.policy.member_log_probs(states, legal)
    if recorded is not None:
        return recorded_log_probs(cast(Policy, policy), states, recorded, legal)[0]
    return policy.forward_log_probs(states, legal)


def _both(
    policy: Policy,
    environment: Environment,
    states: Tensor,
    legal: Tensor,
    recorded: Sequence[Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """log P_F and log P_B of one evaluation."""
    legal_backward = environment.legal_backward(states)
    if recorded is not None:
        return recorded_log_probs(policy, states, recorded, legal, legal_backward)
    return policy.log_probs(states, legal, legal_backward)
