"""From a table of measurements to a proxy."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from gfn_design.errors import InputError
from gfn_design.files.measured import Measured
from gfn_design.files.texts import read_bytes
from gfn_design.proxies.calibration import Calibration, coverage
from gfn_design.proxies.comparison import (
    Data,
    HeldOut,
    compare,
    compared_on,
    held_out,
    nearest_held_out,
)
from gfn_design.proxies.groups import groups_of
from gfn_design.proxies.inputs import Inputs
from gfn_design.proxies.limits import fit_with_limits
from gfn_design.proxies.models import MODELS, Floats, Mean, Model
from gfn_design.proxies.proxy import About, Proxy

SECONDS = ("Gaussian process", "random forest")  # what judges the first, if it is not the first
SIDES = {"<": -1, "": 0, ">": 1}
Makers = Mapping[str, Callable[[], Model]]


def data_of(measured: Measured, strands: str = "both") -> Data:
    """A cleaned table as models read it, in groups that no test may split."""
    inputs = Inputs(measured.kind, measured.texts, strands)
    values = np.array([row.value for row in measured.rows], dtype=np.float64)
    limits = np.array([SIDES[row.limit] for row in measured.rows], dtype=np.int8)
    return Data(inputs, values, limits, groups_of(inputs))


class Fitted:
    """A proxy, and how it came about.

    Attributes:
        proxy: For use.
        results: Of all models on held-out groups, by name.
        compared: The objects they were compared on.
        similarity: Of each of them to the nearest one of another fold.
    """

    def __init__(
        self, proxy: Proxy, results: dict[str, HeldOut], compared: Data, similarity: Floats
    ) -> None:
        self.proxy, self.results = proxy, results
        self.compared, self.similarity = compared, similarity

    @property
    def chosen(self) -> HeldOut:
        """What the model that was taken said of held-out groups."""
        return self.results[self.proxy.about.model]


def fit_proxy(
    measured: Measured,
    source: Path,
    strands: str = "both",
    models: Makers = MODELS,
    say: Callable[[str, HeldOut, Data], None] = lambda *_: None,
    anyway: bool = False,
) -> Fitted:
    """Compare models on held-out groups, take the simplest good one, calibrate it, fit it to all.

    Args:
        measured: A cleaned table.
        source: The file it is from.
        strands: ``both`` or ``given``, of DNA.
        models: To compare, the simplest first.
        say: Is told of each result as it comes.
        anyway: Take the best model though the mean is as good.

    Raises:
        InputError: There is too little data, or no model beats the mean.
    """
    data = data_of(measured, strands)
    some = compared_on(data)
    name, results = compare(models, some, lambda model, found: say(model, found, some))
    beats = name != Mean.name
    if not beats:
        name = _best_of_the_rest(results, measured, source, anyway)
    found, near = results[name], nearest_held_out(some)
    made, figures = _calibrated(found, results, near, some)
    figures["beats_mean"] = float(beats)
    figures |= {"objects": float(len(data.values)), "groups": float(len(set(data.groups)))}
    second, judged = _second(name, some, measured, strands)
    about = About(
        measured.kind,
        measured.quantity,
        strands,
        source.name,
        hashlib.sha256(read_bytes(source)).hexdigest(),
        name,
        second,
        figures | {"second_r2": judged.r2(some.values)},
        made.numbers(),
        measured.texts,
        [row.name for row in measured.rows],
        data.values.tolist(),
        data.limits.tolist(),
    )
    first = models[name]()
    fit_with_limits(first, data.inputs, data.values, data.limits)
    judge = MODELS[second]()
    other = Inputs(measured.kind, measured.texts, strands, second=True)
    fit_with_limits(judge, other, data.values, data.limits)
    return Fitted(Proxy(about, first, judge), results, some, near)


def _best_of_the_rest(
    results: Mapping[str, HeldOut], measured: Measured, source: Path, anyway: bool
) -> str:
    """The best model but the mean, which is as good."""
    if not anyway:
        raise InputError(
            f"{source}: no model predicts {measured.quantity} of held-out groups better than its "
            "mean does, so there is nothing to design by; add data, or look whether its numbers "
            "belong to its objects (--anyway takes the best model all the same)"
        )
    others = [other for other in results if other != Mean.name]
    return min(others, key=lambda other: float(results[other].of_folds().mean()))


def _calibrated(
    found: HeldOut, results: Mapping[str, HeldOut], near: Floats, some: Data
) -> tuple[Calibration, dict[str, float]]:
    """By what a model said of held-out groups, its calibration, and figures of it."""
    exact = found.exact
    parts = (found.guess.spread[exact], found.error[exact], near[exact])
    return Calibration.of(*parts), {
        "r2": found.r2(some.values),
        "rmse": float(np.sqrt(np.mean(found.error**2))),
        "mean_rmse": float(np.sqrt(np.mean(results[Mean.name].error ** 2))),
        "coverage": coverage(*parts, found.fold[exact]),
    }


def _second(name: str, some: Data, measured: Measured, strands: str) -> tuple[str, HeldOut]:
    """The better one of those models that the first is not, reading other parts of objects."""
    texts = some.inputs.texts
    data = some._replace(inputs=Inputs(measured.kind, texts, strands, second=True))
    found = {other: held_out(MODELS[other], data) for other in SECONDS if other != name}
    best = min(found, key=lambda other: float(found[other].of_folds().mean()))
    return best, found[best]
