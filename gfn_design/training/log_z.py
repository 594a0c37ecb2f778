"""The estimate of log Z, wherever an objective keeps it."""

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.objectives.base import Objective
from gfn_design.policies.policy import Policy


@torch.no_grad()
def log_z_of(environment: Environment, policy: Policy, objective: Objective) -> Tensor:
    """The estimate of log Z less the scale of rewards: learned as such, or log F of the source."""
    if objective.value_kind not in ("flow", "edges"):
        return objective.log_z.detach()
    source = environment.initial(1)
    if objective.value_kind == "edges":
        legal = environment.legal(source)
        return policy.forward_logits(source).where(legal, -torch.inf).logsumexp(1)[0]
    flow = policy.value(source)
    assert flow is not None
    return flow[0].float()
