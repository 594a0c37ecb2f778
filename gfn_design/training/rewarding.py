"""The reward as it is learned from: floored, shared among states, and free of its scale."""

import logging
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.objectives.base import Objective
from gfn_design.ranks import together, world
from gfn_design.rewards.reward import Reward
from gfn_design.sampling.log_probabilities import StepLogProbs
from gfn_design.untraced import untraced

_log = logging.getLogger(__name__)
WARNED_SHARE = 0.1  # of a batch
MAX_ABOVE_MEAN = 1.0  # nats by which the scale may be above the mean of its estimates
REJECTED = 20.0  # nats less for objects that the environment rejects


class LearnedReward(nn.Module):
    """log R of finished states, less `Objective.log_scale`: ``float[batch]`` of objects.

    Several states of one object share its reward evenly.

    Args:
        reward: log R of objects.
        environment: What is built.
        objective: Knows floor and scale.
        log_states_per_object: How many states share the reward of each object, in nats.
    """

    def __init__(
        self,
        reward: Callable[[Tensor], Tensor],
        environment: Environment,
        objective: Objective,
        log_states_per_object: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.reward, self.environment, self.objective = reward, environment, objective
        self.log_states_per_object = log_states_per_object
        self.said = False

    def forward(self, states: Tensor) -> Tensor:
        return self.as_learned(_asked(self.reward, states), states)

    def at(self, states: Tensor, settings: Mapping[str, Tensor]) -> Tensor:
        """The same, each at a setting of its own (see `Reward.at`)."""
        reward = self.reward
        assert isinstance(reward, Reward)
        return self.as_learned(_asked(lambda some: reward.at(some, settings), states), states)

    def as_learned(self, log_reward: Tensor, states: Tensor) -> Tensor:
        """The same of states whose objects have this log R.

        What is not above -inf stays so, and is found out later.
        """
        floored = log_reward.maximum(self.objective.floor).where(
            log_reward > -torch.inf, log_reward
        )
        return floored - self._taken_off(floored, states) - self.objective.log_scale

    def rescaled(self, log_reward: Tensor, states: Tensor) -> Tensor:
        """What was found of states before there was a scale, as it is learned from."""
        return self.as_learned(log_reward + self._taken_off(log_reward, states), states)

    def _taken_off(self, log_reward: Tensor, states: Tensor) -> Tensor:
        """What log R of objects is less for their weight, or for being shared by several states."""
        taken = torch.zeros_like(log_reward)
        if self.environment.rejects or self.environment.weighs:
            taken = taken - log_weight_of(self.environment, states).to(taken)
        if self.environment.several_states:
            taken = taken + self.log_states_per_object(states).to(taken)
        return taken

    def floored(self, log_reward: Tensor) -> float:
        """Which share of some objects is at the floor; said once if it is more than a tenth.

        Args:
            log_reward: As far as it is learned from, in nats, of objects.
        """
        floor = float(self.objective.floor)
        share = float((log_reward <= floor + 1e-4).float().mean())
        if share > WARNED_SHARE and not self.said:
            self.said = True
            _log.warning(
                "%.0f %% of the objects of a batch have a log-reward below %.4g nats and are "
                "learned as if all had that; if they should differ, set the objective's "
                "min_log_reward lower",
                100 * share,
                floor,
            )
        return share


@torch.no_grad()
def calibrate(
    objective: Objective, first: StepLogProbs, gather: Callable[[Tensor], Tensor]
) -> None:
    """Find the scale of rewards, if it was not given, by a first batch of trajectories.

    Args:
        objective: Remembers it.
        first: What the policy says that drew them, with log R of what they built.
        gather: Collects from all ranks.
    """
    of_each = gather(objective.scale_of(first)).double().flatten()
    # log of the mean of exp: its first two terms, as a few good objects must not decide alone.
    more = (of_each.var(correction=0) / 2).clamp(max=MAX_ABOVE_MEAN)
    log_reward = gather(first.log_reward).double().flatten()
    mean_reward = log_reward.logsumexp(0) - math.log(len(log_reward))
    objective.calibrate(of_each.mean() + more, mean_reward)


def _asked(reward: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
    """The reward of states; if it fails on one rank, it does on all."""
    return _asked_together(reward, states) if world() > 1 else reward(states)


@untraced("ranks talk to each other")
def _asked_together(reward: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
    return together(lambda: reward(states))


@untraced("objects are weighed in Python")
def log_weight_of(environment: Environment, objects: Tensor) -> Tensor:
    """What the environment adds to log R of objects, in nats: ``float64[batch]``.

    Its weight, less `REJECTED` where it rejects them.
    """
    weight = torch.zeros(len(objects), dtype=torch.float64, device=objects.device)
    if environment.weighs:
        weight = weight + environment.log_weight(objects)
    if environment.rejects:
        bad = [reason is not None for reason in environment.rejected_for(objects)]
        weight = weight - REJECTED * torch.tensor(bad, device=objects.device)
    return weight


def score_objects(
    environment: Environment, reward: Reward, objects: Tensor
) -> tuple[Tensor, Tensor]:
    """The data's score of objects, and log R in nats: ``float[batch]`` each.

    Raises:
        InputError: A reward is NaN, infinite or not positive, or there is not one per object.
    """
    with torch.autocast(objects.device.type, enabled=False):  # in full precision always
        scores = reward.score(objects)
        log_reward = reward.log_of(scores)
        log_reward = log_reward + log_weight_of(environment, objects).to(log_reward)
    check_rewards(environment, objects, log_reward)
    return scores, log_reward


def check_rewards(environment: Environment, objects: Tensor, log_reward: Tensor) -> None:
    """Refuse log-rewards that nothing can be learned from.

    Raises:
        InputError: One is NaN or infinite, or there is not one per object.
    """
    if log_reward.shape != (len(objects),):
        raise InputError(
            f"the score of {len(objects)} objects must be {len(objects)} numbers, "
            f"got the shape {tuple(log_reward.shape)}"
        )
    if math.isfinite(log_reward.sum(dtype=torch.float64)):
        return
    bad = ~log_reward.isfinite()
    text, first = environment.decode(objects[bad][:1])[0], log_reward[bad][0].item()
    what, bound = ("too large", "maximum") if first > 0 else ("not a positive number", "minimum")
    raise InputError(
        f"the reward of '{text}' is {what} "
        f"(log R = {first:g}; {int(bad.sum())} of {len(bad)} objects); "
        f"mend the score, or set the reward's {bound}"
    )
