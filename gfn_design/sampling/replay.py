"""Objects of earlier batches, learned from again."""

from typing import Any

import torch
from torch import Tensor

from gfn_design.errors import InputError


class Replay:
    """Keeps the latest objects with their rewards; the backward policy redraws their histories.

    Args:
        size: How many are learned from again with each batch.
        capacity: How many are kept, the oldest dropped first.
        best: Share of `size` that is drawn from the best tenth of them by reward, the others being
            drawn from the rest; 0.5 in Shen et al. (2023). None draws from all alike.
    """

    def __init__(self, size: int = 128, capacity: int = 100_000, best: float | None = None, distinct: bool = False, alpha: float = 0.0) -> None:
        self.distinct, self.alpha = distinct, alpha
        if size < 1 or capacity < 1:
            raise InputError(f"size and capacity must be at least 1, got {size} and {capacity}")
        if best is not None and not 0 <= best <= 1:
            raise InputError(f"best must be from 0 to 1, got {best}")
        self.size, self.capacity, self.best = size, capacity, best
        self.objects = torch.zeros(0, 0, dtype=torch.int64)
        self.log_reward = torch.zeros(0)

    def __len__(self) -> int:
        return len(self.log_reward)

    def add(self, objects: Tensor, log_reward: Tensor) -> None:
        """Keep objects, ``int64[batch, *state_shape]``, with their log R, ``float[batch]``."""
        if self.distinct:
            from gfn_design.sampling.distinct import one_of_each
            from gfn_design.sampling.found import object_hash
            rows, _ = one_of_each(object_hash(objects))
            objects, log_reward = objects[rows], log_reward[rows]
            if len(self):
                new = ~torch.isin(object_hash(objects), object_hash(self.objects))
                objects, log_reward = objects[new], log_reward[new]
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
        if self.alpha:
            c = (self.alpha * (self.log_reward - self.log_reward.max())).double().exp().cumsum(0)
            rows = torch.searchsorted(c, uniform.double() * c[-1]).clamp(max=n - 1)
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
