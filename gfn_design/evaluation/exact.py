"""Exact distributions, by pushing probability from the source to the finished objects."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.policies.policy import Policy

CHUNK = 2**16  # states evaluated at once, which bounds memory

LogPolicy = Callable[[Tensor, Tensor], Tensor]  # states, legal -> log-probability of each action


class Layer(NamedTuple):
    """Objects that are finished after equally many steps.

    Attributes:
        objects: ``int64[n, *state_shape]``.
        indices: Their ``state_index``.
        probability: ``float64[n]``, of finishing there after this many steps.
    """

    objects: Tensor
    indices: Tensor
    probability: Tensor


@torch.no_grad()
def push_forward(environment: Environment, log_policy: LogPolicy) -> Iterator[Layer]:
    """Walk the whole graph from the source, one step at a time, with probabilities in float64.

    Works from `legal`, `step` and `state_index` alone. An object that can be finished after
    different numbers of steps appears in several layers.

    Raises:
        TypeError: The environment does not number its states.
    """
    if environment.n_states is None:
        raise TypeError(f"{environment.describe()} does not number its states")
    states = environment.initial(1)
    index = environment.state_index(states)
    mass = torch.ones(1, dtype=torch.float64, device=states.device)
    for _ in range(environment.max_steps):
        children, finished = [], []
        for here, its_mass in zip(states.split(CHUNK), mass.split(CHUNK), strict=True):
            legal = environment.legal(here)
            flow = log_policy(here, legal).exp() * its_mass[:, None]
            if not environment.fixed_length:
                may_stop = legal[:, -1]
                number = environment.state_index(here[may_stop])
                finished.append(Layer(here[may_stop], number, flow[may_stop, -1]))
            row, action = legal[:, : environment.n_moves].nonzero(as_tuple=True)
            child, _ = environment.step(here[row], action)
            children.append(_merge(environment.state_index(child), child, flow[row, action]))
        if finished:
            yield Layer(*(torch.cat(parts) for parts in zip(*finished, strict=True)))
        index, states, mass = _merge(*(torch.cat(parts) for parts in zip(*children, strict=True)))
        if not len(states):
            return
    if environment.fixed_length:
        yield Layer(states, index, mass)


def _merge(index: Tensor, states: Tensor, mass: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each state once, in the order of its index, with the sum of its masses."""
    unique, place = index.unique(return_inverse=True)
    some = torch.empty_like(unique).scatter_(
        0, place, torch.arange(len(index), device=index.device)
    )
    return unique, states[some], mass.new_zeros(len(unique)).index_add_(0, place, mass)


def terminating_distribution(environment: Environment, policy: Policy) -> tuple[Tensor, Tensor]:
    """The exact law of the objects that the forward policy builds.

    Returns:
        ``state_index`` of every object in rising order, and its probability in float64.
    """
    log_policy = partial(policy.forward_log_probs, dtype=torch.float64)
    layers = list(push_forward(environment, log_policy))
    index, _, probability = _merge(
        torch.cat([layer.indices for layer in layers]),
        torch.cat([layer.indices for layer in layers]),
        torch.cat([layer.probability for layer in layers]),
    )
    return index, probability


class Target(NamedTuple):
    """What the policy should sample: every object with probability R(x) / Z.

    Attributes:
        indices: ``state_index`` of every object in rising order.
        objects: ``int64[n, *state_shape]``.
        log_reward: ``float64[n]``, in nats.
    """

    indices: Tensor
    objects: Tensor
    log_reward: Tensor

    @property
    def log_z(self) -> float:
        """log of the sum of all rewards."""
        return float(self.log_reward.logsumexp(0))

    @property
    def probability(self) -> Tensor:
        """R(x) / Z: ``float64[n]``."""
        return self.log_reward.softmax(0)


def target_distribution(environment: Environment, log_reward: Callable[[Tensor], Tensor]) -> Target:
    """Enumerate every object with its reward.

    Args:
        environment: One that numbers its states.
        log_reward: From ``int64[n, *state_shape]`` to log R in nats.
    """
    layers = list(push_forward(environment, lambda states, legal: legal.double().log()))
    found = torch.cat([layer.indices for layer in layers])
    objects = torch.cat([layer.objects for layer in layers])
    index, objects, _ = _merge(found, objects, torch.zeros_like(found))
    rewards = [log_reward(part).double() for part in objects.split(CHUNK)]
    return Target(index, objects, torch.cat(rewards))
