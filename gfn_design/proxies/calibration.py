"""How far off a model is, so that 80 of 100 measurements lie within what it states."""

import numpy as np
from numpy.typing import NDArray

from gfn_design.proxies.models import Floats

COVERAGE = 0.8  # of the interval
EDGE = 0.1  # of held-out objects are farther from the data than where the domain ends
_LADDER = np.concatenate([[0.0], np.geomspace(0.03, 30, 25)])


class Calibration:
    """From a model's own spread to a standard deviation, and to the half-width of an interval.

    The variance is a constant and a multiple of the spread's square, both chosen by the largest
    likelihood of errors on held-out groups; the interval's half-width is the standard deviation
    times the quantile of these errors in its units (split conformal prediction, Vovk et al. 2005).

    Args:
        floor: Standard deviation where the model is sure.
        factor: Of the spread.
        quantile: Standard deviations on each side of the interval.
        edge: Similarity to the nearest measured object, below which predictions are outside the
            domain.
    """

    def __init__(
        self,
        floor: float = 1.0,
        factor: float = 0.0,
        quantile: float = 1.2816,
        edge: float = 0.0,
    ) -> None:
        self.floor, self.factor, self.quantile, self.edge = floor, factor, quantile, edge

    @classmethod
    def of(cls, spread: Floats, error: Floats, similarity: Floats) -> "Calibration":
        """By what was held out.

        Args:
            spread: What the model said of itself, ``float64[n]``.
            error: Prediction minus measurement, ``float64[n]``.
            similarity: To the nearest object that the model had seen, ``float64[n]``.
        """
        size = float(np.sqrt(np.mean(error**2))) or 1e-6
        unit = size / (float(np.sqrt(np.mean(spread**2))) or 1.0)
        best = (np.inf, size, 0.0)
        for a in _LADDER[_LADDER <= 2]:
            for b in _LADDER[_LADDER <= 3]:
                variance = (a * size) ** 2 + (b * unit * spread) ** 2
                if (variance <= 0).any():
                    continue
                cost = float(np.mean(np.log(variance) + error**2 / variance))
                best = min(best, (cost, a * size, b * unit))
        made = cls(best[1], best[2])
        ratio = np.sort(np.abs(error) / made.deviation(spread))
        rank = min(int(np.ceil(COVERAGE * (len(ratio) + 1))), len(ratio)) - 1
        made.quantile = float(ratio[rank])
        made.edge = float(np.quantile(similarity, EDGE))
        return made

    def deviation(self, spread: Floats) -> Floats:
        """Standard deviations of measurements about what is predicted, ``float64[n]``."""
        return np.sqrt(self.floor**2 + (self.factor * spread) ** 2)

    def half_width(self, spread: Floats) -> Floats:
        """Of the interval that holds 80 of 100 measurements, ``float64[n]``."""
        return self.quantile * self.deviation(spread)

    def numbers(self) -> dict[str, float]:
        """What makes it, by name."""
        return {
            "floor": self.floor,
            "factor": self.factor,
            "quantile": self.quantile,
            "edge": self.edge,
        }


def coverage(spread: Floats, error: Floats, similarity: Floats, fold: NDArray[np.int64]) -> float:
    """The share of held-out errors within intervals that the other folds calibrate."""
    inside = np.zeros(len(error), dtype=bool)
    for k in np.unique(fold):
        rest, own = fold != k, fold == k
        made = Calibration.of(spread[rest], error[rest], similarity[rest])
        inside[own] = np.abs(error[own]) <= made.half_width(spread[own])
    return float(inside.mean())
