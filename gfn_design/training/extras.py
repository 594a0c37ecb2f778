"""What options add to a training step: exploration, ensembles, searches, learning backwards."""

import torch
from torch import Tensor

from gfn_design.policies.policy import Policy
from gfn_design.ranks import joined, total, world
from gfn_design.sampling.edge_flows import edge_flows
from gfn_design.sampling.exploration import Explorer, FollowsMember
from gfn_design.sampling.histories import sample_backward
from gfn_design.sampling.log_probabilities import StepLogProbs
from gfn_design.sampling.noise import HISTORIES, MEMBERS, SEARCHED, TRAINING, Randomness
from gfn_design.sampling.trajectories import LogRewardFunction, Sampler, Trajectories
from gfn_design.training.engine import Batch, Engine, Losses, Noise, named_losses
from gfn_design.training.log_z import log_z_of
from gfn_design.training.rewarding import LearnedReward
from gfn_design.training.setting import copy_rate


class EngineWithExtras(Engine):
    """An engine that does what the options of its parts ask; without any, what `Engine` does."""

    takes_extras = True

    # ---- Drawing -------------------------------------------------------------------------------

    def noise(self, numbers: Randomness, nth: int, size: int, replayed: int = 0) -> Noise:
        search, members = self.parts.search, self.parts.policy.members
        first = size if search is None else size // (search.rounds + 1)
        lots = size + replayed
        return Noise(
            numbers(first, TRAINING, nth),
            numbers(size, HISTORIES, nth) if self.parts.backward else None,
            numbers(2 * (size - first), SEARCHED, nth) if search else None,
            numbers(lots, MEMBERS, nth, members + 1) if members > 1 else None,
        )

    def draw(self, noise: Noise, reward: LogRewardFunction) -> Batch:
        environment, policy, objective, _, _, _, search, _ = self.parts
        sampler, learns = self._explorer(noise)
        drawn = self.sample(sampler, noise.drawn)
        # Without gradients, and in full precision always.
        with torch.no_grad(), torch.autocast(noise.drawn.device.type, enabled=False):
            drawn = Trajectories(*drawn[:-1], log_reward=reward(drawn.objects))
            if search is not None and noise.search is not None:
                drawn = search.fill(environment, policy, sampler, reward, drawn, noise.search)
            batch = Batch(drawn, learns=learns)
            if objective.scores_states:
                left = drawn.states[:, :-1]
                of_each = reward(left.flatten(0, 1)).view(left.shape[:2])
                batch = batch._replace(log_reward_at=of_each)
        return self._with_histories(batch, noise, reward)

    def _explorer(self, noise: Noise) -> tuple[Sampler, Tensor | None]:
        """What draws, and which members of an ensemble learn from each trajectory."""
        sampler, exploration = self.sampler(), self.parts.exploration
        if exploration is None:
            return sampler, None
        explorer = Explorer(sampler, exploration)
        if noise.lots is None:
            return explorer, None
        member, learns = exploration.lots(noise.lots)
        return FollowsMember(explorer, member[: len(noise.drawn)]), learns

    def _with_histories(self, batch: Batch, noise: Noise, reward: LogRewardFunction) -> Batch:
        """The batch, with what the backward policy learns from."""
        environment, policy, objective, backward, *_ = self.parts
        drawn = batch.drawn
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
        with torch.no_grad():
            steps = self.log_probabilities(policy, history, all_actions=True)
        with torch.no_grad(), torch.autocast(noise.back.device.type, enabled=False):
            log_guide = guide(environment, history, steps, lambda states: reward(states) + scale)
        return batch._replace(back=history, log_guide=log_guide)

    @torch.no_grad()
    def before_update(self) -> None:
        """The slow copy goes after the policy."""
        _, policy, objective, backward, slow, *_ = self.parts
        rate = copy_rate(objective, backward)
        if slow is not None and rate is not None:
            for copy, fast in zip(slow.parameters(), policy.parameters(), strict=True):
                copy.lerp_(fast, rate)

    def after_batch(self) -> None:
        if self.parts.exploration is not None:
            self.parts.exploration.next_batch()

    def rescaled(self, batch: Batch, reward: LearnedReward) -> Batch:
        batch, back, at = super().rescaled(batch, reward), batch.back, batch.log_reward_at
        if back is not None:
            log_reward = reward.rescaled(back.log_reward, back.objects)
            batch = batch._replace(back=back._replace(log_reward=log_reward))
        if at is not None:
            left = batch.drawn.states[:, :-1].flatten(0, 1)
            at = reward.rescaled(at.flatten(), left).view(at.shape)
        return batch._replace(log_reward_at=at)

    def rewards_asked(self, batch: Batch) -> int:
        asked, backward = len(batch.drawn.objects), self.parts.backward
        if batch.log_reward_at is not None:
            asked += batch.log_reward_at.numel()
        if batch.log_guide is not None and backward is not None and backward.guide is not None:
            asked += backward.guide.scores_states * batch.log_guide.numel()
        return asked

    # ---- Losses --------------------------------------------------------------------------------

    def losses(self, batch: Batch) -> Losses:
        environment, policy, objective, backward, slow, *_ = self.parts
        now = self._of_learners(policy, batch)._replace(weight=batch.weight)
        if objective.value_kind == "edges":
            now = now._replace(edges=edge_flows(environment, policy, batch.drawn))
        then = now.detach() if batch.then is None else batch.then
        slowly = None if slow is None else self._of_learners(slow, batch)
        if slowly is not None and objective.copy_rate is not None:
            then = slowly
        if backward is None:
            losses = named_losses(objective, objective(now, then))
            return _shared_evenly(losses, batch, now)
        log_pb = now.log_pb.detach()
        if slowly is not None and backward.copy_rate is not None:
            log_pb = slowly.log_pb
            then = then._replace(log_pb=log_pb)
        result = named_losses(objective, objective(now._replace(log_pb=log_pb), then))
        if batch.back is not None or batch.learns is not None:
            back = batch.drawn if batch.back is None else batch.back
            now = self.log_probabilities(policy, back)._replace(log_guide=batch.log_guide)
        log_z = log_z_of(environment, policy, objective)
        own = named_losses(backward, backward(now, now.detach(), log_z))
        return result | {f"backward/{name}": loss for name, loss in own.items()}

    def _of_learners(self, policy: Policy, batch: Batch) -> StepLogProbs:
        """Of the trajectories, once for every member of an ensemble that learns from them."""
        whole = self.parts.objective.needs_policy and policy is self.parts.policy
        if batch.learns is None:
            steps = self.log_probabilities(policy, batch.drawn, whole)
            return steps._replace(log_reward_at=batch.log_reward_at)
        row, member = batch.learns.nonzero(as_tuple=True)
        drawn = Trajectories(*(x[row] for x in batch.drawn))
        at = batch.log_reward_at
        steps = self.log_probabilities(FollowsMember(policy, member), drawn, whole)
        return steps._replace(log_reward_at=None if at is None else at[row])


def _shared_evenly(losses: Losses, batch: Batch, now: StepLogProbs) -> Losses:
    """Ranks whose ensembles learn from more trajectories count more: gradients are averaged."""
    if batch.learns is None:
        return losses
    here = torch.tensor(float(len(now.alive))).to(now.log_pf)
    return {name: loss * (here * world() / total(here)) for name, loss in losses.items()}
