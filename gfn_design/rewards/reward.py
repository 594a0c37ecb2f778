"""What is wanted: a score of finished objects, turned into a positive reward."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gfn_design.errors import InputError

MAX_NUMBER = 1e30  # of exponents, scales, bounds: far beyond use, and float32 still holds it


class Reward(nn.Module):
    """log R(x) = exponent * log(clip(score(x))) + log(scale).

    Args:
        score: Module from objects ``int64[batch, *state_shape]`` to ``float[batch]``.
        exponent: The inverse temperature beta; larger prefers the best objects more.
        scale: Factor of every reward.
        minimum: Smaller scores count as this one, which must be positive; None clips nothing, and
            a score that is not positive then has no log-reward.
        maximum: Larger scores count as this one; None clips nothing.
    """

    def __init__(
        self,
        score: nn.Module,
        exponent: float = 1.0,
        scale: float = 1.0,
        minimum: float | None = None,
        maximum: float | None = None,
    ) -> None:
        super().__init__()
        if not scale > 0:
            raise InputError(f"scale must be positive, since a reward is, got {scale}")
        if minimum is not None and not minimum > 0:
            raise InputError(f"minimum must be positive, since a reward is, got {minimum}")
        if maximum is not None and not maximum > (minimum or 0):
            raise InputError(f"maximum must exceed {minimum or 0}, got {maximum}")
        options = {"exponent": exponent, "scale": scale, "minimum": minimum, "maximum": maximum}
        for name, value in options.items():
            if value is not None and not -MAX_NUMBER <= value <= MAX_NUMBER:
                raise InputError(f"{name} must lie within ±{MAX_NUMBER:g}, got {value}")
        self.score, self.exponent, self.log_scale = score, exponent, math.log(scale)
        self.minimum, self.maximum = minimum, maximum

    def forward(self, objects: Tensor) -> Tensor:
        """log R in nats, ``float[batch]``; not finite where the score is NaN or not positive."""
        return self.log_of(self.score(objects))

    def log_of(self, score: Tensor, exponent: Tensor | None = None) -> Tensor:
        """log R of objects of this score, ``float[batch]``, each with its own exponent if given."""
        if self.minimum is not None or self.maximum is not None:
            score = score.clamp(self.minimum, self.maximum)
        return (self.exponent if exponent is None else exponent) * score.log() + self.log_scale

    def at(self, objects: Tensor, settings: Mapping[str, Tensor]) -> Tensor:
        """log R of each object at a setting of its own, ``float[batch]``.

        Args:
            objects: ``int64[batch, *state_shape]``.
            settings: ``exponent``, and by the titles of terms how many times their weight they
                have, ``float[batch]`` each.

        Raises:
            InputError: The score has no terms.
        """
        weights = {name: x for name, x in settings.items() if name != "exponent"}
        if weights and not hasattr(self.score, "at"):
            raise InputError("conditions.weights are of terms; take MoleculeData or SequenceData")
        score: Any = self.score
        found = score.at(objects, weights) if weights else score(objects)
        return self.log_of(found, settings.get("exponent"))


class LogReward(Reward):
    """log R(x) = score(x) / temperature, of a score that is a logarithm already.

    Args:
        score: Module from objects ``int64[batch, *state_shape]`` to ``float[batch]``, in nats.
        temperature: The smaller, the more the best objects are preferred.
    """

    def __init__(self, score: nn.Module, temperature: float = 1.0) -> None:
        if not temperature > 0:
            raise InputError(f"temperature must be positive, got {temperature}")
        if not 1 / MAX_NUMBER <= temperature <= MAX_NUMBER:
            raise InputError(f"temperature must be at most {MAX_NUMBER:g}, got {temperature}")
        super().__init__(score, exponent=1 / temperature)

    def log_of(self, score: Tensor, exponent: Tensor | None = None) -> Tensor:
        return (self.exponent if exponent is None else exponent) * score


class TableScore(nn.Module):
    """Looks up measured scores of sequences by what they spell, never by row.

    Args:
        table: ``float[V ** length]``; entry ``sum_j x_j V^(length - 1 - j)`` belongs to x.
        length: Symbols in each sequence.
    """

    table: Tensor
    places: Tensor

    def __init__(self, table: Tensor, length: int) -> None:
        super().__init__()
        size = round(len(table) ** (1 / length))
        if size**length != len(table):
            raise InputError(f"a table of {len(table)} scores is no power {length} of an alphabet")
        places = torch.tensor([size**j for j in reversed(range(length))])
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("places", places, persistent=False)

    def forward(self, objects: Tensor) -> Tensor:
        return self.table[(objects * self.places).sum(-1)]


class HypergridScore(nn.Module):
    """R0 + R1 where every |x/(H-1) - 1/2| > 0.25, + R2 where every one is in (0.3, 0.4).

    The reward of Bengio et al. (2021): modes near the corners, deserts between them. The bounds
    are compared in whole numbers, so that cells on a bound are outside on every side of the grid.

    Args:
        height: Cells along each coordinate.
        r0: Reward everywhere; the smaller, the harder to find the modes.
        r1: Added in the outer quarters.
        r2: Added in the modes.
    """

    levels: Tensor  # of each coordinate: 2 in a mode, 1 elsewhere in the outer quarters, else 0
    values: Tensor  # by the lowest level of a cell's coordinates

    def __init__(self, height: int, r0: float = 0.01, r1: float = 0.5, r2: float = 2.0) -> None:
        super().__init__()
        span = height - 1
        off_centre = 10 * (2 * torch.arange(height) - span).abs()
        outer = off_centre > 5 * span
        mode = (off_centre > 6 * span) & (off_centre < 8 * span)  # inside of the outer quarters
        values = torch.tensor([r0, r0 + r1, r0 + r1 + r2])
        self.register_buffer("levels", outer.long() + mode, persistent=False)
        self.register_buffer("values", values, persistent=False)

    def regions(self, objects: Tensor) -> tuple[Tensor, Tensor]:
        """Whether each cell is in the outer quarters, and in a mode: ``bool[batch]`` each."""
        level = self.level(objects)
        return level >= 1, level == 2

    def level(self, objects: Tensor) -> Tensor:
        """The lowest level of each cell's coordinates, ``int64[batch]``."""
        return self.levels[objects].amin(-1)

    def forward(self, objects: Tensor) -> Tensor:
        return self.values[self.level(objects)]
