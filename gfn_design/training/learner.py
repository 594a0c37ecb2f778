"""What comes after what: one new batch after the other, each learned from once."""

import logging
from typing import Any

import torch

from gfn_design.ranks import joined, together
from gfn_design.sampling.noise import Randomness
from gfn_design.sampling.trajectories import Trajectories
from gfn_design.training.engine import Batch, Engine, Noise, Step
from gfn_design.training.rewarding import LearnedReward, calibrate
from gfn_design.training.tally import Tally

_log = logging.getLogger(__name__)


class Learner:
    """Gives the losses of one batch after the other.

    Args:
        engine: Draws, and finds losses.
        tally: Counts.
        noise: The randomness of this rank.
        batch_size: Trajectories of a batch.

    Attributes:
        batch: The latest that was drawn here.
        updates: Of the networks, with each batch.
    """

    updates = 1

    def __init__(self, engine: Engine, tally: Tally, noise: Randomness, batch_size: int) -> None:
        self.engine, self.tally, self.noise = engine, tally, noise
        self.batch_size = batch_size
        self.batch: Batch | None = None
        self.data: Any = None  # whose rewards are learned from

    @torch.no_grad()  # but for losses
    def next_step(self, reward: LearnedReward) -> Step:
        """The losses of the next batch.

        Args:
            reward: log R as it is learned from.
        """
        self.engine.before_update()
        if self._is_first():
            step = self.engine.learn(self._first(reward))
        else:
            step = self.engine.step(self._next_noise(), reward)
        self._accept(step.batch)
        return step

    def _is_first(self) -> bool:
        """Whether a batch has to tell the scale of rewards before it is learned from."""
        return self.tally.draws == 0 and not bool(self.engine.parts.objective.calibrated)

    def _first(self, reward: LearnedReward) -> Batch:
        """The first batch, its log-rewards as they are learned from once it has told the scale."""
        batch = self.engine.draw(self._next_noise(), reward)
        drawn, parts = batch.drawn, self.engine.parts
        together(lambda: self.tally.check_rewards(drawn.objects, drawn.log_reward))
        calibrate(parts.objective, self.engine.log_probabilities(parts.policy, drawn), joined)
        return self.engine.rescaled(batch, reward)

    def _next_noise(self) -> Noise:
        """The randomness of the next batch."""
        return self.engine.noise(self.noise, self.tally.draws, self.batch_size)

    def _accept(self, batch: Batch) -> None:
        """Count a batch that was just drawn."""
        drawn = batch.drawn
        asked = self.engine.rewards_asked(batch)
        self.tally.record_draw(drawn.objects, drawn.log_reward, asked)
        self.batch = batch
        self.engine.after_batch()

    @property
    def updates_made(self) -> int:
        """Of the networks, by the batches so far."""
        return self.tally.draws

    def latest(self) -> Trajectories:
        """The latest trajectories that were drawn here."""
        assert self.batch is not None
        return self.batch.drawn

    # ---- What is kept --------------------------------------------------------------------------

    def to(self, device: torch.device) -> None:
        """Move what is learned from again; a checkpoint is read before that is known."""

    def learn_from(self, data: Any) -> None:
        """A fit begins: nothing of another DataModule than the last one is learned from again."""
        if data is not self.data and self.data is not None:
            _log.info("another DataModule: what was kept of batches before is forgotten")
            self.forget()
        self.data = data

    def forget(self) -> None:
        """Keep nothing of batches before."""
        if self.engine.parts.backward is not None:
            self.engine.parts.backward.forget()

    def state_dict(self) -> dict[str, Any]:
        """What a rank remembers of its own, for a checkpoint."""
        backward = self.engine.parts.backward
        return {} if backward is None else {"memory": backward.memories()}

    def load_state_dict(self, own: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.batch = None
        backward = self.engine.parts.backward
        if backward is not None and "memory" in own:
            backward.remember(own["memory"])
