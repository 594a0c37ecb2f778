"""A training step but for the update: draw, reward, score, compare."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from gfn_design.sampling.rollout import Sampler, sample
from gfn_design.sampling.scoring import Scorer, score
from gfn_design.sampling.trajectories import LogRewardFunction, Scored, Trajectories
from gfn_design.training.batches import Batch, Noise, Parts, draw_batch
from gfn_design.training.losses import Gradients, Losses, losses_of, total_loss
from gfn_design.training.tally import Tally


class Step(NamedTuple):
    """A training step but for the update.

    Attributes:
        batch: What was learned from.
        losses: By name.
        gradients: Of the losses' sum, by parameter, where the engine has found them already.
    """

    batch: Batch
    losses: Losses
    gradients: Gradients | None = None


class Trains(Protocol):
    """What an engine updates: a `GFlowNet`."""

    tally: Tally

    @property
    def trainer(self) -> Any:
        """Lightning's."""

    @property
    def device(self) -> torch.device:
        """Where it is."""

    @property
    def is_in_full_precision(self) -> bool:
        """Whether nothing is cast."""

    def learn_once(self) -> Step:
        """The next batch to learn from, counted, and its losses."""

    def next_noise(self, batches: int) -> list[Tensor]:
        """The randomness of the next batches, ``float[batch, max_steps]`` each."""

    def learned_reward(self) -> LogRewardFunction:
        """log R as it is learned from."""

    def check_weights(self) -> None:
        """Look at an update, unless that would be to wait for a GPU."""


class Engine:
    """How batches are drawn and learned from; every engine gives the same numbers up to rounding.

    This one is plain: one call after another, nothing remembered.

    Args:
        parts: What learns, and how.

    Attributes:
        tables: What the engine has on the device of the parts.
        takes_gradients: Steps come with their gradients.
    """

    takes_gradients = False

    def __init__(self, parts: Parts) -> None:
        self.parts, self.tables = parts, nn.ModuleList()

    def sample(self, policy: Sampler, uniform: Tensor) -> Trajectories:
        """Trajectories of a policy; see `gfn_design.sampling.rollout.sample`."""
        return sample(self.parts.environment, policy, uniform)

    def score(
        self,
        policy: Scorer,
        trajectories: Trajectories,
        all_actions: bool = False,
        relative: bool = True,
    ) -> Scored:
        """What a policy says of them; see `gfn_design.sampling.scoring.score`."""
        return score(self.parts.environment, policy, trajectories, all_actions, relative)

    def draw(self, noise: Noise, reward: LogRewardFunction) -> Batch:
        """A batch, with its rewards."""
        return draw_batch(self.parts, noise, reward, self)

    def learn(self, batch: Batch) -> Step:
        """The losses of a batch."""
        with torch.enable_grad():
            return Step(batch, losses_of(self.parts, batch, self))

    def step(self, noise: Noise, reward: LogRewardFunction) -> Step:
        """Draw a batch, and find its losses."""
        return self.learn(self.draw(noise, reward))

    def loss(self, step: Step) -> Tensor:
        """What is minimised; its ``backward`` gives the parameters their gradients."""
        return total_loss(step.losses)

    def update(self, module: Trains, optimizer: Any, closure: Callable[[], Any], most: int) -> None:
        """Update the networks, by `most` batches at most.

        Args:
            module: Learns from a batch whenever `closure` is called.
            optimizer: The one that Lightning gives to `optimizer_step`.
            closure: Likewise.
            most: Batches.
        """
        optimizer.step(closure=closure)
        module.check_weights()

    def forget(self) -> None:
        """There is another reward."""
