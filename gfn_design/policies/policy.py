"""Who decides: the forward policy, the backward policy and the critic."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from gfn_design.environments.base import Environment
from gfn_design.errors import InputError

Network = Callable[[Environment, int], nn.Module]


class Policy(nn.Module):
    """Forward policy, backward policy and critic as separate networks.

    A network that nobody trains is not built: its parameters would stop DDP.

    Args:
        environment: Whose states are read.
        network: Builds a network from the environment and its number of outputs.
        backward: ``learned`` builds a backward network; ``uniform`` chooses evenly among parents.
        critic: Builds the critic, if the objective has one.
    """

    def __init__(
        self,
        environment: Environment,
        network: Network,
        backward: Literal["uniform", "learned"] = "uniform",
        critic: Network | None = None,
    ) -> None:
        super().__init__()
        if backward not in ("uniform", "learned"):
            raise InputError(f"backward must be uniform or learned, got '{backward}'")
        learned = backward == "learned"
        self.forward_policy = network(environment, environment.n_actions)
        self.backward_policy = (
            network(environment, environment.n_backward_actions) if learned else None
        )
        self.critic = critic(environment, 1) if critic is not None else None

    def forward_log_probs(
        self, states: Tensor, legal: Tensor, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """log P_F of every action: ``dtype[batch, n_actions]``, -inf where not `legal`."""
        return masked_log_softmax(self.forward_policy(states).to(dtype), legal)

    def backward_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """log P_B of every backward action: ``float[batch, n_backward_actions]``."""
        if self.backward_policy is None:
            parents = legal.sum(-1, keepdim=True).float()
            return torch.where(legal, -parents.log(), -torch.inf)
        return masked_log_softmax(self.backward_policy(states).float(), legal)

    def value(self, states: Tensor) -> Tensor | None:
        """The critic's expected cost from each state to the end, in nats: ``float[batch]``."""
        return None if self.critic is None else self.critic(states).squeeze(-1)


def masked_log_softmax(logits: Tensor, legal: Tensor) -> Tensor:
    """log-softmax over the legal entries, -inf elsewhere."""
    return logits.masked_fill(~legal, -torch.inf).log_softmax(-1)
