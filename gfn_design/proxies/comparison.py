"""Which model to trust: all of them on groups that they have not seen."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gfn_design.errors import InputError
from gfn_design.proxies.groups import FOLDS, folds_of
from gfn_design.proxies.inputs import Inputs, Reference
from gfn_design.proxies.limits import errors, fit_with_limits
from gfn_design.proxies.models import AT_ONCE, Floats, Guess, Model

MOST = 10_000  # objects that models are compared on
FEWEST = 20


class Data(NamedTuple):
    """Objects with what was measured of them.

    Attributes:
        inputs: The objects.
        values: Numbers, ``float64[n]``.
        limits: -1 where the truth is below the number, 1 where above, else 0.
        groups: Names of groups that no test may split.
    """

    inputs: Inputs
    values: Floats
    limits: NDArray[np.int8]
    groups: list[str]

    def take(self, rows: NDArray[np.int64]) -> "Data":
        """Some of them."""
        groups = [self.groups[i] for i in rows]
        return Data(self.inputs.take(rows), self.values[rows], self.limits[rows], groups)


class HeldOut(NamedTuple):
    """What a model said of objects, none of whose group it had seen.

    Attributes:
        guess: For each object.
        error: Prediction minus measurement; of limits what is on the wrong side of them.
        fold: Of each object.
        exact: Whether it is no limit.
    """

    guess: Guess
    error: Floats
    fold: NDArray[np.int64]
    exact: NDArray[np.bool_]

    def of_folds(self) -> Floats:
        """Mean squared errors, fold by fold."""
        folds = np.unique(self.fold)
        return np.array([np.mean(self.error[self.fold == k] ** 2) for k in folds])

    def r2(self, values: Floats) -> float:
        """The share of the variance of exact numbers that is explained."""
        exact = self.exact
        return float(1 - np.mean(self.error[exact] ** 2) / max(values[exact].var(), 1e-12))


def check(data: Data) -> None:
    """Refuse what nothing can be said of.

    Raises:
        InputError: There are too few objects or groups, or no two numbers.
    """
    exact = data.values[data.limits == 0]
    n_groups = len(set(data.groups))
    if len(exact) < FEWEST or n_groups < FOLDS:
        raise InputError(
            f"{len(exact):,} objects with an exact number in {n_groups:,} groups are too few to "
            f"test a model on; it takes {FEWEST} in {FOLDS}: add data"
        )
    if exact.max() == exact.min():
        raise InputError(f"all numbers are {exact[0]:g}; there is nothing to learn")


def held_out(make: Callable[[], Model], data: Data) -> HeldOut:
    """Fit a model without each fold in turn, and ask it of that fold."""
    fold = folds_of(data.groups)
    mean, spread = np.zeros(len(fold)), np.zeros(len(fold))
    for k in np.unique(fold):
        rest, own = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        model, seen = make(), data.take(rest)
        fit_with_limits(model, seen.inputs, seen.values, seen.limits)
        mean[own], spread[own] = model.predict(data.inputs.take(own))
    error = errors(mean, data.values, data.limits)
    return HeldOut(Guess(mean, spread), error, fold, data.limits == 0)


def nearest_held_out(data: Data) -> Floats:
    """The similarity of each object to the nearest one of another fold, ``float64[n]``."""
    fold, counts = folds_of(data.groups), data.inputs.counts
    found = np.zeros(len(fold))
    for k in np.unique(fold):
        others, own = Reference(counts[fold != k]), np.flatnonzero(fold == k)
        for start in range(0, len(own), AT_ONCE):
            rows = own[start : start + AT_ONCE]
            found[rows] = others.similarity(counts[rows]).max(1)
    return found


def simplest(results: Mapping[str, HeldOut]) -> str:
    """The first of the models, the simplest first, that is not clearly worse than the best.

    It is if its mean squared error exceeds that of the best by no more than the standard error of
    their difference over folds.
    """
    of_folds = {name: result.of_folds() for name, result in results.items()}
    best = min(of_folds, key=lambda name: float(of_folds[name].mean()))
    for name, squares in of_folds.items():
        excess = squares - of_folds[best]
        if excess.mean() <= excess.std(ddof=1) / np.sqrt(len(excess)):
            return name
    return best


def compare(
    models: Mapping[str, Callable[[], Model]],
    data: Data,
    say: Callable[[str, HeldOut], None] = lambda *_: None,
) -> tuple[str, dict[str, HeldOut]]:
    """All models on held-out groups.

    Args:
        models: By name, the simplest first.
        data: To learn from.
        say: Is told of each result.

    Returns:
        The name of the one to take, and what each said.

    Raises:
        InputError: There is too little data.
    """
    check(data)
    results = {}
    for name, make in models.items():
        results[name] = held_out(make, data)
        say(name, results[name])
    return simplest(results), results


def compared_on(data: Data) -> Data:
    """The objects that models are compared on: all, or evenly chosen ones of very many."""
    n = len(data.values)
    return data if n <= MOST else data.take(np.linspace(0, n - 1, MOST).astype(int))


def verdict(r2: float) -> str:
    """In words whether a model learns anything of what it has not seen."""
    for least, words in ((0.6, "yes, well"), (0.3, "yes, modestly"), (0.1, "hardly")):
        if r2 >= least:
            return words
    return "no"
