"""What there is, where it cannot be listed or followed: objects built at random, and weighted."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.sampling.log_probabilities import log_probabilities
from gfn_design.sampling.noise import EVALUATION, uniform_noise
from gfn_design.sampling.trajectories import sample


class AtRandom:
    """A policy's place: all legal actions are as likely, forwards and backwards."""

    prior = None

    def forward_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """log P_F of every action: ``float[batch, n_actions]``."""
        return _evenly(legal)

    def backward_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """log P_B of every backward action: ``float[batch, n_backward_actions]``."""
        return _evenly(legal)

    def value(self, states: Tensor) -> None:
        """There is no critic."""

    def backward_value(self, states: Tensor) -> None:
        """Nor this one."""


def _evenly(legal: Tensor) -> Tensor:
    return (legal / legal.sum(-1, keepdim=True)).log().where(legal, -torch.inf)


class Chance(NamedTuple):
    """Objects built at random, which stand for all there are.

    Attributes:
        objects: ``int64[n, *state_shape]``.
        log_weight: ``float64[n]``, for how many objects each stands, in nats: the mean of its exp
            is the number of all, on average.
    """

    objects: Tensor
    log_weight: Tensor

    def log_number(self) -> float:
        """log of about how many objects there are."""
        return float(self.log_weight.logsumexp(0)) - float(np.log(len(self.objects)))

    def share(self, counted: Tensor, log_reward: Tensor | float = 0.0) -> tuple[float, float]:
        """About which part of all is counted, each having a weight besides, in nats.

        Args:
            counted: ``bool[n]``.
            log_reward: ``float64[n]``, or none.

        Returns:
            The share, and how many objects drawn evenly would tell as much (Kish 1965).
        """
        weight = (self.log_weight + log_reward).softmax(0)
        return float((weight * counted).sum()), float(1 / weight.square().sum())


def by_chance(environment: Environment, n: int, seed: int = 0) -> Chance:
    """Build objects by choosing evenly at every step.

    Args:
        environment: What is built.
        n: How many.
        seed: Of the randomness.
    """
    policy = AtRandom()
    device = environment.initial(1).device
    noise = uniform_noise((n, environment.max_steps), device, seed, EVALUATION, 0, 0)
    drawn = sample(environment, policy, noise)
    steps = log_probabilities(environment, policy, drawn)
    log_weight = (steps.log_pb.double() - steps.log_pf.double()).sum(1)
    return Chance(drawn.objects, log_weight - environment.log_states_per_object(drawn.objects))
