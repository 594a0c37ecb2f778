"""Which designs to measure next: by what a proxy expects of them, and by how unsure it is."""

import math
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gfn_design.errors import InputError
from gfn_design.files.measured import same_object
from gfn_design.proxies.inputs import Inputs, Reference
from gfn_design.proxies.models import Floats, Gaussian
from gfn_design.proxies.proxy import Proxy
from gfn_design.results.candidates import Candidate, texts_of
from gfn_design.rewards.proxy_values import Predictor

if TYPE_CHECKING:
    from gfn_design.designer import Designer

Acquisition = Literal["ucb", "ei", "thompson"]
NAMES = {
    "ucb": "upper confidence bounds",
    "ei": "expected improvement",
    "thompson": "Thompson sampling",
}
SPARE = 4  # times as many as are picked, by their scores, if too few are as wanted
BOLD = 1.0  # standard deviations above the mean, of upper confidence bounds
TOO_ALIKE = 0.7  # similarity to a picked one, from which on a design is not picked while others are


def pick_to_measure(
    candidates: list[Candidate], module: "Designer", n: int, how: Acquisition, seed: int = 0
) -> tuple[list[Candidate], str]:
    """Designs of which a measurement would be worth most, none almost like another.

    Of designs that were not measured yet, are as wanted and in the proxy's domain; if these are
    fewer than asked for, of the four times as many in the domain that have the best scores. With
    ``ucb`` the mean and one standard deviation count; with ``ei`` by how much a measurement is
    expected to exceed the best one so far (Jones et al. 1998); with ``thompson`` each is the best
    one of a possible truth, drawn from what the proxy knows.

    Args:
        candidates: Best first.
        module: That drew them; its data asks a proxy.
        n: How many to pick.
        how: ``ucb``, ``ei`` or ``thompson``.
        seed: Of Thompson sampling.

    Returns:
        Those picked, best first by their score, and a sentence on them.

    Raises:
        InputError: No proxy is asked, it is not said whether more or less of what it predicts is
            better, or there are no candidates that were not measured.
    """
    proxy, _, _, sign = _who_says(module, how)
    if not candidates:
        raise InputError("--pick: there are no candidates to pick from; draw more by -n")
    new = _not_measured(candidates, proxy)
    if not new:
        raise InputError(
            f"--pick_by {how}: all {len(candidates):,} candidates are measured already; draw more "
            "by -n"
        )
    some, which = _as_wanted_else(new, module, proxy, n)
    texts = texts_of(some)
    counts = Inputs(proxy.about.kind, texts, proxy.about.strands).counts
    found = proxy.predict(texts)
    mean = sign * found.mean
    deviation = (found.high - found.low) / 2 / proxy.calibration.quantile
    known = zip(proxy.about.values, proxy.about.limits, strict=True)
    best = max(sign * value for value, side in known if side == 0)
    if how == "thompson":
        worth = _possible(proxy, counts, mean, deviation, sign, n, seed)
    else:
        one = mean + BOLD * deviation if how == "ucb" else improvement(mean, deviation, best)
        worth = np.repeat(one[None], n, 0)
    places = _greedy(worth, counts, min(n, len(some)))
    picked = sorted((some[i] for i in places), key=lambda c: c.rank)
    picked = [c._replace(rank=i) for i, c in enumerate(picked, 1)]
    expected, unsure = sign * float(np.mean(mean[places])), float(np.mean(deviation[places]))
    return picked, (
        f"picked {len(picked)} by {NAMES[how]} among {which} of {len(candidates):,}: "
        f"expected {proxy.about.quantity} {expected:.2f} +- {unsure:.2f} on average, "
        f"the best measured is {sign * best:.2f}"
    )


def improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """By how much a normal number is expected to exceed `best`, where below counts as nothing."""
    z = (mean - best) / deviation
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    above = 0.5 * np.array([math.erfc(-x / math.sqrt(2)) for x in z])
    return deviation * (z * above + density)


def _who_says(module: "Designer", how: Acquisition) -> Predictor:
    """The proxy that designs are picked by: the first of which more, or less, is wanted."""
    if how not in get_args(Acquisition):
        given = ", ".join(get_args(Acquisition))
        raise InputError(f"--pick_by must be distance, {given}, got '{how}'")
    predictors: list[Predictor] = getattr(module.data, "predictors", [])
    if not predictors:
        raise InputError(f"--pick_by {how} needs a proxy among the terms; pick by distance")
    found = next((it for it in predictors if it.sign), None)
    if found is None:
        raise InputError(
            f"--pick_by {how}: whether more or less of {predictors[0].proxy.about.quantity} is "
            "better is not said; want '>= ...' or '<= ...' of it, or pick by distance"
        )
    return found


def _not_measured(candidates: list[Candidate], proxy: Proxy) -> list[Candidate]:
    """Those that a proxy has not learned from."""
    about = proxy.about
    known = {same_object(text, about.kind, about.strands) for text in about.texts}
    texts = texts_of(candidates)
    keys = [same_object(text, about.kind, about.strands) for text in texts]
    return [c for c, key in zip(candidates, keys, strict=True) if key not in known]


def _as_wanted_else(
    candidates: list[Candidate], module: "Designer", proxy: Proxy, n: int
) -> tuple[list[Candidate], str]:
    """Candidates that are in the domain and as wanted, or the best if these are too few; and which.

    They are best first.
    """
    environment = module.environment
    near = proxy.predict(texts_of(candidates)).similarity >= proxy.edge
    good = module.data.as_wanted(environment, environment.encode([c.text for c in candidates]))
    wanted = near & (True if good is None else good.numpy(force=True))
    if wanted.sum() >= n:
        found = [c for c, is_fit in zip(candidates, wanted, strict=True) if is_fit]
        return found, f"the {len(found):,} that are as wanted"
    inside = near if near.sum() >= n else np.ones(len(candidates), dtype=bool)
    best = [c for c, is_in in zip(candidates, inside, strict=True) if is_in][: SPARE * n]
    where = "in the domain " * bool(near.sum() >= n)
    return best, (
        f"the {len(best):,} {where}with the best scores, since {int(wanted.sum()):,} are as wanted,"
    )


def _possible(
    proxy: Proxy,
    counts: NDArray[np.uint8],
    mean: Floats,
    deviation: Floats,
    sign: int,
    n: int,
    seed: int,
) -> Floats:
    """What designs could be worth, `n` times, jointly where the model knows how."""
    rng = np.random.default_rng(seed)
    if not isinstance(proxy.model, Gaussian):
        return mean + deviation * rng.normal(size=(n, len(mean)))
    return sign * proxy.model.process.sample(counts, n, rng)


def _greedy(worth: Floats, counts: NDArray[np.uint8], n: int) -> list[int]:
    """Places of the best for each row of what they are worth, none too much like another."""
    alike = Reference(counts).similarity(counts)
    places: list[int] = []
    free = np.ones(len(counts), dtype=bool)
    for row in worth[:n]:
        fit = free & (alike[:, places].max(1, initial=0) < TOO_ALIKE)
        allowed = fit if fit.any() else free
        best = int(np.where(allowed, row, -np.inf).argmax())
        places.append(best)
        free[best] = False
    return places
