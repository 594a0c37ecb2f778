"""What two runs say together: the mixture of both, what both build, what one builds and not both.

After the compositions of Garipov et al. (2023), "Compositional Sculpting of Iterative Generative
Processes". With p_A and p_B the probabilities that two policies build an object with, and
a = p_A / (p_A + p_B), objects of the mixture (p_A + p_B) / 2 are kept with probability 4 a (1 - a),
which leaves their harmonic mean p_A p_B / (p_A + p_B): what both build; and objects of A with
probability a, which leaves p_A^2 / (p_A + p_B): what A builds and B does not. Keeping so is exact,
whatever the policies are, where p_A and p_B are.
"""

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from gfn_design.errors import InputError
from gfn_design.evaluation.evaluate import estimated_log_probability, log_probability_of
from gfn_design.evaluation.exact import terminating_distribution
from gfn_design.sampling.noise import CANDIDATES, CHOICES, uniform_noise

if TYPE_CHECKING:
    from gfn_design.designer import Designer

How = Literal["mixture", "and", "not"]
BATCH = 1024
MOST_BATCHES = 500


class Composed(NamedTuple):
    """Objects of two runs together.

    Attributes:
        objects: ``int64[n, *state_shape]``, as they came; some may be equal.
        share: a of each, ``float64[n]``.
        log_p: log of the probabilities that A and B build each with, in nats, ``float64[n, 2]``.
        drawn: How many were drawn for them.
        exact: Whether these probabilities are exact, and so what is drawn; else they are estimated
            from some histories of each object.
    """

    objects: Tensor
    share: Tensor
    log_p: Tensor
    drawn: int
    exact: bool


def check_pair(first: "Designer", second: "Designer", how: str) -> None:
    """Refuse runs that build different things.

    Raises:
        InputError: They do, or there is no such composition.
    """
    if how not in get_args(How):
        raise InputError(f"--how must be one of {', '.join(get_args(How))}, got '{how}'")
    ours, theirs = first.environment.describe(), second.environment.describe()
    if ours != theirs:
        raise InputError(f"the runs build different things, {ours} and {theirs}")


@torch.no_grad()
def compose(first: "Designer", second: "Designer", how: How, n: int, seed: int = 0) -> Composed:
    """Draw objects of two runs together.

    Args:
        first: A.
        second: B.
        how: ``mixture``, ``and`` or ``not``.
        n: How many; fewer come back if hardly any are kept.
        seed: Of the draws.

    Raises:
        InputError: The runs build different things, or nothing is kept.
    """
    check_pair(first, second, how)
    objects, shares, log_ps, drawn, exact = [], [], [], 0, True
    kept = 0
    for turn in range(MOST_BATCHES):
        nth = seed * 2**32 + turn
        uniform = uniform_noise((BATCH, 2), first.device, first.draw_seed, CHOICES, 0, nth)
        some = _drawn(first, second, how, uniform[:, 0], nth)
        log_p, is_exact = log_probabilities_of(first, second, some)
        share = log_p.softmax(1)[:, 0]
        keep = uniform[:, 1].double() < kept_with(share, how)
        objects.append(some[keep])
        shares.append(share[keep])
        log_ps.append(log_p[keep])
        drawn, exact, kept = drawn + BATCH, exact and is_exact, kept + int(keep.sum())
        if kept >= n:
            break
    if not kept:
        raise InputError(
            f"of {drawn:,} objects drawn none is of both; the runs have nothing in common, or must "
            "be trained longer"
        )
    together = [torch.cat(parts)[:n] for parts in (objects, shares, log_ps)]
    return Composed(together[0], together[1], together[2], drawn, exact)


def kept_with(share: Tensor, how: How) -> Tensor:
    """The probability with which an object is kept, by a: ``float64[n]``."""
    if how == "mixture":
        return torch.ones_like(share)
    return 4 * share * (1 - share) if how == "and" else share


def _drawn(first: "Designer", second: "Designer", how: How, lots: Tensor, nth: int) -> Tensor:
    """Objects of A, or of either of both."""
    ours = first.draw(BATCH, CANDIDATES, nth).objects
    if how == "not":
        return ours
    theirs = second.draw(BATCH, CANDIDATES, nth + 2**31).objects
    of_first = (lots < 0.5).view(-1, *[1] * (ours.dim() - 1))
    return ours.where(of_first, theirs)


def log_probabilities_of(
    first: "Designer", second: "Designer", objects: Tensor
) -> tuple[Tensor, bool]:
    """log of the probabilities that both build objects with, ``float64[n, 2]``; whether exactly."""
    columns, exact = [], True
    for module in (first, second):
        found = log_probability_of(module, objects)
        if found is None:
            found, exact = estimated_log_probability(module, objects), False
        columns.append(found.double())
    return torch.stack(columns, 1), exact


@torch.no_grad()
def distribution(first: "Designer", second: "Designer", how: How) -> tuple[Tensor, Tensor]:
    """The exact law of a composition, where all objects can be listed.

    Args:
        first: A, of an environment whose states can be numbered.
        second: B.
        how: ``mixture``, ``and`` or ``not``.

    Returns:
        ``state_index`` of every finished state in rising order, and its probability in float64.
    """
    check_pair(first, second, how)
    laws = [terminating_distribution(m.environment, m.policy) for m in (first, second)]
    (indices, p), (_, q) = laws
    if how == "mixture":
        return indices, (p + q) / 2
    both = p + q
    found = torch.where(both > 0, (p * q if how == "and" else p * p) / both, 0.0)
    return indices, found / found.sum()
