"""Exact distributions, by pushing probability from the source to the finished objects."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.policies.policy import Policy
from gfn_design.tensors import one_of_each

CHUNK = 2**16  # states evaluated at once, which bounds memory
LEAST = -700.0  # log of a probability; the exponential of a smaller one is no float64

LogPolicy = Callable[[Tensor, Tensor], Tensor]  # states, legal -> log-probability of each action


class Layer(NamedTuple):
    """Objects that are finished after equally many steps.

    Attributes:
        packed: Their states in as few bytes as their slots need, ``[n, *state_shape]``.
        indices: Their ``state_index``, in rising order.
        probability: ``float64[n]``, of finishing there after this many steps.
    """

    packed: Tensor
    indices: Tensor
    probability: Tensor

    @property
    def objects(self) -> Tensor:
        """The states: ``int64[n, *state_shape]``."""
        return self.packed.long()


@torch.no_grad()
def push_forward(environment: Environment, log_policy: LogPolicy) -> Iterator[Layer]:
    """Walk the whole graph from the source, one step at a time, with probabilities in float64.

    Works from `legal`, `step` and `state_index` alone. An object that can be finished after
    different numbers of steps appears in several layers. Takes 16 bytes of memory for each of
    `n_states`, and one or two for each slot of the states of a layer.

    Raises:
        TypeError: The environment does not number its states.
    """
    if environment.n_states is None:
        raise TypeError(f"{environment.describe()} does not number its states")
    packed = _pack(environment, environment.initial(1))
    index, moves = environment.state_index(packed.long()), environment.n_moves
    mass = torch.ones(1, dtype=torch.float64, device=packed.device)
    # By number of the state: the probability that flows in, and an edge that leads there.
    inflow = mass.new_zeros(environment.n_states)
    edge = index.new_full((environment.n_states,), -1)
    for _ in range(environment.max_steps):
        finished = []
        for start in range(0, len(packed), CHUNK):
            part = slice(start, start + CHUNK)
            here = packed[part].long()
            legal = environment.legal(here)
            flow = log_policy(here, legal).exp() * mass[part, None]
            if not environment.fixed_length:
                stops = legal[:, -1]
                finished.append(Layer(packed[part][stops], index[part][stops], flow[stops, -1]))
            row, action = legal[:, :moves].nonzero(as_tuple=True)
            child, _ = environment.step(here[row], action)
            number = environment.state_index(child)
            inflow.index_add_(0, number, flow[row, action])
            edge[number] = (start + row) * moves + action  # any one will do
        if finished:
            yield Layer(*(torch.cat(parts) for parts in zip(*finished, strict=True)))
        index = (edge >= 0).nonzero().squeeze(1)
        if not len(index):
            return
        mass, chosen = inflow[index], edge[index]
        inflow[index], edge[index] = 0.0, -1
        packed = torch.cat(
            [
                _pack(environment, environment.step(packed[e // moves].long(), e % moves)[0])
                for e in chosen.split(CHUNK)
            ]
        )
    if environment.fixed_length:
        yield Layer(packed, index, mass)


def _pack(environment: Environment, states: Tensor) -> Tensor:
    """The states in the smallest integers that hold every value of a slot, and -1."""
    most = max(environment.slot_sizes, default=0)
    small = torch.int8 if most <= 2**7 else torch.int16 if most <= 2**15 else torch.int64
    return states.to(small)


def terminating_distribution(environment: Environment, policy: Policy) -> tuple[Tensor, Tensor]:
    """The exact law of the objects that the forward policy builds.

    Returns:
        ``state_index`` of every finished state in rising order, and its probability in float64.
    """
    log_policy = partial(policy.forward_log_probs, dtype=torch.float64)
    objects = _joined(push_forward(environment, log_policy))
    return objects.indices, objects.probability


def _joined(layers: Iterator[Layer]) -> Layer:
    """The objects of all layers, each once, with the sum of its probabilities."""
    first, *more = layers
    if not more:  # in order already
        return first
    packed, indices, probability = (torch.cat(p) for p in zip(first, *more, strict=True))
    some, place = one_of_each(indices)
    total = probability.new_zeros(len(some)).index_add_(0, place, probability)
    return Layer(packed[some], indices[some], total)


class Target(NamedTuple):
    """What the policy should sample: every object with probability R(x) / Z, or prior(x) R(x) / Z.

    Attributes:
        packed: Every object in as few bytes as its slots need, ``[n, *state_shape]``; one of its
            states, if it has several.
        indices: ``state_index`` of every finished state in rising order.
        log_reward: ``float64[n]``, in nats.
        owner: Which object each finished state is, where several may be one; ``int64[states]``.
        log_prior: With which a prior builds each object, ``float64[n]``, in nats; None without one.
    """

    packed: Tensor
    indices: Tensor
    log_reward: Tensor
    owner: Tensor | None = None
    log_prior: Tensor | None = None

    @property
    def objects(self) -> Tensor:
        """The objects: ``int64[n, *state_shape]``."""
        return self.packed.long()

    @property
    def log_z(self) -> float:
        """log of the sum of all rewards, each times its prior if there is one."""
        return float(self._log_weight.logsumexp(0))

    @property
    def probability(self) -> Tensor:
        """R(x) / Z, or prior(x) R(x) / Z: ``float64[n]``."""
        return self._log_weight.softmax(0)

    @property
    def _log_weight(self) -> Tensor:
        return self.log_reward if self.log_prior is None else self.log_reward + self.log_prior

    def of_objects(self, probability: Tensor) -> Tensor:
        """The probability of every object, from that of every finished state."""
        if self.owner is None:
            return probability
        return torch.zeros_like(self.log_reward).index_add_(0, self.owner, probability)

    def cpu(self) -> "Target":
        """The same on the CPU."""
        return Target._make(x if x is None else x.cpu() for x in self)


def target_distribution(
    environment: Environment,
    log_reward: Callable[[Tensor], Tensor],
    prior: Policy | None = None,
) -> Target:
    """Enumerate every object with its reward.

    Args:
        environment: One that numbers its states.
        log_reward: From ``int64[n, *state_shape]`` to log R in nats.
        prior: What it builds is weighed by the reward; without one, all objects alike.
    """
    layers = push_forward(environment, lambda states, legal: legal.double().log())
    packed, indices, _ = _joined(layers)
    owner = None
    if environment.several_states:
        texts = [text for part in packed.split(CHUNK) for text in environment.decode(part.long())]
        first: dict[str, int] = {}  # the objects, and where each comes first
        for place, text in enumerate(texts):
            first.setdefault(text, place)
        number = {text: i for i, text in enumerate(first)}
        owner = torch.tensor([number[text] for text in texts], device=packed.device)
        packed = packed[list(first.values())]
    rewards = [log_reward(part.long()).double() for part in packed.split(CHUNK)]
    log_prior = None
    if prior is not None:
        law = terminating_distribution(environment, prior)[1]
        if owner is not None:
            law = law.new_zeros(len(packed)).index_add_(0, owner, law)
        log_prior = law.log().clamp(min=LEAST)
    return Target(packed, indices, torch.cat(rewards), owner, log_prior)
