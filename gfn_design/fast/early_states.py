"""The early states of trajectories, which are few, are asked about once, together."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gfn_design.environments.base import Environment
from gfn_design.sampling.exploration import Ensemble
from gfn_design.sampling.trajectories import Sampler
from gfn_design.tensors import one_of_each

SCANNED_KEYS = 256  # numbers: to compare with all of more takes longer than to search among them


class EarlyStates(nn.Module):
    """The states that the first steps of a trajectory can leave, as long as they are few.

    Of many trajectories that begin alike, all answers of a network to the early states are found
    by asking it once for each, in one go.

    Args:
        environment: Numbers its states.
        most: States that a step may leave at most.
        steps: Of a trajectory, at most.

    Attributes:
        states: ``int64[n, *state_shape]``, by ascending number; on the environment's device.
        steps: How many steps leave one of these states and no other.
    """

    states: Tensor
    keys: Tensor

    def __init__(self, environment: Environment, most: int, steps: int) -> None:
        super().__init__()
        layer = environment.initial(1)
        layers: list[Tensor] = []
        while 0 < len(layer) <= most and len(layers) < min(steps, environment.max_steps):
            layers.append(layer)
            legal = environment.legal(layer)[:, : environment.n_moves]
            row, action = legal.nonzero(as_tuple=True)
            after, _ = environment.step(layer[row], action)
            layer = after[one_of_each(environment.state_index(after))[0]]
        self.steps = len(layers)
        states = torch.cat(layers)
        some, _ = one_of_each(environment.state_index(states))
        self.register_buffer("states", states[some], persistent=False)
        self.register_buffer("keys", environment.state_index(states[some]), persistent=False)

    def rows(self, keys: Tensor) -> Tensor:
        """Where in `states` the states with these numbers are."""
        if (
            torch.compiler.is_compiling() and len(self.keys) <= SCANNED_KEYS
        ):  # part of the kernels around it
            return (self.keys < keys[..., None]).sum(-1)
        return torch.searchsorted(self.keys, keys)


class EarlyAnswers:
    """A policy's place in a roll-out from the source: early states are asked about at once.

    Args:
        environment: Numbers the states.
        policy: Answers.
        early: The states that the first steps can leave.
    """

    def __init__(self, environment: Environment, policy: Sampler, early: EarlyStates) -> None:
        self.environment, self.policy, self.early, self.step = environment, policy, early, 0
        self.answers: Tensor | None = None

    def forward_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """What the policy says."""
        return self._asked(self.policy.forward_log_probs, states, legal)

    def member_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """What each of its members says."""
        assert isinstance(self.policy, Ensemble)
        return self._asked(self.policy.member_log_probs, states, legal)

    def _asked(
        self, ask: Callable[[Tensor, Tensor], Tensor], states: Tensor, legal: Tensor
    ) -> Tensor:
        if self.answers is None:
            self.answers = ask(self.early.states, self.environment.legal(self.early.states))
        self.step += 1
        if self.step > self.early.steps:
            return ask(states, legal)
        return self.answers.index_select(0, self.early.rows(self.environment.state_index(states)))
