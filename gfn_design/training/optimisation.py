"""The optimizer of a module: three learning rates, and a trust region where one is asked for."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Adam, Optimizer

from gfn_design.objectives.base import Objective
from gfn_design.policies.policy import Policy

ADAM = partial(Adam, fused=True)  # one kernel for all parameters


def parameter_groups(
    policy: Policy, objective: Objective, rates: dict[str, float]
) -> list[dict[str, Any]]:
    """The parameters of policies, critics and log Z, with their learning rates.

    Args:
        policy: Of the networks.
        objective: Of log Z.
        rates: By the name of the group: ``policy``, ``critic`` and ``log_z``.
    """
    groups: dict[str, list[nn.Parameter]] = {"policy": [], "critic": [], "log_z": []}
    for name, parameter in policy.named_parameters():
        if not parameter.requires_grad:  # a random prior, or frozen
            continue
        critic = name.startswith("backward_critic.") or (
            name.startswith("critic.") and objective.head == "critic"
        )
        groups["critic" if critic else "policy"].append(parameter)
    groups["log_z"] += objective.parameters()
    return [
        {"params": parameters, "lr": rates[name], "name": name}
        for name, parameters in groups.items()
        if parameters
    ]


OptimizerFactory = Callable[[Any], Optimizer]
