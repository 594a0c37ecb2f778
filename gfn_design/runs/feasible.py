"""Can it be reached at all? What share of all objects is as wanted, before anything is trained."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from gfn_design.config import build_section
from gfn_design.config.check import Object
from gfn_design.config.root import ROOT
from gfn_design.data.base import DataModule
from gfn_design.environments.base import Environment
from gfn_design.environments.sequences.words import TooManyStatesError
from gfn_design.errors import InputError
from gfn_design.evaluation.by_chance import Chance, by_chance
from gfn_design.evaluation.exact import target_distribution
from gfn_design.evaluation.transfer import TransferTarget, log_sums
from gfn_design.rewards.automaton import RewardAutomaton
from gfn_design.runs.run import open_run
from gfn_design.runs.term_shares import by_term, near_run
from gfn_design.sampling.noise import EVALUATION

EXPONENTS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # times the one that is configured
HALF = 0.5  # of the samples are as wanted, by an exponent
POINTS = 5  # of the curve between two of those, on which it is found
LOOSENINGS = (*(0.25 * k for k in range(1, 9)), 3.0, 4.0, 6.0, 8.0)  # in what counts half
LISTED = 2_000_000  # states up to which all objects are looked at, where there is no automaton;
DRAWN = 2000  # else so many built at random
FEW = 30  # of them, effectively, that tell nothing


class Rate(NamedTuple):
    """What the target is like at an exponent.

    Attributes:
        hits: How often it is as wanted.
        spread: Its effective number of objects, as a logarithm, or of samples.
        tells: Whether it is known well enough.
    """

    hits: float
    spread: float
    tells: bool = True


def feasible(config: Mapping[str, Any], near: Path | None = None) -> Iterator[str]:
    """Lines on what is wanted of what can be built; see `TransferTarget`.

    Args:
        config: Of a run; it is not trained.
        near: The folder of a run whose draws are looked at, in place of all that can be built; its
            policy takes the place of the environment.

    Raises:
        InputError: Nothing is as wanted, or nothing says what is.
    """
    if near is not None:
        yield from _near(config, near)
        return
    section = config["model"]["environment"]
    environment = build_section(section, Object("Environment"), "model.environment")
    data = build_section(config["data"], ROOT["data"], "data")
    data.prepare_data()
    data.ready(environment, torch.device("cpu"))
    yield from of_parts(environment, data)


def _near(config: Mapping[str, Any], near: Path) -> Iterator[str]:
    """The same of what a run draws: how often prior times reward would be as wanted."""
    module = open_run(near).module
    data = build_section(config["data"], ROOT["data"], "data")
    data.prepare_data()
    data.ready(module.environment, module.device)
    yield from data.remarks()
    drawn = near_run(module.draw(DRAWN, EVALUATION, 0).objects)
    yield f"objects: {DRAWN:,} that {near} draws; exponents weigh these"
    yield from _by_objects(drawn, module.environment, data, float(DRAWN), all_of_them=False)


def of_parts(environment: Environment, data: DataModule) -> Iterator[str]:
    """The same of an environment, and of data that is ready."""
    automaton = None
    try:
        automaton = data.automaton(environment)
    except TooManyStatesError as error:
        yield f"what is exact is not known: {error}"
    yield from data.remarks()
    n_states = environment.n_states
    if automaton is not None:
        yield from _exactly(automaton, environment, data)
    elif n_states is not None and n_states <= LISTED and not data.asks_others:
        listed = target_distribution(environment, lambda x: torch.zeros(len(x)).double()).objects
        zeros = torch.zeros(len(listed), dtype=torch.float64)
        yield f"objects: {len(listed):,}, all of which were looked at"
        everything = Chance(listed, zeros)
        yield from _by_objects(everything, environment, data, len(listed), all_of_them=True)
    else:
        drawn = by_chance(environment, DRAWN)
        effective = drawn.share(torch.ones(DRAWN))[1]
        yield f"objects: about {_power(drawn.log_number())}, by {DRAWN:,} built at random"
        yield f"(which tell as much as {effective:.0f} drawn evenly)"
        yield from _by_objects(drawn, environment, data, effective, all_of_them=False)


def _exactly(
    automaton: RewardAutomaton, environment: Environment, data: DataModule
) -> Iterator[str]:
    good = automaton.all_hit
    counted = [np.where(hit, 0.0, -np.inf) for hit in (*automaton.hits, good)]
    size, *each, both = log_sums(automaton, [np.zeros_like(automaton.log_reward), *counted])
    yield f"objects: {_power(size)}"
    for name, number in zip(automaton.terms, each, strict=True):
        yield f"as wanted by {name}: {math.exp(number - size):.3g} of them"
    if both == -math.inf:
        try:
            TransferTarget(automaton).check()
        except InputError as error:
            raise InputError(f"{error}{_nearest(environment, data)}") from error
        yield "as wanted by all: none, for the best that is asked for is beyond what there is"
        return
    yield f"as wanted by all: {math.exp(both - size):.3g}, that is {_power(both)}"

    def rates(exponents: list[float]) -> list[Rate]:
        weights = []
        for exponent in exponents:
            log_reward = automaton.log_reward * exponent
            weights += [log_reward, np.where(good, log_reward, -np.inf), 2 * log_reward]
        found = iter(log_sums(automaton, weights))
        # How diverse it is: by the sum of squares of all probabilities.
        return [
            Rate(math.exp(hits - log_z), 2 * log_z - squares)
            for log_z, hits, squares in zip(found, found, found, strict=True)
        ]

    yield "how often the exact target is as wanted, and how many objects it is as diverse as:"
    yield from _ladder(rates, _exponent(data), lambda found: f"of {_power(found.spread)}")


def _ladder(
    rates: Callable[[list[float]], list[Rate]], configured: float, spread: Callable[[Rate], str]
) -> Iterator[str]:
    """Lines on exponents, and the one by which half of the samples are as wanted."""
    found = dict(zip(EXPONENTS, rates([*EXPONENTS]), strict=True))
    for factor in EXPONENTS:
        here = "  (as configured)" if factor == 1 else ""
        rounded = f"{found[factor].hits:.3g}"
        yield f"  exponent {configured * factor:g}: {rounded}, {spread(found[factor])}{here}"
    known = [factor for factor in EXPONENTS if found[factor].tells]
    below = [factor for factor in known if found[factor].hits < HALF]
    above = [factor for factor in known if found[factor].hits >= HALF]
    if len(known) < len(EXPONENTS) and not (below and above):
        yield "by which exponent half of the samples are as wanted, training must show"
        return
    if not above:
        largest = configured * EXPONENTS[-1]
        yield f"half of the samples are not as wanted at any exponent up to {largest:g}"
        return
    low, high = max(below, default=0.0), min(above)
    if low and low < high:
        tried = np.geomspace(low, high, POINTS + 2)
        hits = [found[low].hits, *(x.hits for x in rates(tried[1:-1].tolist())), found[high].hits]
        high = float(np.exp(np.interp(HALF, hits, np.log(tried))))
    yield f"half of the samples are as wanted at exponent {configured * high:.3g}" + (
        "" if low else ", or a smaller one"
    )


def _nearest(environment: Environment, data: DataModule) -> str:
    """The tightest wishes that something meets, each loosened by as much."""
    for amount in LOOSENINGS:
        looser = data.loosened(amount)
        try:
            automaton = None if looser is None else looser.automaton(environment)
        except TooManyStatesError:
            automaton = None
        if looser is None or automaton is None:
            return ""
        (number,) = log_sums(automaton, [np.where(automaton.all_hit, 0.0, -np.inf)])
        if number > -math.inf:
            wishes = " and ".join(map(" ".join, looser.wishes()))
            return f"; loosened alike, {wishes} would be met by {_power(number)}"
    return ""


def _by_objects(
    drawn: Chance,
    environment: Environment,
    data: DataModule,
    effective: float,
    all_of_them: bool,
) -> Iterator[str]:
    """Lines by objects that stand for all, or are all."""
    n = len(drawn.objects)
    good = data.as_wanted(environment, drawn.objects)
    if good is None:
        raise InputError(
            f"{type(data).__name__} does not say what is as wanted, only how good objects are; "
            "take SequenceData or MoleculeData, whose terms have a want"
        )
    yield from by_term(drawn, environment, data)
    about = "" if all_of_them else "about "
    if not good.any():
        rarely = f", so probably fewer than {3 / effective:.2g} of all" if effective >= FEW else ""
        few = "" if all_of_them else f"{rarely}, or none at all"
        yield f"as wanted by all: none of the {n:,}{few}"
        return
    yield f"as wanted by all: {about}{drawn.share(good)[0]:.3g} of them"
    log_reward = data.make_reward(environment)(drawn.objects).double()

    def rates(exponents: list[float]) -> list[Rate]:
        found = [drawn.share(good, log_reward * exponent) for exponent in exponents]
        return [Rate(hits, some, all_of_them or some >= FEW) for hits, some in found]

    if all_of_them:
        yield "how often the exact target is as wanted, and how many objects it is as diverse as:"
        yield from _ladder(rates, _exponent(data), lambda found: f"of {found.spread:,.0f}")
        return
    yield "how often the target is as wanted, and by how many of those drawn, effectively:"
    yield from _ladder(rates, _exponent(data), _said)


def _said(found: Rate) -> str:
    few = "" if found.tells else "; too few to tell"
    return f"by {found.spread:.0f}{few}"


def _exponent(data: DataModule) -> float:
    return float(getattr(data, "exponent", 1.0))


def _power(log_number: float) -> str:
    """A number of which the natural logarithm is known."""
    if log_number < math.log(1e7):
        return f"{math.exp(log_number):,.0f}"
    return f"10^{log_number / np.log(10):.1f}"
