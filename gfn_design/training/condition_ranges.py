"""What a policy is told: how much the best are preferred, and what counts how much."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gfn_design.errors import InputError

_RANGE = re.compile(r"\s*([\d.eE+-]+?)\s*\.\.\s*([\d.eE+-]+)\s*")


@dataclass(frozen=True)
class Conditions:
    """What a policy is told with each question: drawn at random in training, chosen afterwards.

    Args:
        exponent: From..to, as ``1..16``, drawn evenly on a logarithmic scale.
        weights: Of terms of the reward by their titles, from..to, drawn evenly; as many times the
            weight that the term has, 1 among them.
        knots: At how many values of each the network answers by itself; between them it is
            interpolated.
    """

    exponent: str | None = None
    weights: dict[str, str] = field(default_factory=dict)
    knots: int = 7

    def __post_init__(self) -> None:
        if self.knots < 2:
            raise InputError(f"conditions.knots must be at least 2, got {self.knots}")
        if self.exponent is None and not self.weights:
            raise InputError("conditions: say what is to be chosen, as in exponent: 1..16")
        for name, (low, high) in self.ranges.items():
            if not (0 <= low < high < math.inf) or (name == "exponent" and low <= 0):
                raise InputError(
                    f"conditions.{name} must go from a number to a larger one, both "
                    f"{'positive' if name == 'exponent' else 'not negative'}, got {low:g}..{high:g}"
                )

        for name in self.weights:
            low, high = self.ranges[name]
            if not low <= 1 <= high:
                raise InputError(
                    f"conditions.weights.{name} are times the weight that the term has: it must "
                    f"hold 1, as 0.5..2 does, got {low:g}..{high:g}"
                )

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Of each condition, by name; the exponent is the first."""
        given = {} if self.exponent is None else {"exponent": self.exponent}
        found = {}
        for name, text in (given | self.weights).items():
            match = _RANGE.fullmatch(str(text))
            try:
                found[name] = (float(match[1]), float(match[2])) if match else (math.nan, math.nan)
            except ValueError:
                found[name] = math.nan, math.nan
            if math.isnan(found[name][0]):
                raise InputError(f"conditions.{name} must be from..to, as 1..16, got '{text}'")
        return found

    @property
    def size(self) -> int:
        """How many knots there are in all."""
        return self.knots * len(self.ranges)

    def drawn(self, uniform: Tensor) -> Tensor:
        """Settings at random, ``float[n, conditions]``, by numbers in [0, 1) of the same shape."""
        columns = [
            low * (high / low) ** u if name == "exponent" else low + (high - low) * u
            for (name, (low, high)), u in zip(self.ranges.items(), uniform.unbind(1), strict=True)
        ]
        return torch.stack(columns, 1)

    def mix(self, settings: Tensor) -> Tensor:
        """How answers at the knots are mixed at settings, ``float[n, size]``.

        Of each condition the two knots next to it share it; what follows from several adds up.
        """
        parts = []
        for (name, (low, high)), x in zip(self.ranges.items(), settings.unbind(1), strict=True):
            share = (
                (x / low).log() / math.log(high / low)
                if name == "exponent"
                else (x - low) / (high - low)
            )
            place = share.clamp(0, 1) * (self.knots - 1)
            at = torch.arange(self.knots, device=x.device, dtype=x.dtype)
            parts.append((1 - (place[:, None] - at).abs()).clamp(min=0))
        return torch.cat(parts, 1)

    def row(self, given: Mapping[str, float]) -> Tensor:
        """One setting, ``float[1, conditions]``.

        Raises:
            InputError: A condition is missing, unknown or outside its range.
        """
        ranges = self.ranges
        if unknown := [name for name in given if name not in ranges]:
            raise InputError(
                f"there is no condition '{unknown[0]}'; this run knows {', '.join(ranges)}"
            )
        for name, value in given.items():
            low, high = ranges[name]
            if not low <= value <= high:
                raise InputError(
                    f"{name} was learned from {low:g} to {high:g}, got {value:g}; nothing is known "
                    "of it outside"
                )
        usual = {name: 1.0 for name in ranges}
        missing = [name for name in ranges if name not in given and name == "exponent"]
        if missing:
            raise InputError(f"say {missing[0]}, as in {missing[0]}={ranges[missing[0]][1]:g}")
        return torch.tensor([[float((usual | dict(given))[name]) for name in ranges]])
