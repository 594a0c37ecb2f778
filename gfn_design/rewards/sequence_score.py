"""The score of a sequence that several things are wanted of."""

from abc import abstractmethod
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


class Counted(nn.Module):
    """What follows from how many letters a sequence has, and how many of some: ``float64[batch]``.

    Args:
        counted: Letters that are counted; none where the length alone matters.
        lowest: The smallest value.
        highest: The largest.
    """

    def __init__(self, counted: list[int], lowest: float, highest: float) -> None:
        super().__init__()
        self.counted, self.lowest, self.highest = counted, lowest, highest

    @abstractmethod
    def of_counts(self, counted: Tensor, length: Tensor) -> Tensor:
        """The value of sequences with so many letters, ``int64[...]`` each: ``float64[...]``."""

    def forward(self, objects: Tensor) -> Tensor:
        length = (objects >= 0).sum(1)
        counted = torch.zeros_like(length)
        for letter in self.counted:
            counted = counted + (objects == letter).sum(1)
        return self.of_counts(counted, length)


class Share(Counted):
    """The share of G and C.

    Args:
        environment: Whose letters they are.
    """

    def __init__(self, environment: Sequence | Edits) -> None:
        super().__init__([i for i, x in enumerate(environment.symbols) if x in "GC"], 0.0, 1.0)

    def of_counts(self, counted: Tensor, length: Tensor) -> Tensor:
        return counted.double() / length.clamp(min=1)


class Length(Counted):
    """The number of letters.

    Args:
        environment: Knows how long sequences are.
    """

    def __init__(self, environment: Sequence | Edits) -> None:
        super().__init__([], float(environment.min_length), float(environment.length))

    def of_counts(self, counted: Tensor, length: Tensor) -> Tensor:
        return length.double()
