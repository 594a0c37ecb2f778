"""Drawing otherwise than the policy would, to find what it does not know yet."""

from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from gfn_design.described import Described
from gfn_design.errors import InputError
from gfn_design.policies.policy import Policy
from gfn_design.sampling.trajectories import Sampler, keep


class Exploration(Described, nn.Module):
    """Draws at random now and then, or from a flattened policy, less so with every batch.

    An objective that learns from any trajectory (`Objective.on_policy` is false) stays right.

    With an ensemble it is Thompson sampling (Rector-Brooks et al. 2023): a trajectory follows one
    member of it from its first step to its last, and each member learns from it with
    probability `share`. So members differ where little is known. All have log Z, flows and the
    backward policy in common.

    Args:
        epsilon: Share of the steps that choose evenly among legal actions, at first.
        temperature: Log-probabilities are divided by it, at first; above 1 flattens the policy.
        decay: Factor of epsilon, and of what the temperature is above 1, after each batch.
        members: Of an ensemble of forward policies on one network, each with logits of its own.
        share: Of the trajectories, which each member learns from, above 0 and at most 1.
        random_prior: How much of a fixed random network is added to the logits of each member. The
            logits of a network are about 0.1 when it is new.
    """

    epsilon: Tensor
    excess: Tensor

    def __init__(
        self,
        epsilon: float = 0.0,
        temperature: float = 1.0,
        decay: float = 0.99,
        members: int = 1,
        share: float = 0.5,
        random_prior: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= epsilon <= 1 or not temperature > 0 or not 0 <= decay <= 1:
            given = f"{epsilon}, {temperature} and {decay}"
            raise InputError(
                f"epsilon and decay must be from 0 to 1 and temperature positive, got {given}"
            )
        if members < 1 or not 0 < share <= 1 or random_prior < 0 or (random_prior and members < 2):
            given = f"{members}, {share} and {random_prior}"
            raise InputError(
                "members must be at least 1, share above 0 and at most 1, and random_prior not "
                f"negative, and 0 with one member; got {given}"
            )
        self.decay, self.members, self.share, self.random_prior = (
            decay,
            members,
            share,
            random_prior,
        )
        self.register_buffer("epsilon", torch.tensor(float(epsilon)))
        self.register_buffer("excess", torch.tensor(temperature - 1.0))

    def next_batch(self) -> None:
        """Explore less."""
        self.epsilon.mul_(self.decay)
        self.excess.mul_(self.decay)

    def lots(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Draw which member each trajectory follows, and which members learn from it.

        Args:
            uniform: The randomness, ``float[batch, members + 1]`` in [0, 1).

        Returns:
            ``int64[batch]`` and ``bool[batch, members]``, in which at least one is true.
        """
        learns = uniform[:, 1:] < self.share
        return (uniform[:, 0] * self.members).long(), learns | ~learns.any()


@runtime_checkable
class Ensemble(Protocol):
    """Several forward policies: a policy of several members, or one that explores."""

    def member_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """log P_F of every action by each member: ``float[batch, members, n_actions]``."""


class Explorer:
    """A policy's place in `sample`: the policy, exploring.

    Args:
        policy: The forward policy that is explored from.
        exploration: How.
    """

    def __init__(self, policy: Sampler, exploration: Exploration) -> None:
        self.policy, self.exploration = policy, exploration

    def keep(self, rows: Tensor) -> "Explorer":
        """The same of some of the rows."""
        return Explorer(keep(self.policy, rows), self.exploration)

    def forward_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """log P_F of every action: ``float[batch, n_actions]``."""
        return self._explored(self.policy.forward_log_probs(states, legal), legal)

    def member_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """The same of each member; see `Policy`."""
        log_probs = cast(Ensemble, self.policy).member_log_probs(states, legal)
        return self._explored(log_probs, legal[:, None])

    def _explored(self, log_probs: Tensor, legal: Tensor) -> Tensor:
        p = (log_probs / (1 + self.exploration.excess)).softmax(-1)
        even = legal / legal.sum(-1, keepdim=True)
        epsilon = self.exploration.epsilon
        return ((1 - epsilon) * p + epsilon * even).log().where(legal, -torch.inf)


class FollowsMember:
    """A policy's place: each trajectory follows one member of an ensemble.

    Args:
        policy: Of several members.
        member: Which member each trajectory follows, ``int64[batch]``.
    """

    def __init__(self, policy: Ensemble, member: Tensor) -> None:
        self.policy, self.member = policy, member

    @property
    def prior(self) -> None:
        """There is none for an ensemble."""
        return

    def keep(self, rows: Tensor) -> "FollowsMember":
        """The same of some of the rows."""
        return FollowsMember(keep(self.policy, rows), self.member[rows])

    def forward_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """log P_F by the member of each row."""
        rows = torch.arange(len(states), device=states.device)
        return self.policy.member_log_probs(states, legal)[rows, self.member]

    def backward_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """The backward policy is one for all."""
        return cast(Policy, self.policy).backward_log_probs(states, legal)

    def value(self, states: Tensor) -> Tensor | None:
        """As are the values."""
        return cast(Policy, self.policy).value(states)

    def backward_value(self, states: Tensor) -> Tensor | None:
        """What learns backwards is no ensemble."""
        return None
