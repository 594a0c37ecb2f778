"""What comes after what: new batches, batches that are used again, what is replayed beside them."""

from typing import Any, Protocol

import torch
from torch import Tensor

from gfn_design.ranks import joined, together
from gfn_design.sampling.noise import (
    CHOICES,
    HEADS,
    HISTORIES,
    REPLAYED,
    SEARCHED,
    TRAINING,
)
from gfn_design.sampling.prioritized import PrioritizedReplay
from gfn_design.sampling.trajectories import Trajectories, concatenate
from gfn_design.training.batches import Batch, Noise, packed, unpacked
from gfn_design.training.engine import Engine, Step
from gfn_design.training.options import Batches
from gfn_design.training.rewarding import LearnedReward, calibrate
from gfn_design.training.setting import copy_rate
from gfn_design.training.tally import Tally, rewards_asked


class Randomness(Protocol):
    """Gives the numbers of a stream."""

    def __call__(self, n: int, stream: int, draw: int, columns: int | None = None) -> Tensor:
        """Uniform numbers, ``float[n, columns]``, of as many columns as steps if not said."""


class Learner:
    """Gives the losses of one batch after the other.

    Args:
        engine: Draws, and finds losses.
        tally: Counts.
        noise: The randomness of this rank.
        batches: What is learned from.

    Attributes:
        batch: The latest that was drawn here.
        used: Updates made with it.
    """

    def __init__(
        self,
        engine: Engine,
        tally: Tally,
        noise: Randomness,
        batches: Batches,
    ) -> None:
        self.engine, self.tally, self.noise = engine, tally, noise
        self.batch_size, self.updates, self.replay = batches.size, batches.updates, batches.replay
        self.batch: Batch | None = None
        self.used = 0

    def latest(self) -> Trajectories:
        """The latest trajectories that were drawn here."""
        assert self.batch is not None
        return self.batch.drawn

    @torch.no_grad()  # but for losses
    def next_step(self, reward: LearnedReward) -> Step:
        """The losses of a new batch, or of the last one again.

        Args:
            reward: log R as it is learned from.
        """
        parts, objective = self.engine.parts, self.engine.parts.objective
        if parts.slow is not None:
            self._follow()
        first = self.tally.draws == 0 and not bool(objective.calibrated)
        if self.updates == 1 and self.replay is None and not first:
            step = self.engine.step(self._noise(), reward)
            self._accept(step.batch)
            return step
        if self.batch is None or self.used == self.updates:
            self._accept(self._draw(reward, first))
        self.used += 1
        assert self.batch is not None
        step = self.engine.learn(self._with_replayed(self.batch))
        if isinstance(self.replay, PrioritizedReplay):
            self.replay.learned(objective.errors)
        return step._replace(batch=self.batch)

    def _follow(self) -> None:
        """The slow copy goes after the policy."""
        _, policy, objective, backward, slow, *_ = self.engine.parts
        rate = copy_rate(objective, backward)
        assert slow is not None
        assert rate is not None
        for copy, fast in zip(slow.parameters(), policy.parameters(), strict=True):
            copy.lerp_(fast, rate)

    def _draw(self, reward: LearnedReward, first: bool) -> Batch:
        parts = self.engine.parts
        batch = self.engine.draw(self._noise(), reward)
        if first:
            batch = self._calibrated(batch, reward)
        if self.updates > 1 and parts.objective.on_policy:
            whole = parts.objective.needs_policy
            then = self.engine.score(parts.policy, batch.drawn, all_actions=whole)
            batch = batch._replace(then=then)
        return batch

    def _noise(self) -> Noise:
        """The randomness of the next batch."""
        parts, n, draw = self.engine.parts, self.batch_size, self.tally.draws
        search, heads = parts.search, parts.policy.heads
        first = n if search is None else n // (search.rounds + 1)
        again = 0 if self.replay is None else self.replay.size
        return Noise(
            self.noise(first, TRAINING, draw),
            self.noise(n, HISTORIES, draw) if parts.backward else None,
            self.noise(2 * (n - first), SEARCHED, draw) if search else None,
            self.noise(n + again, HEADS, draw, heads + 1) if heads > 1 else None,
        )

    def _calibrated(self, batch: Batch, reward: LearnedReward) -> Batch:
        """The first batch, its log-rewards as they are learned from once it has told the scale."""
        drawn, back, at = batch.drawn, batch.back, batch.log_reward_at
        together(lambda: self.tally.check_rewards(drawn.objects, drawn.log_reward))
        parts, rescaled = self.engine.parts, reward.rescaled
        calibrate(parts.objective, self.engine.score(parts.policy, drawn), joined)
        if at is not None:
            left = drawn.states[:, :-1].flatten(0, 1)
            at = rescaled(at.flatten(), left).view(at.shape)
        return batch._replace(
            drawn=drawn._replace(log_reward=rescaled(drawn.log_reward, drawn.objects)),
            back=back and back._replace(log_reward=rescaled(back.log_reward, back.objects)),
            log_reward_at=at,
        )

    def _accept(self, batch: Batch) -> None:
        """Count a batch that was just drawn, and keep what is learned from again."""
        parts = self.engine.parts
        self.tally.record_draw(batch, rewards_asked(parts, batch))
        self.batch, self.used = batch, 0
        if parts.exploration is not None:
            parts.exploration.next_batch()
        if self.replay is not None:
            self.replay.keep(batch.drawn)

    def _with_replayed(self, batch: Batch) -> Batch:
        """The batch and, if there is a replay, what that gives; see `Replay.recall`."""
        if self.replay is None:
            return batch
        parts, key = self.engine.parts, self.tally.draws * self.updates + self.used
        noise = self.noise(self.replay.size, REPLAYED, key)
        which = self.noise(self.replay.size, CHOICES, key)[:, 0]
        again, weight = self.replay.recall(parts.environment, parts.policy, which, noise)
        if weight is None:
            return batch._replace(drawn=concatenate(batch.drawn, again))
        return batch._replace(drawn=again, weight=weight, back=batch.back or batch.drawn)

    # ---- What is kept --------------------------------------------------------------------------

    def to(self, device: torch.device) -> None:
        """Move what is learned from again; a checkpoint is read before that is known."""
        if self.batch is not None:
            self.batch = unpacked(packed(self.batch, device))
        if self.replay is not None:
            self.replay.to(device)

    def state_dict(self) -> dict[str, Any]:
        """What a rank remembers of its own, for a checkpoint."""
        own: dict[str, Any] = {}
        backward = self.engine.parts.backward
        if self.replay is not None:
            own["replay"] = self.replay.state_dict()
        if backward is not None:
            own["memory"] = backward.memories()
        if self.batch is not None and 0 < self.used < self.updates:
            own["used"], own["batch"] = self.used, packed(self.batch, torch.device("cpu"))
        return own

    def load_state_dict(self, own: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.batch, self.used = None, 0
        backward = self.engine.parts.backward
        if self.replay is not None and "replay" in own:
            self.replay.load_state_dict(own["replay"])
        if backward is not None and "memory" in own:
            backward.remember(own["memory"])
        if "batch" in own:
            self.used, self.batch = own["used"], unpacked(own["batch"])
