"""The score of a sequence that several things are wanted of."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from gfn_design.environments.sequences.edits import Edits
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.errors import InputError
from gfn_design.rewards.desirability import combined, desirability, multiplied
from gfn_design.rewards.levels import Levels
from gfn_design.rewards.scorer import Scorer
from gfn_design.untraced import untraced


class SequenceScore(nn.Module):
    """The weighted geometric mean of desirabilities, each of a value rounded to levels.

    Args:
        read: From states to letters ``int64[batch, length]``.
        values: Of each term, from letters to values ``float64[batch]``; those that know their
            `lowest` and `highest` are rounded to levels.
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
        self.read, self.terms, self.names = read, nn.ModuleList(values), names
        self.levels = nn.ModuleList(
            levels_of(name, want, value, n_levels, minimum)
            for name, want, value in zip(names, wants, values, strict=True)
        )
        self.register_buffer("weights", torch.tensor(weights).double(), persistent=False)

    @property
    def gap(self) -> float:
        """By how much the log of the score is rounded down to levels, at most, in nats."""
        gaps = [x.gap if isinstance(x, Levels) else 0.0 for x in self.levels]
        return float((self.weights.cpu() / self.weights.cpu().sum()) @ torch.tensor(gaps).double())

    def values(self, objects: Tensor) -> Tensor:
        """The value of every term, of states: ``float64[batch, terms]``."""
        return self.values_of(self.read(objects))

    def values_of(self, letters: Tensor) -> Tensor:
        """The same of letters ``int64[batch, length]``."""
        return torch.stack([term(letters) for term in self.terms], 1)

    def of_worths(self, worths: Tensor) -> Tensor:
        """The score of desirabilities ``float64[n, terms]``: ``float64[n]``."""
        return combined(worths, self.weights, "product")

    def worths(self, objects: Tensor) -> Tensor:
        """The desirability of every term, of states: ``float64[batch, terms]``."""
        values = self.values(objects).unbind(1)
        return torch.stack([levels(x) for levels, x in zip(self.levels, values, strict=True)], 1)

    def forward(self, objects: Tensor) -> Tensor:
        return self.of_worths(self.worths(objects)).float()

    def at(self, objects: Tensor, times: Mapping[str, Tensor]) -> Tensor:
        """The score with other weights of terms: so many times theirs, for each object."""
        weights = multiplied(self.weights, self.names, times)
        return combined(self.worths(objects), weights, "product").float()


def levels_of(name: str, want: str, value: nn.Module, n_levels: int, minimum: float) -> nn.Module:
    """What values of a term are worth: on levels, if it is known which values there are."""
    if not hasattr(value, "lowest"):
        return Unrounded(want, minimum)
    try:
        return Levels(want, *range_of(value), n_levels, minimum)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


class Unrounded(nn.Module):
    """What values are worth, as they are.

    Args:
        want: What is wanted; see `desirability`.
        minimum: Smaller desirabilities count as this one, as does what has no value.
    """

    def __init__(self, want: str, minimum: float) -> None:
        super().__init__()
        self.want, self.minimum = want, minimum

    def forward(self, values: Tensor) -> Tensor:
        """The desirability of values."""
        worth = desirability(self.want)(values.nan_to_num())
        return worth.where(values.isfinite(), 0.0).clamp(min=self.minimum)


class Asked(nn.Module):
    """What somebody's function or program says of sequences: ``float64[batch]``; NaN if nothing.

    Args:
        scorer: Who asks.
        write: Writes letters ``int64[batch, length]`` as texts.
        which: Of several numbers.
    """

    def __init__(
        self, scorer: Scorer, write: Callable[[Tensor], list[str]], which: int = 0
    ) -> None:
        super().__init__()
        self.scorer, self.write, self.which = scorer, write, which

    @untraced("this score is found in Python")
    def forward(self, objects: Tensor) -> Tensor:
        rows = self.scorer(self.write(objects))
        scores = [math.nan if row is None else row[self.which] for row in rows]
        return torch.tensor(scores, dtype=torch.float64, device=objects.device)


def range_of(value: nn.Module) -> tuple[float, float]:
    """The smallest and the largest value that a term can have."""
    lowest, highest = value.lowest, value.highest
    assert isinstance(lowest, float)
    assert isinstance(highest, float)
    return lowest, highest


class Summed(nn.Module):
    """What follows from a sum over letters, each with units of its own, and from the length.

    Args:
        units: Of each letter at each place, ``int64[longest or 1, letters]``; in a table of one
            row the place does not matter.
        lowest: The smallest value.
        highest: The largest.
    """

    units: Tensor

    def __init__(self, units: Tensor, lowest: float, highest: float) -> None:
        super().__init__()
        self.lowest, self.highest = lowest, highest
        self.register_buffer("units", units, persistent=False)

    @abstractmethod
    def of_sums(self, total: Tensor, length: Tensor) -> Tensor:
        """The value of sequences of such sums and lengths: ``int64[...]`` to ``float64[...]``."""

    def forward(self, objects: Tensor) -> Tensor:
        written = objects >= 0
        place = torch.arange(objects.shape[1], device=objects.device).clamp(max=len(self.units) - 1)
        units = self.units[place, objects.clamp(min=0)]
        return self.of_sums((units * written).sum(1), written.sum(1))


class Share(Summed):
    """The share of G and C.

    Args:
        environment: Whose letters they are.
    """

    def __init__(self, environment: Sequence | Edits) -> None:
        counted = [symbol in "GC" for symbol in environment.symbols]
        super().__init__(torch.tensor([counted]).long(), 0.0, 1.0)

    def of_sums(self, total: Tensor, length: Tensor) -> Tensor:
        return total.double() / length.clamp(min=1)


class Length(Summed):
    """The number of letters.

    Args:
        environment: Knows how long sequences are.
    """

    def __init__(self, environment: Sequence | Edits) -> None:
        units = torch.zeros(1, len(environment.symbols), dtype=torch.int64)
        super().__init__(units, float(environment.min_length), float(environment.length))

    def of_sums(self, total: Tensor, length: Tensor) -> Tensor:
        return length.double()
