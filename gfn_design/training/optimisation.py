"""What is built of the options: the policy, and the groups that an optimizer updates."""

from copy import deepcopy
from functools import partial
from typing import Any

from torch import nn

from gfn_design.objectives.base import BackwardObjective, Objective
from gfn_design.policies.knots import Knots
from gfn_design.policies.policy import Policy
from gfn_design.training.options import Optimiser
from gfn_design.training.setting import Setting, copy_rate


def policy_of(setting: Setting) -> Policy:
    """The policies and critics that an objective learns with."""
    environment, objective, networks, backward, batches, _, fine_tune, _, conditions = setting
    network, critic = networks.network, networks.critic
    if conditions is not None:  # which there is no place for in a network of one answer
        network, critic = (partial(Knots, made, conditions.size) for made in (network, critic))
    several = environment.n_backward_actions > 1
    learns_by = backward.learns_by if several else None
    value = {"critic": critic, "flow": network}.get(objective.value_kind or "")
    return Policy(
        environment,
        network,
        backward.kind,
        value,
        critic if learns_by is not None and learns_by.needs_critic else None,
        setting.members,
        batches.exploration.random_prior if batches.exploration else 0.0,
        fine_tune is not None and fine_tune.anchored,
    )


def slow_copy(
    policy: Policy, objective: Objective, backward_objective: BackwardObjective | None
) -> Policy | None:
    """A copy of the policy that follows it slowly, if an objective wants one."""
    if copy_rate(objective, backward_objective) is None:
        return None
    return deepcopy(policy).requires_grad_(False)


def parameter_groups(
    policy: Policy,
    objective: Objective,
    optimiser: Optimiser,
    log_z_at: nn.Module | None = None,
) -> list[dict[str, Any]]:
    """The parameters of policies, critics and log Z, with their learning rates."""
    rates = {"policy": optimiser.lr, "critic": optimiser.critic_lr, "log_z": optimiser.log_z_lr}
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in rates}
    for name, parameter in policy.named_parameters():
        if not parameter.requires_grad:  # a random prior, or frozen
            continue
        critic = name.startswith("backward_critic.") or (
            name.startswith("critic.") and objective.value_kind == "critic"
        )
        groups["critic" if critic else "policy"].append(parameter)
    groups["log_z"] += objective.parameters()
    groups["log_z"] += [] if log_z_at is None else log_z_at.parameters()
    return [
        {"params": parameters, "lr": rates[name], "name": name}
        for name, parameters in groups.items()
        if parameters
    ]
