"""Objects of earlier batches, learned from again."""

from typing import Any

import torch
from torch import Tensor

from gfn_design.described import Described
from gfn_design.environments.base import Environment
from gfn_design.environments.numbering import state_hash
from gfn_design.errors import InputError
from gfn_design.policies.policy import Policy
from gfn_design.sampling.histories import sample_backward
from gfn_design.sampling.trajectories import Trajectories
from gfn_design.tensors import one_of_each


class Replay(Described):
    """Keeps the latest objects with their rewards; the backward policy redraws their histories.

    Args:
        size: How many are learned from again with each batch.
        capacity: How many are kept, the oldest dropped first.
        best: Share of `size` that is drawn from the best tenth of them by reward, the others being
            drawn from the rest; 0.5 in Shen et al. (2023). None draws from all alike.
        distinct: Keep every finished state once, and draw it in proportion to its reward: as often
            as the target would, however often it was built. Else it is kept as often as it was
            built.
    """

    def __init__(
        self,
        size: int = 128,
        capacity: int = 100_000,
        best: float | None = None,
        distinct: bool = False,
    ) -> None:
        if size < 1 or capacity < 1:
            raise InputError(f"size and capacity must be at least 1, got {size} and {capacity}")
        if best is not None and not 0 <= best <= 1:
            raise InputError(f"best must be from 0 to 1, got {best}")
        if best is not None and distinct:
            raise InputError("distinct objects are drawn by their reward; leave out best")
        self.size, self.capacity, self.best, self.distinct = size, capacity, best, distinct
        self.objects = torch.zeros(0, 0, dtype=torch.int64)
        self.log_reward = torch.zeros(0)

    def __len__(self) -> int:
        return len(self.log_reward)

    def keep(self, drawn: Trajectories) -> None:
        """Keep what was just drawn."""
        self.add(drawn.objects, drawn.log_reward)

    def recall(
        self, environment: Environment, policy: Policy, which: Tensor, uniform: Tensor
    ) -> tuple[Trajectories, Tensor | None]:
        """Trajectories to learn from again, and the weights of their steps if those alone.

        Args:
            environment: What is built.
            policy: Its backward policy draws histories.
            which: The randomness, ``float[size]`` in [0, 1).
            uniform: More of it, ``float[size, max_steps]``.

        Returns:
            Trajectories, and None if they are learned from beside the new ones, or
            ``StepLogProbs.weight`` if instead of those.
        """
        objects, log_reward = self.pick(which)
        history = sample_backward(environment, policy, objects, uniform)
        return history._replace(log_reward=log_reward), None

    def forget(self) -> None:
        """Keep nothing of what was drawn so far."""
        self.objects, self.log_reward = self.objects[:0], self.log_reward[:0]

    def add(self, objects: Tensor, log_reward: Tensor) -> None:
        """Keep objects, ``int64[batch, *state_shape]``, with their log R, ``float[batch]``."""
        if self.distinct:
            keys = state_hash(objects)
            rows, _ = one_of_each(keys)
            if len(self):
                rows = rows[~torch.isin(keys[rows], state_hash(self.objects))]
            objects, log_reward = objects[rows], log_reward[rows]
        if len(self):
            objects = torch.cat([self.objects, objects])
            log_reward = torch.cat([self.log_reward, log_reward])
        self.objects, self.log_reward = objects[-self.capacity :], log_reward[-self.capacity :]

    def to(self, device: torch.device) -> None:
        """Keep them on `device`."""
        self.objects, self.log_reward = self.objects.to(device), self.log_reward.to(device)

    def pick(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Some of the objects, with replacement, and their log R.

        Args:
            uniform: The randomness, ``float[size]`` in [0, 1).
        """
        n = len(self)
        if self.distinct:
            share = self.log_reward.double().softmax(0).cumsum(0)
            rows = torch.searchsorted(share, uniform.double() * share[-1], right=True)
            rows = rows.clamp(max=n - 1)
        elif self.best is None:
            rows = (uniform * n).long()
        else:
            order = self.log_reward.argsort(descending=True, stable=True)
            top = max(1, n // 10)
            first = torch.arange(len(uniform), device=uniform.device) < self.best * len(uniform)
            places = torch.where(first, uniform * top, top + uniform * (n - top)).long()
            rows = order[places.clamp(max=n - 1)]
        return self.objects[rows], self.log_reward[rows]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint carries."""
        return {"objects": self.objects, "log_reward": self.log_reward}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.objects, self.log_reward = state["objects"], state["log_reward"]
