"""Whether methods differ by more than chance: each beside the best, and beside a named baseline.

The spread is pooled over all methods and seeds of a problem, less what a seed does to all methods
alike (an analysis of variance in two ways), on a scale where it is about even. The best is the best
by the data, so the largest of all differences is what chance is asked about (Tukey's test); of a
baseline that was named beforehand the largest difference from it (Dunnett's).
"""

from collections.abc import Mapping, Sequence
from functools import cache
from math import isfinite, nan, sqrt
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05  # chance of any false difference among the methods of one problem
RESOLUTION = 1e-6  # no spread is smaller: metrics of float32 networks are not known better
DRAWS = 200_000  # of the null distribution, always the same ones
UNEVEN = 10.0  # times the variance of the others, of which is said that the test is not made for it
SAME = "not distinguishable"
BEST, BASELINE = "the best", "the baseline"


class Verdict(NamedTuple):
    """What the runs say about a method beside another.

    Attributes:
        method: A method.
        other: The best of the others by its mean, or the baseline.
        beside: ``the best`` or ``the baseline``.
        difference: Mean over seeds of the method's metric less the other's; NaN if not tested.
        standard_error: Of that mean; on a logarithmic scale of the ratio, times the other's mean.
        p: Chance of a difference as large anywhere in the family if there were none.
        better: The better method, or empty.
        text: "better", "worse", "not distinguishable", or why there was no test.
    """

    method: str
    other: str
    beside: str
    difference: float
    standard_error: float
    p: float
    better: str
    text: str


class Judgement(NamedTuple):
    """All verdicts on one problem.

    Attributes:
        best: The method with the best mean of those that can be compared; empty if there is none.
        verdicts: On each other method, beside the best and beside the baseline if there is one.
        is_won: The best is better than each of the others.
        remarks: What to keep in mind.
    """

    best: str
    verdicts: list[Verdict]
    is_won: bool
    remarks: list[str]


def judge(
    values: Mapping[str, Mapping[int, float]],
    seeds: Sequence[int],
    smaller_is_better: bool,
    baseline: str | None = None,
    apart: Mapping[str, str] | None = None,
    scale: Literal["log", "plain"] = "plain",
) -> Judgement:
    """Verdicts on the methods of one problem.

    A method with runs that failed or diverged loses against all that have none: to judge it by its
    other runs would favour methods that fail.

    Args:
        values: Method -> seed -> final metric.
        seeds: All that should be there.
        smaller_is_better: Of the metric.
        baseline: A method to compare with, named before there were results.
        apart: Method -> why it cannot be compared with the others.
        scale: On which spreads are about even; ``log`` of positive metrics.
    """
    apart, whole = dict(apart or {}), {}
    failed: dict[str, str] = {}
    for method, of_seed in values.items():
        runs = [of_seed.get(seed, nan) for seed in seeds]
        bad = sum(not isfinite(x) for x in runs)
        if bad:
            failed[method] = f"worse: {bad} of {len(seeds)} runs failed"
        elif method not in apart:
            whole[method] = np.array(runs, dtype=float)
    if len(seeds) < 2:
        apart |= dict.fromkeys(whole, "not tested: one seed says nothing about chance")
    means = {method: float(runs.mean()) for method, runs in whole.items()}
    best = (min if smaller_is_better else max)(means, key=lambda m: means[m], default="")
    verdicts: list[Verdict] = []
    if len(whole) > 1 and len(seeds) > 1:
        test = _Test(whole, smaller_is_better, scale)
        # Equal means on one scale need not be so on the other: the best is that of the test.
        best = test.best
        verdicts += [test.verdict(m, best, BEST) for m in whole if m != best]
        if baseline in whole:
            verdicts += [test.verdict(m, baseline, BASELINE) for m in whole if m != baseline]
    told = {method for method, *_ in verdicts}
    for method in values:
        if method in failed and best:
            text = failed[method]
            verdicts.append(Verdict(method, best, BEST, nan, nan, nan, best, text))
        elif method in apart and method != best and method not in told:
            verdicts.append(Verdict(method, best, BEST, nan, nan, nan, "", apart[method]))
    beside_best = [v for v in verdicts if v.beside == BEST and v.method not in apart]
    is_won = bool(beside_best) and all(v.better == best for v in beside_best)
    is_won &= len(seeds) > 1 or len(whole) < 2
    return Judgement(best, verdicts, is_won, _remarks(whole, scale))


class _Test:
    """An analysis of variance by method and seed."""

    def __init__(self, whole: Mapping[str, NDArray[np.float64]], smaller: bool, scale: str) -> None:
        self.whole, self.scale = whole, scale
        sign = 1.0 if smaller else -1.0
        y = sign * np.stack([_scaled(runs, scale) for runs in whole.values()])
        methods, seeds = y.shape
        residual = y - y.mean(1, keepdims=True) - y.mean(0, keepdims=True) + y.mean()
        self.freedom = (methods - 1) * (seeds - 1)
        spread = sqrt(float((residual**2).sum()) / self.freedom)
        self.error = max(spread, RESOLUTION) * sqrt(2 / seeds)
        self.means = dict(zip(whole, y.mean(1).tolist(), strict=True))
        self.best = min(self.means, key=lambda m: self.means[m])

    def verdict(self, method: str, other: str, beside: str) -> Verdict:
        gap = self.means[method] - self.means[other]  # above 0: worse
        null = largest_gaps(len(self.whole), self.freedom, beside == BEST)
        p = float(1 - np.searchsorted(null, abs(gap) / self.error) / len(null))
        ours, theirs = float(self.whole[method].mean()), float(self.whole[other].mean())
        error = self.error * (abs(theirs) if self.scale == "log" else 1.0)
        better, text = "", SAME
        if p < LEVEL:
            better, text = (other, "worse") if gap > 0 else (method, "better")
        return Verdict(method, other, beside, ours - theirs, error, p, better, text)


@cache
def largest_gaps(methods: int, freedom: int, among_all: bool) -> NDArray[np.float64]:
    """The largest difference of means over its standard error where methods are equal, sorted.

    Args:
        methods: How many.
        freedom: Degrees of freedom of the spread.
        among_all: The largest of all pairs; else of the pairs with the first.
    """
    random = np.random.default_rng(0)
    means = random.standard_normal((DRAWS, methods))
    gaps = np.ptp(means, axis=1) if among_all else np.abs(means[:, 1:] - means[:, :1]).max(1)
    spread = np.sqrt(random.chisquare(freedom, DRAWS) / freedom)
    found: NDArray[np.float64] = np.sort(gaps / sqrt(2) / spread)
    return found


def _scaled(runs: NDArray[np.float64], scale: str) -> NDArray[np.float64]:
    return np.log(np.maximum(runs, RESOLUTION)) if scale == "log" else runs


def _remarks(whole: Mapping[str, NDArray[np.float64]], scale: str) -> list[str]:
    """Methods that spread so differently from the others that a pooled spread is not theirs."""
    variance = {m: float(_scaled(runs, scale).var(ddof=1)) for m, runs in whole.items()
                if len(runs) > 1}  # fmt: skip
    remarks = []
    for method, own in variance.items():
        others = [x for m, x in variance.items() if m != method]
        if others and own > UNEVEN * max(float(np.mean(others)), RESOLUTION**2):
            times = sqrt(own / max(float(np.mean(others)), RESOLUTION**2))
            remarks.append(
                f"{method} spreads {times:.0f} times as much as the others: what is said of it is "
                "less certain than it seems"
            )
    return remarks
