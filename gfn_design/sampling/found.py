"""Which objects have been built so far."""

from collections.abc import Callable

import torch
from torch import Tensor

from gfn_design.environments.base import Environment


def object_keys(environment: Environment, objects: Tensor) -> Tensor:
    """One number per object: its index, or a hash where states are not numbered."""
    if environment.n_states is not None:
        return environment.state_index(objects)
    return object_hash(objects)


def object_hash(objects: Tensor) -> Tensor:
    """A number for each object that another object hardly has: ``int64[batch]``.

    Two of a million objects share one with a probability of about 3e-8.
    """
    slots = objects.flatten(1) + 2
    key = torch.zeros(len(slots), dtype=torch.int64, device=slots.device)
    for slot in slots.unbind(1):  # mix the high bits down, multiply, add: wraps around in int64
        key = (key ^ (key >> 29 & 2**35 - 1)) * -0x61C8864680B583EB + slot
    return key ^ (key >> 32 & 2**32 - 1)  # the masks make the shifts fill up with zeros


class Found:
    """The set of distinct objects seen, as sorted keys.

    Attributes:
        keys: ``int64[distinct]``, sorted.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.keys = torch.empty(0, dtype=torch.int64)
        self._recent: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, objects: Tensor) -> None:
        """Note objects ``int64[batch, *state_shape]``; cheap, `update` does the work."""
        self._recent.append(objects)

    def update(self, gather: Callable[[Tensor], Tensor]) -> None:
        """Merge what was noted since the last call, on all ranks (`gather` collects from them)."""
        if self._recent:
            keys = object_keys(self.environment, torch.cat(self._recent))
            recent = gather(keys).flatten().cpu().unique()
            new = recent[~torch.isin(recent, self.keys)]
            self.keys = torch.cat([self.keys, new]).sort().values
            self._recent.clear()

    def count(self, objects: Tensor) -> int:
        """How many of `objects` have been seen."""
        return int(torch.isin(object_keys(self.environment, objects).cpu(), self.keys).sum())
