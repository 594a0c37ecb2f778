"""A few candidates out of many: good ones that are far from each other."""

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from gfn_design.errors import InputError
from gfn_design.results.candidates import Candidate, smiles_of

if TYPE_CHECKING:
    from gfn_design.designer import Designer


def pick_diverse(
    candidates: list[Candidate], module: "Designer", n: int, pick_from: str | None = None
) -> tuple[list[Candidate], str]:
    """The best candidate and others, all of them good, far from it and from each other (MaxMin).

    Each next one is that whose nearest among those picked is farthest: molecules by Tanimoto's
    similarity of fingerprints, sequences by the number of letters that differ, or of edits where
    lengths do.

    Args:
        candidates: Best first.
        module: That drew them.
        n: How many to pick.
        pick_from: Among which: ``0.7`` those of that score at least, ``QED>=0.7`` or ``logP<=3``
            those of whose columns that is true, ``top:50`` so many of the best; None the best
            tenth, but 4 n at least.

    Returns:
        Those picked, best first, and a sentence about what was given up for distance.

    Raises:
        InputError: The objects have no such distance, or none is good enough.
    """
    if not candidates:
        raise InputError("--pick: there are no candidates to pick from; draw more by -n")
    some = _good_enough(candidates, module, n, pick_from)
    smiles, texts = smiles_of(some, module), [c.text for c in some]
    wanted, n = n, min(n, len(some))
    if smiles is not None:
        from gfn_design.results.molecules import farthest

        places = farthest(smiles, n)
    elif module.environment.symbols:
        from rdkit.SimDivFilters.rdSimDivPickers import MaxMinPicker

        def differ(i: int, j: int) -> int:
            return distance(texts[i], texts[j])

        places = [0][:n]
        if n > 1:
            places = list(MaxMinPicker().LazyPick(differ, len(texts), n, firstPicks=[0]))
    else:
        raise InputError("--pick is for molecules and sequences, whose distances are known")
    picked = [some[i] for i in sorted(places)]
    mean = sum(c.score for c in picked) / len(picked)
    best = sum(c.score for c in candidates[:n]) / n
    return picked, (
        f"picked {n}{f' (not {wanted})' * (n < wanted)} far apart among {len(some):,} good ones of "
        f"{len(candidates):,}: their mean score is {mean:.4g}, that of the {n} best {best:.4g}; "
        f"the lowest is {picked[-1].score:.4g}, rank {picked[-1].rank}"
    )


class PickFrom(NamedTuple):
    """Among which candidates to pick.

    Attributes:
        top: Only among so many of the best as `bound` says.
        column: Whose values are compared; None: the score.
        sign: ``>=`` or ``<=``.
        bound: A number.
    """

    top: bool
    column: str | None
    sign: str
    bound: float


def parse(pick_from: str) -> PickFrom:
    """What ``0.7``, ``QED>=0.7`` or ``top:50`` says.

    Raises:
        InputError: It is nothing of that.
    """
    form = re.fullmatch(r"(?:(top):|(?:(\w.*?) *(>=|<=) *)?)([-+.\deE]+)", pick_from.strip())
    try:
        top, column, sign, number = form.groups() if form else (None, None, None, "")
        bound = float(number)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise InputError(
            f"--pick_from must be a score such as 0.7, a column's with >= or <= such as "
            f"'QED>=0.7', or top:50, got '{pick_from}'"
        )
    return PickFrom(top is not None, column, sign or ">=", bound)


def _good_enough(
    candidates: list[Candidate], module: "Designer", n: int, pick_from: str | None
) -> list[Candidate]:
    """The candidates that one may pick from, best first."""
    if pick_from is None:
        return candidates[: max(4 * n, len(candidates) // 10)]
    top, column, sign, bound = parse(pick_from)
    if top:
        found = candidates[: max(1, int(bound))]
    elif column is None:
        found = [c for c in candidates if c.score >= bound]
    else:
        columns = module.data.columns(module.environment, [c.text for c in candidates])
        if column not in columns:
            known = ", ".join(columns) or "none"
            raise InputError(f"--pick_from: there is no column '{column}'; there are {known}")
        better = float.__ge__ if sign == ">=" else float.__le__
        try:
            values = [float(text or "nan") for text in columns[column]]
        except ValueError as error:
            raise InputError(f"--pick_from: the column '{column}' holds no numbers") from error
        found = [c for c, value in zip(candidates, values, strict=True) if better(value, bound)]
    if not found:
        raise InputError(
            f"--pick_from {pick_from}: none of {len(candidates):,} candidates is so good (the best "
            f"score is {candidates[0].score:.4g}); set it lower, or draw more by -n"
        )
    return found


def distance(a: str, b: str) -> int:
    """How many letters differ; of different lengths how many edits lead from one to the other."""
    if len(a) == len(b):
        return sum(x != y for x, y in zip(a, b, strict=True))
    before = list(range(len(b) + 1))  # Wagner and Fischer 1974
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
        before = row
    return before[-1]
