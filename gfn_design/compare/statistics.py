"""Whether methods differ by more than chance: paired t-tests over seeds, Holm's correction."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from math import atan, cos, isfinite, nan, pi, sin, sqrt
from statistics import mean, stdev
from typing import NamedTuple

LEVEL = 0.05  # chance of any false difference among the pairs of one problem
RESOLUTION = 1e-6  # no spread is smaller: metrics of float32 networks are not known better
SAME = "not distinguishable"


class Verdict(NamedTuple):
    """What the runs say about two methods.

    Attributes:
        first: A method.
        second: Another.
        difference: Mean over seeds of the first's metric less the second's; NaN if not tested.
        standard_error: Of that mean.
        p: Of Student's paired test, after Holm's correction.
        better: The better method, or empty.
        text: "X is better", "not distinguishable", or why there was no test.
    """

    first: str
    second: str
    difference: float
    standard_error: float
    p: float
    better: str
    text: str


def two_sided(t: float, freedom: int) -> float:
    """P(|T| >= |t|), T following Student's distribution.

    Args:
        t: Any number.
        freedom: Degrees of freedom, 1 or more; for whole numbers the sum is finite (Abramowitz and
            Stegun, 26.7.3 and 26.7.4).
    """
    angle, odd = atan(abs(t) / sqrt(freedom)), freedom % 2
    term, total = cos(angle) if odd else 1.0, 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= (k - 1) / k * cos(angle) ** 2
    inside = sin(angle) * total
    return max(0.0, 1 - (2 / pi * (angle + inside) if odd else inside))


def holm(p: Sequence[float]) -> list[float]:
    """p-values of which one below a level is wrong with at most that chance (Holm 1979)."""
    adjusted, least = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        least = max(least, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = least
    return adjusted


def judge(
    values: Mapping[str, Mapping[int, float]],
    seeds: Sequence[int],
    smaller_is_better: bool,
    obstacle: Callable[[str, str], str] = lambda first, second: "",
) -> list[Verdict]:
    """A verdict on each pair of methods on one problem.

    A pair in which a run is missing is not tested: to leave out the runs that failed would favour
    the method that fails.

    Args:
        values: Method -> seed -> final metric.
        seeds: All that should be there.
        smaller_is_better: Of the metric.
        obstacle: Any other reason not to test a pair, or nothing.
    """
    verdicts, p = [], []
    for first, second in combinations(values, 2):
        a, b = ([values[name].get(seed, nan) for seed in seeds] for name in (first, second))
        differences = [x - y for x, y in zip(a, b, strict=True)]
        reason = obstacle(first, second)
        if not all(map(isfinite, differences)):
            reason = reason or "not tested: runs are missing or diverged"
        elif len(seeds) < 2:
            reason = reason or "not tested: one seed says nothing about chance"
        if reason:
            verdicts.append(Verdict(first, second, nan, nan, nan, "", reason))
            continue
        difference = mean(differences)
        error = max(stdev(differences), RESOLUTION) / sqrt(len(seeds))
        p.append(two_sided(difference / error, len(seeds) - 1))
        better = first if (difference < 0) == smaller_is_better else second
        verdicts.append(Verdict(first, second, difference, error, p[-1], better, ""))
    corrected = iter(holm(p))
    return [v if v.text else _corrected(v, next(corrected)) for v in verdicts]


def _corrected(verdict: Verdict, p: float) -> Verdict:
    if p < LEVEL:
        return verdict._replace(p=p, text=f"{verdict.better} is better")
    return verdict._replace(p=p, better="", text=SAME)
