"""Sequences that are written from left to right are read once, and not anew at every step."""

from typing import cast

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.policies.policy import Policy
from gfn_design.policies.recurrent import ReadsPrefixes
from gfn_design.sampling.distinct_states import picked
from gfn_design.sampling.log_probabilities import StepLogProbs
from gfn_design.sampling.trajectories import Trajectories
from gfn_design.tensors import masked_log_softmax


def reads_prefixes(policy: object) -> bool:
    """Whether what a policy says of a sequence goes on from what it said of its beginning."""
    return (
        isinstance(policy, Policy)
        and policy.members == 1
        and isinstance(policy.forward_policy, ReadsPrefixes)
        and (policy.critic is None or isinstance(policy.critic, ReadsPrefixes))
        and policy.backward_critic is None
    )


class Reader:
    """A policy's place in one roll-out from the source: it remembers what it has read.

    Args:
        policy: Of which `reads_prefixes` is true.
    """

    def __init__(self, policy: Policy, memory: Tensor | None = None, place: int = 0) -> None:
        self.policy, self.network = policy, cast(ReadsPrefixes, policy.forward_policy)
        self.memory, self.place = memory, place

    def keep(self, rows: Tensor) -> "Reader":
        """The same of some of the rows."""
        return Reader(self.policy, None if self.memory is None else self.memory[rows], self.place)

    def forward_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """What the policy says of states that have a letter more than those before."""
        if self.memory is None:
            self.memory, answer = self.network.first(len(states))
        else:
            self.place = min(self.place + 1, states.shape[1])  # behind the end nobody listens
            letters = states[:, self.place - 1].clamp(min=0)
            self.memory, answer = self.network.next(self.memory, letters, self.place)
        return masked_log_softmax(answer[:, : self.policy.n_actions].float(), legal)


def log_probabilities(
    environment: Environment, policy: Policy, trajectories: Trajectories, all_actions: bool
) -> StepLogProbs:
    """As `gfn_design.sampling.log_probabilities.log_probabilities`, of a policy that reads.

    Args:
        environment: A tree of sequences, each written from left to right.
        policy: Of which `reads_prefixes` is true; there is one way back, so that ``log_pb`` is zero
            but for a prior.
        trajectories: However they were drawn.
        all_actions: Also give ``log_policy``.
    """
    states, actions, alive = trajectories.states, trajectories.actions, trajectories.alive
    moves, steps = trajectories.moves(environment), actions.shape[1]
    left = states[:, :-1].flatten(0, 1)
    legal = environment.legal(left).view(*actions.shape, -1)
    # Where no step is, states are finished, and nothing may be legal.
    possible = legal | ~alive[..., None]

    def of_actions(policy: Policy) -> Tensor:
        network = cast(ReadsPrefixes, policy.forward_policy)
        logits = _of_steps(network, trajectories, steps)[..., : policy.n_actions].float()
        return masked_log_softmax(logits, possible)

    def of_taken(log_policy: Tensor) -> Tensor:
        return picked(log_policy.flatten(0, 1), _rows(actions), actions).where(alive, 0)

    log_policy = of_actions(policy)
    log_pf = of_taken(log_policy)
    value = nothing = torch.zeros_like(log_pf)
    if policy.critic is not None:
        critic = cast(ReadsPrefixes, policy.critic)
        value = _of_steps(critic, trajectories, steps)[..., 0].float().where(alive, 0)
    return StepLogProbs(
        log_pf,
        nothing if policy.prior is None else of_taken(of_actions(policy.prior)),
        value,
        alive,
        trajectories.stops,
        moves,
        trajectories.log_reward,
        None,
        log_policy.where(alive[..., None], 0) if all_actions else None,
    )


def _of_steps(network: ReadsPrefixes, trajectories: Trajectories, steps: int) -> Tensor:
    """What a network gives of the state that each step leaves: ``[batch, steps, outputs]``."""
    answers = network.of_prefixes(trajectories.objects)
    short = steps - answers.shape[1]
    if short > 0:
        answers = torch.cat([answers, answers[:, -1:].expand(-1, short, -1)], 1)
    return answers[:, :steps]


def _rows(like: Tensor) -> Tensor:
    return torch.arange(like.numel(), device=like.device).view(like.shape)
