"""Drawing otherwise than the policy would, to find what it does not know yet."""

import torch
from torch import Tensor, nn

from gfn_design.errors import InputError
from gfn_design.policies.policy import Policy


class Exploration(nn.Module):
    """Draws at random now and then, or from a flattened policy, less so with every batch.

    An objective that learns from any trajectory (`Objective.on_policy` is false) stays right.

    Args:
        epsilon: Share of the steps that choose evenly among legal actions, at first.
        temperature: Log-probabilities are divided by it, at first; above 1 flattens the policy.
        decay: Factor of epsilon, and of what the temperature is above 1, after each batch.
    """

    epsilon: Tensor
    excess: Tensor

    def __init__(self, epsilon: float = 0.0, temperature: float = 1.0, decay: float = 0.99) -> None:
        super().__init__()
        if not 0 <= epsilon <= 1 or not temperature > 0 or not 0 <= decay <= 1:
            given = f"{epsilon}, {temperature} and {decay}"
            raise InputError(
                f"epsilon and decay must be from 0 to 1 and temperature positive, got {given}"
            )
        self.decay = decay
        self.register_buffer("epsilon", torch.tensor(float(epsilon)))
        self.register_buffer("excess", torch.tensor(temperature - 1.0))

    def next_batch(self) -> None:
        """Explore less."""
        self.epsilon.mul_(self.decay)
        self.excess.mul_(self.decay)


class Explorer:
    """A policy's place in `sample`: the policy, exploring.

    Args:
        policy: The forward policy that is explored from.
        exploration: How.
    """

    def __init__(self, policy: Policy, exploration: Exploration) -> None:
        self.policy, self.exploration = policy, exploration

    def forward_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """See `Policy`."""
        log_probs = self.policy.forward_log_probs(states, legal)
        p = (log_probs / (1 + self.exploration.excess)).softmax(-1)
        even = legal / legal.sum(-1, keepdim=True)
        epsilon = self.exploration.epsilon
        return ((1 - epsilon) * p + epsilon * even).log()
