"""Batches: trajectories are drawn and rewarded, and kept as long as they are learned from."""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.objectives.base import BackwardObjective, Objective
from gfn_design.policies.policy import Policy
from gfn_design.ranks import joined
from gfn_design.sampling.exploration import Exploration, Explorer, FollowsMember
from gfn_design.sampling.local_search import LocalSearch
from gfn_design.sampling.rollout import Sampler, sample_backward
from gfn_design.sampling.scoring import Scorer
from gfn_design.sampling.trajectories import LogRewardFunction, Scored, Trajectories


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
    """

    environment: Environment
    policy: Policy
    objective: Objective
    backward: BackwardObjective | None = None
    slow: Policy | None = None
    exploration: Exploration | None = None
    search: LocalSearch | None = None


class Batch(NamedTuple):
    """What the losses are found from.

    Attributes:
        drawn: Trajectories of the forward policy, and replayed ones.
        then: How the policy that drew them scored them; None is how the present one does.
        log_reward_at: See `Scored`; None if the objective does not ask.
        back: What the backward policy learns from, if not from `drawn`: histories that it drew of
            the same objects, or what it recalls.
        log_guide: Of those; see `Scored`.
        learns: Which heads of the policy learn from each of `drawn`, if there are several:
            ``bool[batch, heads]``.
        weight: Of the steps of `drawn`; see `Scored`.
    """

    drawn: Trajectories
    then: Scored | None = None
    log_reward_at: Tensor | None = None
    back: Trajectories | None = None
    log_guide: Tensor | None = None
    learns: Tensor | None = None
    weight: Tensor | None = None


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


class Draws(Protocol):
    """How trajectories are drawn and scored: an `Engine`."""

    def sample(self, policy: Sampler, uniform: Tensor) -> Trajectories:
        """See `gfn_design.sampling.rollout.sample`."""

    def score(
        self,
        policy: Scorer,
        trajectories: Trajectories,
        all_actions: bool = False,
        relative: bool = True,
    ) -> Scored:
        """See `gfn_design.sampling.scoring.score`."""


@torch.no_grad()
def draw_batch(
    parts: Parts,
    noise: Noise,
    reward: LogRewardFunction,
    engine: Draws,
    sampler: Sampler | None = None,
) -> Batch:
    """Draw a batch of trajectories and reward its objects.

    Args:
        parts: What learns, and how.
        noise: All randomness there is.
        reward: log R of objects.
        engine: Draws and scores.
        sampler: What stands in the policy's place, if anything does.
    """
    environment, policy, objective, backward, _, exploration, search = parts
    sampler = policy if sampler is None else sampler
    learns = None
    if exploration is not None:
        sampler = Explorer(sampler, exploration)
        if noise.lots is not None:
            member, learns = exploration.lots(noise.lots)
            sampler = FollowsMember(sampler, member[: len(noise.drawn)])
    drawn = engine.sample(sampler, noise.drawn)
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
    scored = engine.score(policy, history, all_actions=True)
    with torch.autocast(noise.back.device.type, enabled=False):
        log_guide = guide(environment, history, scored, lambda states: reward(states) + scale)
    return batch._replace(back=history, log_guide=log_guide)


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
