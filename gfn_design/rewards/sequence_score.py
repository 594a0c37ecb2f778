"""The score of a sequence that several things are wanted of."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gfn_design.environments.sequences.edits import Edits
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.errors import InputError
from gfn_design.rewards.desirability import combined
from gfn_design.rewards.levels import Levels


class SequenceScore(nn.Module):
    """The weighted geometric mean of desirabilities, each of a value rounded to levels.

    Args:
        read: From states to letters ``int64[batch, length]``.
        values: Of each term, from letters to values ``float64[batch]``;
            they know their `lowest` and `highest`.
        names: Of each, for messages.
        wants: What is wanted of each; see `desirability`.
        weights: Of each.
        n_levels: About how many of each.
        minimum: Smaller desirabilities count as this one.
    """

    weights: Tensor

    def __init__(
        self,
        read: Callable[[Tensor], Tensor],
        values: list[nn.Module],
        names: list[str],
        wants: list[str],
        weights: list[float],
        n_levels: int,
        minimum: float,
    ) -> None:
        super().__init__()
        self.read, self.terms = read, nn.ModuleList(values)
        self.levels = nn.ModuleList(
            levels_of(name, want, value, n_levels, minimum)
            for name, want, value in zip(names, wants, values, strict=True)
        )
        self.register_buffer("weights", torch.tensor(weights).double(), persistent=False)

    def values(self, objects: Tensor) -> Tensor:
        """The value of every term: ``float64[batch, terms]``."""
        letters = self.read(objects)
        return torch.stack([term(letters) for term in self.terms], 1)

    def of_worths(self, worths: Tensor) -> Tensor:
        """The score of desirabilities ``float64[n, terms]``: ``float64[n]``."""
        return combined(worths, self.weights, "product")

    def forward(self, objects: Tensor) -> Tensor:
        values = self.values(objects).unbind(1)
        worths = [levels(x) for levels, x in zip(self.levels, values, strict=True)]
        return self.of_worths(torch.stack(worths, 1)).float()


def levels_of(name: str, want: str, value: nn.Module, n_levels: int, minimum: float) -> Levels:
    """The levels of a term."""
    try:
        return Levels(want, *range_of(value), n_levels, minimum)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def range_of(value: nn.Module) -> tuple[float, float]:
    """The smallest and the largest value that a term can have."""
    lowest, highest = value.lowest, value.highest
    assert isinstance(lowest, float)
    assert isinstance(highest, float)
    return lowest, highest


class Share(nn.Module):
    """The share of G and C: ``float64[batch]``.

    Args:
        environment: Whose letters they are.
    """

    lowest, highest = 0.0, 1.0

    def __init__(self, environment: Sequence | Edits) -> None:
        super().__init__()
        self.counted = [i for i, symbol in enumerate(environment.symbols) if symbol in "GC"]

    def forward(self, objects: Tensor) -> Tensor:
        counted = sum((objects == letter).sum(1) for letter in self.counted)
        return torch.as_tensor(counted).double() / (objects >= 0).sum(1).clamp(min=1)


class Length(nn.Module):
    """The number of letters: ``float64[batch]``.

    Args:
        environment: Knows how long sequences are.
    """

    def __init__(self, environment: Sequence | Edits) -> None:
        super().__init__()
        self.lowest, self.highest = float(environment.min_length), float(environment.length)

    def forward(self, objects: Tensor) -> Tensor:
        return (objects >= 0).sum(1).double()
