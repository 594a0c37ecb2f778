"""What a training step is: draw a batch, reward it, ask for log-probabilities, compare."""

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.objectives.base import BackwardObjective, Objective
from gfn_design.policies.policy import Policy
from gfn_design.sampling.exploration import Exploration
from gfn_design.sampling.local_search import LocalSearch
from gfn_design.sampling.log_probabilities import PolicyLike, StepLogProbs, log_probabilities
from gfn_design.sampling.noise import TRAINING, Randomness
from gfn_design.sampling.trajectories import LogRewardFunction, Sampler, Trajectories, sample
from gfn_design.training.rewarding import LearnedReward

Losses = dict[str, Tensor]
Gradients = list[tuple[nn.Parameter, Tensor]]


class Parts(NamedTuple):
    """What a training step is made of; the latter five are None in a default one.

    Attributes:
        environment: What is built.
        policy: Draws the trajectories, and learns from them.
        objective: How the forward policy learns.
        backward: How the backward policy learns, if by itself.
        slow: A copy of the policy that follows it slowly, if an objective wants one.
        exploration: How trajectories are drawn, if not as the policy would.
        search: Fills the batch, if not drawn whole.
        log_z_at: What log Z is at settings, if the policy is told which; a `ConditionedLogZ`.
    """

    environment: Environment
    policy: Policy
    objective: Objective
    backward: BackwardObjective | None = None
    slow: Policy | None = None
    exploration: Exploration | None = None
    search: LocalSearch | None = None
    log_z_at: Any = None

    @property
    def have_extras(self) -> bool:
        """Whether a step is more than a default one."""
        kind, scores_states = self.objective.value_kind, self.objective.scores_states
        return self[3:] != (None,) * 5 or kind == "edges" or scores_states


class Noise(NamedTuple):
    """The randomness of a batch, ``float[n, max_steps]`` each, in [0, 1).

    Attributes:
        drawn: Of the trajectories that the policy draws; the others are for extras.
        back: For the backward objective, if there is one.
        search: Of the proposals of a local search.
        lots: For `Exploration.lots`, if the policy is an ensemble; of replayed trajectories too.
        settings: At which each trajectory is drawn, ``float[n, conditions]``; see `Conditions`.
    """

    drawn: Tensor
    back: Tensor | None = None
    search: Tensor | None = None
    lots: Tensor | None = None
    settings: Tensor | None = None


class Batch(NamedTuple):
    """What the losses are found from.

    Attributes:
        drawn: Trajectories of the forward policy, and replayed ones; all else is for extras.
        then: What the policy that drew them said; None is what the present one says.
        log_reward_at: See `StepLogProbs`; None if the objective does not ask.
        back: What the backward policy learns from, if not from `drawn`: histories that it drew of
            the same objects, or what it recalls.
        log_guide: Of those; see `StepLogProbs`.
        learns: Which members of an ensemble learn from each of `drawn`: ``bool[batch, members]``.
        weight: Of the steps of `drawn`; see `StepLogProbs`.
        settings: At which each of `drawn` was drawn; see `Conditions`.
    """

    drawn: Trajectories
    then: StepLogProbs | None = None
    log_reward_at: Tensor | None = None
    back: Trajectories | None = None
    log_guide: Tensor | None = None
    learns: Tensor | None = None
    weight: Tensor | None = None
    settings: Tensor | None = None


class Step(NamedTuple):
    """A training step but for the update.

    Attributes:
        batch: What was learned from.
        losses: By name; their sum is minimised.
        gradients: Of the sum, by parameter, where the engine has found them already.
    """

    batch: Batch
    losses: Losses
    gradients: Gradients | None = None


