"""Batches that are learned from again: several updates with each, and what is replayed beside."""

from typing import Any

import torch

from gfn_design.sampling.log_probabilities import StepLogProbs
from gfn_design.sampling.noise import CHOICES, REPLAYED, Randomness
from gfn_design.sampling.prioritized import PrioritizedReplay
from gfn_design.sampling.trajectories import Trajectories, concatenate
from gfn_design.training.engine import Batch, Engine, Noise, Step
from gfn_design.training.learner import Learner
from gfn_design.training.options import Batches
from gfn_design.training.rewarding import LearnedReward
from gfn_design.training.tally import Tally


def learner_for(engine: Engine, tally: Tally, noise: Randomness, batches: Batches) -> Learner:
    """One that learns from batches as often as they say."""
    if batches.updates == 1 and batches.replay is None:
        return Learner(engine, tally, noise, batches.size)
    return ReusingLearner(engine, tally, noise, batches)


class ReusingLearner(Learner):
    """Gives the losses of a batch several times, or with replayed objects beside it.

    Args:
        engine: Draws, and finds losses.
        tally: Counts.
        noise: The randomness of this rank.
        batches: What is learned from.

    Attributes:
        used: Updates made with the latest batch.
    """

    def __init__(self, engine: Engine, tally: Tally, noise: Randomness, batches: Batches) -> None:
        super().__init__(engine, tally, noise, batches.size)
        self.updates, self.replay = batches.updates, batches.replay
        self.used = 0

    @torch.no_grad()  # but for losses
    def next_step(self, reward: LearnedReward) -> Step:
        """The losses of a new batch, or of the last one again."""
        self.engine.before_update()
        if self.batch is None or self.used >= self.updates:
            self._accept(self._draw(reward))
        self.used += 1
        assert self.batch is not None
        step = self.engine.learn(self._with_replayed(self.batch))
        if isinstance(self.replay, PrioritizedReplay):
            self.replay.note_errors(self.engine.parts.objective.errors)
        return step._replace(batch=self.batch)

    def _draw(self, reward: LearnedReward) -> Batch:
        policy, objective = self.engine.parts.policy, self.engine.parts.objective
        first = self._is_first()
        batch = self._first(reward) if first else self.engine.draw(self._next_noise(), reward)
        if self.updates > 1 and objective.on_policy:
            whole = objective.needs_policy
            then = self.engine.log_probabilities(policy, batch.drawn, all_actions=whole)
            batch = batch._replace(then=then)
        return batch

    def _accept(self, batch: Batch) -> None:
        super()._accept(batch)
        self.used = 0
        if self.replay is not None:
            self.replay.keep(batch.drawn)

    def _next_noise(self) -> Noise:
        replayed = 0 if self.replay is None else self.replay.size
        return self.engine.noise(self.noise, self.tally.draws, self.batch_size, replayed)

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

    @property
    def updates_made(self) -> int:
        return self.tally.draws * self.updates + self.used

    # ---- What is kept --------------------------------------------------------------------------

    def to(self, device: torch.device) -> None:
        if self.batch is not None:
            self.batch = unpacked(packed(self.batch, device))
        if self.replay is not None:
            self.replay.to(device)

    def forget(self) -> None:
        super().forget()
        self.batch, self.used = None, 0
        if self.replay is not None:
            self.replay.forget()

    def state_dict(self) -> dict[str, Any]:
        own = super().state_dict()
        if self.replay is not None:
            own["replay"] = self.replay.state_dict()
        if self.batch is not None and 0 < self.used < self.updates:
            own["used"], own["batch"] = self.used, packed(self.batch, torch.device("cpu"))
        return own

    def load_state_dict(self, own: dict[str, Any]) -> None:
        super().load_state_dict(own)
        self.used = 0
        if self.replay is not None and "replay" in own:
            self.replay.load_state_dict(own["replay"])
        if "batch" in own:
            self.used, self.batch = own["used"], unpacked(own["batch"])


def packed(batch: Batch, device: torch.device) -> list[Any]:
    """A batch as plain lists, which a checkpoint may hold."""

    def moved(part: Any) -> Any:
        if isinstance(part, tuple):
            return [moved(x) for x in part]
        return part if part is None else part.to(device)

    return [moved(part) for part in batch]


def unpacked(parts: list[Any]) -> Batch:
    """The batch that `packed` has made lists of."""
    drawn, then, log_reward_at, back, *others = parts  # of older checkpoints fewer
    return Batch(
        Trajectories(*drawn),
        then and StepLogProbs(*then),
        log_reward_at,
        back and Trajectories(*back),
        *others,
    )
