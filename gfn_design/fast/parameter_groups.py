"""Parameters that are updated alike, in one tensor."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

ALIGNED = 16  # numbers: a line of the cache
OWN_KERNEL_NUMBERS = 2**14  # numbers: to copy so many costs more than a kernel of their own


class Group(NamedTuple):
    """Parameters that Adam updates alike, in one tensor: kernels for each take long to compile.

    Large ones have a group to themselves, so that their gradients are not copied.

    Attributes:
        place: Which of Adam's own groups they are from.
        names: Of the parameters.
        shapes: Of the parameters.
    """

    place: int
    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    def flat(self, tensors: Iterable[Tensor]) -> Tensor:
        """One for each parameter, end to end, each beginning at a multiple of `ALIGNED`."""
        if len(self.names) == 1:  # itself: a view
            return next(iter(tensors)).flatten()
        flat = []
        for x in tensors:
            flat.append(x.flatten())
            if gap := -x.numel() % ALIGNED:
                flat.append(x.new_zeros(gap))
        return torch.cat(flat)

    def parts(self, flat: Tensor) -> list[Tensor]:
        """The inverse of `flat`, as views."""
        if len(self.names) == 1:
            return [flat.view(self.shapes[0])]
        sizes = [shape.numel() for shape in self.shapes]
        places = flat.split([n + -n % ALIGNED for n in sizes])
        shaped = zip(places, sizes, self.shapes, strict=True)
        return [place[:n].view(shape) for place, n, shape in shaped]


def apart(parameters: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    """The small ones together, and each large one by itself."""
    small = [p for p in parameters if p.numel() < OWN_KERNEL_NUMBERS]
    large = [[p] for p in parameters if p.numel() >= OWN_KERNEL_NUMBERS]
    return [small, *large] if small else large
