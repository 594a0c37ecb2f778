"""One training step but for the update: draw, reward, score, find the losses."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gfn_design.compiled import Gradients, Losses
from gfn_design.environments.base import Environment
from gfn_design.objectives.base import BackwardObjective, Objective
from gfn_design.policies.mlp import MLP
from gfn_design.policies.policy import Policy
from gfn_design.ranks import joined, total, world
from gfn_design.sampling.distinct import Opening, Visited
from gfn_design.sampling.exploration import Exploration, Explorer
from gfn_design.sampling.local_search import LocalSearch
from gfn_design.sampling.recorder import Recorder
from gfn_design.sampling.trajectories import (
    Reward,
    Sampler,
    Scored,
    Trajectories,
    Walks,
    edge_flows,
    sample,
    sample_backward,
    score,
    visited,
)


class Parts(NamedTuple):
    """What a training step is made of.

    Attributes:
        environment: What is built.
        policy: Draws the trajectories, and learns from them.
        objective: How the forward policy learns.
        backward: How the backward policy learns, if by itself.
        slow: A copy of the policy that follows it slowly, if an objective wants one.
        exploration: How trajectories are drawn, if not as the policy would.
        search: Fills the batch, if not drawn whole.
        opening: See `sample`.
        walks: See `sample`.
        learn: `losses` of these, with their gradients where they are compiled.
    """

    environment: Environment
    policy: Policy
    objective: Objective
    backward: BackwardObjective | None
    slow: Policy | None
    exploration: Exploration | None
    search: LocalSearch | None
    opening: Opening | None
    walks: Walks
    learn: Callable[..., Any]


class Batch(NamedTuple):
    """What the losses are found from.

    Attributes:
        drawn: Trajectories of the forward policy, and replayed ones.
        then: How the policy that drew them scored them; None is how the present one does.
        log_reward_at: See `Scored`; None if the objective does not ask.
        back: What the backward policy learns from, if not from `drawn`: histories that it drew of
            the same objects, or what it recalls.
        log_guide: Of those; see `Scored`.
        learns: Which heads of the policy learn from `drawn`, if there are several: see `score`.
        weight: Of the steps of `drawn`; see `Scored`.
    """

    drawn: Trajectories
    then: Scored | None = None
    log_reward_at: Tensor | None = None
    back: Trajectories | None = None
    log_guide: Tensor | None = None
    learns: Tensor | None = None
    weight: Tensor | None = None


def losses(
    environment: Environment,
    policy: Policy,
    objective: Objective,
    backward: BackwardObjective | None,
    slow: Policy | None,
    batch: Batch,
    opening: Opening | None,
    seen: Visited | None = None,
    known: Sequence[Tensor] | None = None,
) -> Losses:
    """What the objectives say of a batch, by name; see `score` about `seen` and `known`."""
    static = torch.compiler.is_compiling()  # then no shape may depend on a value
    opening = opening if static else None
    drawn, learns, whole = batch.drawn, batch.learns, objective.needs_policy
    now = score(environment, policy, drawn, opening, whole, learns, seen=seen, known=known)
    log_reward_at = batch.log_reward_at
    if learns is not None and log_reward_at is not None:
        log_reward_at = log_reward_at[learns.nonzero()[:, 0]]
    now = now._replace(log_reward_at=log_reward_at, weight=batch.weight)
    if objective.head == "edges":
        now = now._replace(edges=edge_flows(environment, policy, drawn))
    then = now.detach() if batch.then is None else batch.then
    copied = None if slow is None else score(environment, slow, drawn, opening, learns=learns)
    if copied is not None and objective.copy_rate is not None:
        then = copied
    if backward is None:
        found = objective(now, then)
        if learns is None:
            return found
        # Ranks whose heads learn from more trajectories count more: gradients are averaged.
        here = torch.tensor(float(len(now.alive))).to(now.log_pf)
        return {name: loss * (here * world() / total(here)) for name, loss in found.items()}
    log_pb = now.log_pb.detach()
    if copied is not None and backward.copy_rate is not None:
        log_pb = copied.log_pb
        then = then._replace(log_pb=log_pb)
    result = objective(now._replace(log_pb=log_pb), then)
    if batch.back is not None or learns is not None:
        back = drawn if batch.back is None else batch.back
        now = score(environment, policy, back)._replace(log_guide=batch.log_guide)
    own = backward(now, now.detach(), log_z_of(environment, policy, objective))
    return result | {f"backward/{name}": loss for name, loss in own.items()}


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


class Noise(NamedTuple):
    """The randomness of a batch, ``float[n, max_steps]`` each, in [0, 1).

    Attributes:
        drawn: Of the trajectories that the policy draws.
        back: For the backward objective, if there is one.
        search: Of the proposals of a local search.
        lots: For `Exploration.lots`, if the policy has several heads; of replayed trajectories too.
    """

    drawn: Tensor
    back: Tensor | None = None
    search: Tensor | None = None
    lots: Tensor | None = None


def collect(parts: Parts, reward: Reward, noise: Noise, recorder: Recorder | None = None) -> Batch:
    """Draw a batch of trajectories and reward its objects.

    Args:
        parts: What learns, and how.
        reward: log R of objects.
        noise: All randomness there is.
        recorder: Of the policy, if what it answers is of use later.
    """
    environment, policy, objective, backward, _, exploration, search, opening, walks, _ = parts
    sampler: Sampler = policy if recorder is None else recorder
    if exploration is not None:
        sampler = Explorer(sampler, exploration)
    head = learns = None
    if exploration is not None and noise.lots is not None:
        head, learns = exploration.lots(noise.lots)
        head = head[: len(noise.drawn)]
    drawn = sample(environment, sampler, noise.drawn, opening, walks, head)
    with torch.autocast(noise.drawn.device.type, enabled=False):  # in full precision always
        drawn = Trajectories(*drawn[:-1], log_reward=reward(drawn.objects))
        if search is not None and noise.search is not None:
            drawn = search.fill(environment, policy, sampler, reward, drawn, noise.search)
        batch = Batch(drawn, learns=learns)
        if objective.scores_states:
            left = drawn.states[:, :-1]
            batch = batch._replace(log_reward_at=reward(left.flatten(0, 1)).view(left.shape[:2]))
    if backward is None or noise.back is None:
        return batch
    if not backward.walks_back:
        return batch._replace(back=backward.recall(drawn, noise.back))
    history = sample_backward(environment, policy, drawn.objects, noise.back)
    history = history._replace(log_reward=drawn.log_reward)
    if (guide := backward.guide) is None:
        return batch._replace(back=history)
    scale = objective.log_scale  # which guides know nothing of
    guide.observe(environment, joined(drawn.objects), joined(drawn.log_reward + scale))
    scored = score(environment, policy, history, all_actions=True)
    with torch.autocast(noise.back.device.type, enabled=False):
        log_guide = guide(environment, history, scored, lambda states: reward(states) + scale)
    return batch._replace(back=history, log_guide=log_guide)


def recorder_of(parts: Parts, device: torch.device) -> Recorder | None:
    """A recorder for the batch to be drawn, if its losses can use the record.

    They can in the compiled graph of a whole step: elsewhere they may ask about each distinct state
    once, and a record has an answer for every visit. A subclass of `MLP` may give something else
    than its last layer does, and under autocast answers are of another precision than the weights
    that a gradient multiplies them with.
    """
    pays = (
        torch.compiler.is_compiling()
        and parts.environment.fixed_length
        and type(parts.policy.forward_policy) is MLP
        and parts.policy.heads == 1
        and parts.search is None
        and not torch.is_autocast_enabled(device.type)
    )
    return Recorder(parts.policy) if pays else None


def play(parts: Parts, reward: Reward, noise: Noise) -> tuple[Batch, Losses, Gradients | None]:
    """What one training step does but for the update: `collect`, and find the losses."""
    recorder = recorder_of(parts, noise.drawn.device)
    batch = collect(parts, reward, noise, recorder)
    known = None if recorder is None else recorder.record(batch.drawn.objects, parts.opening)
    seen = None
    if not parts.environment.fixed_length:  # a graph cannot find out how many states differ
        seen = visited(parts.environment, parts.policy, batch.drawn)
    return batch, *parts.learn(batch, parts.opening, seen, known)


def packed(batch: Batch, device: torch.device) -> list[Any]:
    """A batch as plain lists, which a checkpoint may hold."""

    def moved(part: Any) -> Any:
        if isinstance(part, tuple):
            return [moved(x) for x in part]
        return part if part is None else part.to(device)

    return [moved(part) for part in batch]


def unpacked(parts: list[Any]) -> Batch:
    """The batch that `packed` has made lists of."""
    drawn, then, log_reward_at, back, log_guide, learns, weight = parts
    return Batch(
        Trajectories(*drawn),
        then and Scored(*then),
        log_reward_at,
        back and Trajectories(*back),
        log_guide,
        learns,
        weight,
    )
