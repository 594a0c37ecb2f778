"""An engine that learns from the objects of a library, walked back, in place of what it draws."""

import torch
from torch import Tensor

from gfn_design.errors import InputError
from gfn_design.sampling.histories import sample_backward
from gfn_design.sampling.noise import TRAINING, Randomness
from gfn_design.sampling.trajectories import LogRewardFunction
from gfn_design.training.engine import Batch, Noise
from gfn_design.training.extras import EngineWithExtras


class FromLibrary(EngineWithExtras):
    """Batches are objects of a library, each with a history that the backward policy draws.

    Attributes:
        objects: The library, ``int64[n, *state_shape]``; see `take`.
    """

    objects: Tensor | None = None

    def take(self, objects: Tensor) -> None:
        """Learn from these."""
        self.objects = objects

    def noise(self, numbers: Randomness, nth: int, size: int, replayed: int = 0) -> Noise:
        columns = self.parts.environment.max_steps + 1  # the first says which object it is
        return Noise(numbers(size, TRAINING, nth, columns))

    @torch.no_grad()
    def draw(self, noise: Noise, reward: LogRewardFunction) -> Batch:
        if self.objects is None:
            raise InputError("MaximumLikelihood learns from a library; take LibraryData")
        environment, policy = self.parts.environment, self.parts.policy
        self.objects = self.objects.to(noise.drawn.device)
        row = (noise.drawn[:, 0] * len(self.objects)).long()
        return Batch(sample_backward(environment, policy, self.objects[row], noise.drawn[:, 1:]))

    def rewards_asked(self, batch: Batch) -> int:
        return 0
