"""What the objectives say of a batch."""

from functools import reduce

import torch
from torch import Tensor, nn

from gfn_design.environments.base import Environment
from gfn_design.objectives.base import Objective
from gfn_design.policies.policy import Policy
from gfn_design.ranks import total, world
from gfn_design.sampling.exploration import FollowsMember
from gfn_design.sampling.scoring import edge_flows
from gfn_design.sampling.trajectories import Scored, Trajectories
from gfn_design.training.batches import Batch, Draws, Parts

Losses = dict[str, Tensor]
Gradients = list[tuple[nn.Parameter, Tensor]]


def total_loss(losses: Losses) -> Tensor:
    """What is minimised."""
    return reduce(torch.add, losses.values())


def losses_of(parts: Parts, batch: Batch, engine: Draws) -> Losses:
    """What the objectives say of a batch, by name."""
    environment, policy, objective, backward, slow, *_ = parts
    now = _scored(parts, policy, batch, engine)._replace(weight=batch.weight)
    if objective.head == "edges":
        now = now._replace(edges=edge_flows(environment, policy, batch.drawn))
    then = now.detach() if batch.then is None else batch.then
    copied = None if slow is None else _scored(parts, slow, batch, engine)
    if copied is not None and objective.copy_rate is not None:
        then = copied
    if backward is None:
        return _shared_evenly(objective(now, then), batch, now)
    log_pb = now.log_pb.detach()
    if copied is not None and backward.copy_rate is not None:
        log_pb = copied.log_pb
        then = then._replace(log_pb=log_pb)
    result = objective(now._replace(log_pb=log_pb), then)
    if batch.back is not None or batch.learns is not None:
        back = batch.drawn if batch.back is None else batch.back
        now = engine.score(policy, back)._replace(log_guide=batch.log_guide)
    own = backward(now, now.detach(), log_z_of(environment, policy, objective))
    return result | {f"backward/{name}": loss for name, loss in own.items()}


def _scored(parts: Parts, policy: Policy, batch: Batch, engine: Draws) -> Scored:
    """The trajectories of a batch, once for every member of an ensemble that learns from them."""
    whole = parts.objective.needs_policy and policy is parts.policy
    if batch.learns is None:
        scored = engine.score(policy, batch.drawn, whole)
        return scored._replace(log_reward_at=batch.log_reward_at)
    row, member = batch.learns.nonzero(as_tuple=True)
    drawn = Trajectories(*(x[row] for x in batch.drawn))
    at = batch.log_reward_at
    scored = engine.score(FollowsMember(policy, member), drawn, whole)
    return scored._replace(log_reward_at=None if at is None else at[row])


def _shared_evenly(losses: Losses, batch: Batch, now: Scored) -> Losses:
    """Ranks whose ensembles learn from more trajectories count more: gradients are averaged."""
    if batch.learns is None:
        return losses
    here = torch.tensor(float(len(now.alive))).to(now.log_pf)
    return {name: loss * (here * world() / total(here)) for name, loss in losses.items()}


@torch.no_grad()
def log_z_of(environment: Environment, policy: Policy, objective: Objective) -> Tensor:
    """The estimate of log Z less the scale of rewards: learned as such, or log F of the source."""
    if objective.head not in ("flow", "edges"):
        return objective.log_z.detach()
    source = environment.initial(1)
    if objective.head == "edges":
        legal = environment.legal(source)
        return policy.forward_logits(source).where(legal, -torch.inf).logsumexp(1)[0]
    flow = policy.value(source)
    assert flow is not None
    return flow[0].float()