class Engine:
    """How batches are drawn and learned from; every engine gives the same numbers up to rounding.

    This one is plain: one call after another, nothing remembered.

    Args:
        parts: What learns, and how.

    Attributes:
        takes_gradients: Steps come with their gradients.
        takes_extras: Does what the options of its parts ask.
    """

    takes_gradients = False
    takes_extras = False

    def __init__(self, parts: Parts) -> None:
        if parts.have_extras and not self.takes_extras:
            raise TypeError("these parts are more than a default step; take EngineWithExtras")
        self.parts = parts

    @property
    def tables(self) -> nn.ModuleList:
        """What the engine has on the device of the parts."""
        return nn.ModuleList()

    def noise(self, numbers: Randomness, nth: int, size: int, replayed: int = 0) -> Noise:
        """The randomness of a batch.

        Args:
            numbers: Where it is from.
            nth: How many batches were drawn before.
            size: Trajectories of a batch.
            replayed: That are learned from beside them.
        """
        return Noise(numbers(size, TRAINING, nth))

    def step(self, noise: Noise, reward: LogRewardFunction) -> Step:
        """Draw a batch, and find its losses."""
        return self.learn(self.draw(noise, reward))

    def draw(self, noise: Noise, reward: LogRewardFunction) -> Batch:
        """Trajectories of the policy, with the log-rewards of what they built."""
        drawn = self.sample(self.sampler(), noise.drawn)
        return Batch(rewarded(drawn, reward))

    def rescaled(self, batch: Batch, reward: LearnedReward) -> Batch:
        """The first batch, now that the objective knows the scale of rewards."""
        drawn = batch.drawn
        log_reward = reward.rescaled(drawn.log_reward, drawn.objects)
        return batch._replace(drawn=drawn._replace(log_reward=log_reward))

    def before_update(self) -> None:
        """An update of the networks follows."""

    def after_batch(self) -> None:
        """A batch was drawn."""

    def sampler(self) -> Sampler:
        """What draws a batch."""
        return self.parts.policy

    def learn(self, batch: Batch) -> Step:
        """The losses of a batch."""
        with torch.enable_grad():
            return Step(batch, self.losses(batch))

    def losses(self, batch: Batch) -> Losses:
        """What the objective says of a batch, by name."""
        if any(extra is not None for extra in batch[1:]):
            raise TypeError("this batch is more than a default one; take EngineWithExtras")
        policy, objective = self.parts.policy, self.parts.objective
        now = self.log_probabilities(policy, batch.drawn, objective.needs_policy)
        return named_losses(objective, objective(now, now.detach()))

    def rewards_asked(self, batch: Batch) -> int:
        """Of how many objects and states a batch has asked the reward."""
        return len(batch.drawn.objects)

    def sample(self, policy: Sampler, uniform: Tensor) -> Trajectories:
        """Draw trajectories from a policy; equal numbers give equal trajectories.

        Args:
            policy: Whose forward policy decides.
            uniform: ``float[batch, max_steps]`` in [0, 1).
        """
        return sample(self.parts.environment, policy, uniform)

    def log_probabilities(
        self, policy: PolicyLike, trajectories: Trajectories, all_actions: bool = False
    ) -> StepLogProbs:
        """What a policy says of trajectories, with gradients.

        Args:
            policy: Whose probabilities are asked.
            trajectories: However they were drawn.
            all_actions: Also give ``StepLogProbs.log_policy``.
        """
        return log_probabilities(self.parts.environment, policy, trajectories, all_actions)

    def loss(self, step: Step) -> Tensor:
        """What is minimised; its ``backward`` gives the parameters their gradients."""
        return total_loss(step.losses)

    def update(self, module: Any, optimizer: Any, closure: Callable[[], Any], most: int) -> None:
        """Update the networks, by `most` batches at most.

        Args:
            module: The `GFlowNet`; it learns from a batch whenever `closure` is called.
            optimizer: The one that Lightning gives to `optimizer_step`.
            closure: Likewise.
            most: Batches.
        """
        optimizer.step(closure=closure)
        module.check_weights()

    def forget(self) -> None:
        """There is another reward."""


def rewarded(drawn: Trajectories, reward: LogRewardFunction) -> Trajectories:
    """Trajectories with the log-rewards of what they built, in full precision always."""
    with torch.no_grad(), torch.autocast(drawn.states.device.type, enabled=False):
        return drawn._replace(log_reward=reward(drawn.objects))


def named_losses(objective: nn.Module, losses: Any) -> Losses:
    """What an objective has answered.

    Raises:
        InputError: It is no mapping of names to scalars.
    """
    name = type(objective).__name__
    if not isinstance(losses, dict) or not losses:
        raise InputError(
            f"{name}.forward must return losses by name, such as {{'loss': loss}}, "
            f"got {'none' if losses == {} else f'a {type(losses).__name__}'}"
        )
    for key, loss in losses.items():
        if not isinstance(loss, Tensor) or loss.dim():
            got = f"the shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
            raise InputError(
                f"{name}.forward: the loss '{key}' must be one number as a tensor, such as a mean "
                f"over the batch, got {got}"
            )
    return losses


def total_loss(losses: Losses) -> Tensor:
    """What is minimised."""
    return reduce(torch.add, losses.values())
