"""Which objects have been built so far."""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.environments.numbering import state_hash


def object_keys(environment: Environment, objects: Tensor) -> Tensor:
    """One number per object: its index, or a 64-bit hash where states are not numbered.

    Where several states are one object, the hash is that of its text. Two of a million objects
    share a hash with a probability of about 3e-8.
    """
    if environment.several_states:
        keys = [text_hash(text) for text in environment.decode(objects)]
        return torch.tensor(keys, dtype=torch.int64, device=objects.device)
    if environment.n_states is not None:
        return environment.state_index(objects)
    return state_hash(objects)


def text_hash(text: str) -> int:
    """A number of 64 bits with its sign, the same on every machine."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


class SeenObjects:
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
            recent = gather(keys).flatten().unique().cpu()
            place = torch.searchsorted(self.keys, recent)
            is_new = torch.searchsorted(self.keys, recent, right=True) == place
            new, place = recent[is_new], place[is_new]
            place = place + torch.arange(len(new))  # among old and new
            keys = self.keys.new_empty(len(self.keys) + len(new))
            old = torch.ones_like(keys, dtype=torch.bool).index_fill(0, place, False)
            keys[place] = new
            self.keys = keys.masked_scatter_(old, self.keys)
            self._recent.clear()

    def count(self, objects: Tensor) -> int:
        """How many of `objects` have been seen."""
        return int(torch.isin(object_keys(self.environment, objects).cpu(), self.keys).sum())
