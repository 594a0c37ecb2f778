"""One policy for many questions, each trajectory at a setting of its own."""

from collections.abc import Mapping
from copy import copy, deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gfn_design.data.base import DataModule
from gfn_design.errors import InputError
from gfn_design.policies.knots import PolicyAt, policy_at, set_usual
from gfn_design.sampling.noise import CONDITIONS, Randomness
from gfn_design.sampling.trajectories import LogRewardFunction, Sampler
from gfn_design.training.condition_ranges import Conditions
from gfn_design.training.engine import Batch, Losses, Noise, Parts, named_losses, rewarded
from gfn_design.training.extras import EngineWithExtras
from gfn_design.training.rewarding import LearnedReward
from gfn_design.training.task import Task

if TYPE_CHECKING:
    from gfn_design.designer import Designer


class ConditionedLogZ(nn.Module):
    """What log Z is more at a setting than the objective's own: interpolated as policies are.

    Args:
        conditions: What is chosen.
    """

    def __init__(self, conditions: Conditions) -> None:
        super().__init__()
        self.conditions = conditions
        self.at_knots = nn.Parameter(torch.zeros(conditions.size))

    def forward(self, settings: Tensor) -> Tensor:
        """In nats, ``float[n]``, of settings ``float[n, conditions]``."""
        return self.conditions.mix(settings) @ self.at_knots


class ConditionedEngine(EngineWithExtras):
    """Draws each trajectory at a setting of its own, and learns from it at that setting.

    Args:
        parts: What learns, and how; its policy is of networks that are `Knots`.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        assert parts.log_z_at is not None
        self.log_z_at, self.conditions = parts.log_z_at, parts.log_z_at.conditions
        if parts.objective.value_kind == "flow":  # which knows log Z by the source's flow
            self.log_z_at.at_knots.requires_grad_(False)

    def noise(self, numbers: Randomness, nth: int, size: int, replayed: int = 0) -> Noise:
        drawn = super().noise(numbers, nth, size, replayed)
        uniform = numbers(size, CONDITIONS, nth, len(self.conditions.ranges))
        return drawn._replace(settings=self.conditions.drawn(uniform))

    def draw(self, noise: Noise, reward: LogRewardFunction) -> Batch:
        assert noise.settings is not None
        assert isinstance(reward, LearnedReward)
        sampler: Sampler = PolicyAt(self.parts.policy, self.conditions.mix(noise.settings))
        drawn, settings = self.sample(sampler, noise.drawn), self.named(noise.settings)
        drawn = rewarded(drawn, lambda objects: reward.at(objects, settings))
        return Batch(drawn, settings=noise.settings)

    def named(self, settings: Tensor) -> dict[str, Tensor]:
        """Settings by the names of conditions."""
        return dict(zip(self.conditions.ranges, settings.unbind(1), strict=True))

    def losses(self, batch: Batch) -> Losses:
        policy, objective = self.parts.policy, self.parts.objective
        assert batch.settings is not None
        at = PolicyAt(policy, self.conditions.mix(batch.settings))
        now = self.log_probabilities(at, batch.drawn, objective.needs_policy)
        own: Losses = {}
        if self.log_z_at.at_knots.requires_grad:
            # log Z stands against log R in every objective: what it is more, log R is less.
            more = self.log_z_at(batch.settings)
            now = now._replace(log_reward=now.log_reward - more.detach())
            estimate = now.log_reward + (now.log_pb - now.log_pf).sum(1) - objective.log_z
            own["log_z_at"] = (more - (more + estimate).detach()).square().mean()
        then = now.detach() if batch.then is None else batch.then
        return named_losses(objective, objective(now, then)) | own


def begin_with(module: nn.Module, log_z_at: ConditionedLogZ, data: DataModule) -> None:
    """Let a policy answer at the setting that its data has, if nothing is said.

    Raises:
        InputError: That is outside what is learned, or no setting of this data.
    """
    row = log_z_at.conditions.row(usual_of(log_z_at.conditions, data))
    set_usual(module, log_z_at.conditions.mix(row)[0])


def usual_of(conditions: Conditions, data: DataModule) -> dict[str, float]:
    """The setting that data has: its exponent, and the weights of its terms as they are."""
    exponent = getattr(data, "exponent", None)
    if "exponent" not in conditions.ranges:
        return {}
    if exponent is None:
        raise InputError(
            f"{type(data).__name__} has no exponent; leave out conditions.exponent, or take data "
            "that has one"
        )
    return {"exponent": float(exponent)}


def at_setting(module: "Designer", given: Mapping[str, float]) -> "Designer":
    """A trained module as it is at one setting: its policy, its log Z and its reward.

    Args:
        module: That was trained with conditions, with its data at hand.
        given: By the names of conditions; what is missing is as its data has it.

    Raises:
        InputError: It knows no conditions, or not these.
    """
    if module.log_z_at is None:
        raise InputError(
            "this run was trained for one question; train with model.conditions, as in "
            "conditions: {exponent: 1..16}, to choose afterwards"
        )
    conditions = module.log_z_at.conditions
    setting = usual_of(conditions, module.data) | dict(given)
    row = conditions.row(setting).to(module.device)
    other = copy(module)
    other._modules = dict(module._modules)
    other.policy = policy_at(module.policy, conditions.mix(row)[0])
    objective = deepcopy(module.objective)
    if objective.value_kind != "flow":
        with torch.no_grad():
            objective.log_z.add_(module.log_z_at(row)[0])
    other.objective, other.log_z_at, other.evaluated = objective, None, None
    other.engine = EngineWithExtras(Parts(module.environment, other.policy, objective))
    other.task = Task(module.environment, other.policy, objective)
    other.task.take(data_at(module, setting))
    return other


def data_at(module: "Designer", setting: Mapping[str, float]) -> DataModule:
    """The data of a module with another exponent and other weights."""
    data: Any = copy(module.data)
    if "exponent" in setting:
        data.exponent = setting["exponent"]
    weights = {name: x for name, x in setting.items() if name != "exponent"}
    if weights:
        terms = [
            replace(term, weight=max(term.weight * weights.get(title, 1.0), 1e-9))
            for title, term in zip(data.titles, data.terms, strict=True)
        ]
        data.terms = type(data.terms)(terms)
    data.ready(module.environment, module.device)
    data.reward.log_scale = module.data.reward.log_scale  # which some data has by its exponent
    return data
