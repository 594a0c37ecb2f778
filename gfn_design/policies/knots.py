"""One network for many settings: it answers at some of them, and between by interpolation."""

from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from gfn_design.environments.base import Environment
from gfn_design.policies.policy import Network, Policy


class Knots(nn.Module):
    """Gives outputs at several knots, all on one network, and mixes them.

    Args:
        network: Builds the network.
        knots: How many there are.
        environment: Whose states are read.
        outputs: Numbers given for each state.

    Attributes:
        usual: How the outputs at the knots are mixed if nothing is said, ``float[knots]``.
    """

    usual: Tensor

    def __init__(
        self, network: Network, knots: int, environment: Environment, outputs: int
    ) -> None:
        super().__init__()
        self.network, self.knots, self.outputs = (
            network(environment, outputs * knots),
            knots,
            outputs,
        )
        self.register_buffer("usual", torch.full((knots,), 1 / knots))

    def forward(self, states: Tensor) -> Tensor:
        """``int64[batch, *state_shape]`` to ``float[batch, outputs]``, as usual."""
        return self.mixed(states, self.usual)

    def mixed(self, states: Tensor, weights: Tensor) -> Tensor:
        """The same of weights ``float[knots]`` or ``float[batch, knots]``."""
        at_knots = self.network(states).unflatten(1, (self.knots, self.outputs))
        return (at_knots * weights[..., None]).sum(1)


class Mixed(nn.Module):
    """`Knots` with weights that are fixed, for all states or for each row of them.

    Args:
        knots: The network.
        weights: ``float[knots]``, or ``float[batch, knots]``.
    """

    def __init__(self, knots: Knots, weights: Tensor) -> None:
        super().__init__()
        self.knots, self.weights = knots, weights

    def forward(self, states: Tensor) -> Tensor:
        return self.knots.mixed(states, self.weights)


def policy_at(policy: Policy, weights: Tensor) -> Policy:
    """The same networks, mixed so.

    Args:
        policy: Of networks that are `Knots`.
        weights: ``float[knots]``, or one row for each that it will be asked about.
    """
    other = copy(policy)
    other._modules = {
        name: Mixed(module, weights) if isinstance(module, Knots) else module
        for name, module in policy._modules.items()
    }
    return other


class PolicyAt:
    """A policy's place: each row at a setting of its own.

    Args:
        policy: Of networks that are `Knots`.
        weights: How they are mixed for each row, ``float[batch, knots]``.
    """

    def __init__(self, policy: Policy, weights: Tensor) -> None:
        self.policy, self.weights = policy, weights
        self._at = policy_at(policy, weights)

    @property
    def prior(self) -> None:
        """There is none."""
        return

    def keep(self, rows: Tensor) -> "PolicyAt":
        """The same of some of the rows."""
        return PolicyAt(self.policy, self.weights[rows])

    def forward_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """log P_F at the setting of each row."""
        return self._at.forward_log_probs(states, legal)

    def backward_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """log P_B likewise."""
        return self._at.backward_log_probs(states, legal)

    def value(self, states: Tensor) -> Tensor | None:
        """Values likewise."""
        return self._at.value(states)

    def backward_value(self, states: Tensor) -> Tensor | None:
        """Nobody learns backwards by values here."""
        return None


def set_usual(module: nn.Module, weights: Tensor) -> None:
    """Let all networks in a module be mixed so if nothing is said."""
    part: Any
    for part in module.modules():
        if isinstance(part, Knots):
            part.usual.copy_(weights)
