"""Which ends of fragments may be joined, as tables, and whether every molecule comes to an end."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gfn_design.environments.molecules.attachment import Piece
from gfn_design.environments.molecules.links import Links, fit
from gfn_design.errors import InputError


class Ends(NamedTuple):
    """The ends of fragments.

    A pair is a fragment and that point of it which goes to the block before.

    Attributes:
        kind_of: What kind of end each point of each fragment is, 0 if nothing fits it or it is not
            there: ``int64[1 + fragments, points]``, the first row for no fragment.
        fits: Which pairs fit each kind: ``bool[1 + kinds, pairs]``.
        opens: How many points that something fits each pair adds: ``int64[pairs]``.
    """

    kind_of: Tensor
    fits: Tensor
    opens: Tensor


def ends_of(pieces: Sequence[Piece], pairs: Sequence[tuple[int, int]]) -> Ends:
    """The tables of fragments.

    Args:
        pieces: All fragments.
        pairs: By which points which of them may be added to a molecule.
    """

    def links(piece: Piece, point: int) -> Links:
        return piece.links.get(piece.fragment.points[point], frozenset())

    of_points = [[links(p, point) for point in range(len(p.fragment.points))] for p in pieces]
    kinds = sorted({x for of_piece in of_points for x in of_piece}, key=sorted)
    fits = torch.zeros(len(kinds) + 1, len(pairs), dtype=torch.bool)
    for row, kind in enumerate(kinds, 1):
        for pair, (fragment, point) in enumerate(pairs):
            fits[row, pair] = fit(kind, of_points[fragment][point])
    kind_of = torch.zeros(len(pieces) + 1, max(map(len, of_points)), dtype=torch.int64)
    for number, of_piece in enumerate(of_points, 1):
        for point, kind in enumerate(of_piece):
            row = kinds.index(kind) + 1
            kind_of[number, point] = row if fits[row].any() else 0
    grows = (kind_of[1:] > 0).long()
    opens = [int(grows[fragment].sum() - grows[fragment, point]) for fragment, point in pairs]
    return Ends(kind_of, fits, torch.tensor(opens))


def check_ends(
    ends: Ends, roots: Sequence[int], min_blocks: int, max_blocks: int, closed: bool, name: str
) -> None:
    """No molecule may come to where it can neither grow nor stop.

    Args:
        ends: See there.
        roots: The fragments that may be the first.
        min_blocks: Of a molecule.
        max_blocks: Of a molecule.
        closed: It must not stop with an open end.
        name: Of the fragments, for messages.

    Raises:
        InputError: It may.
    """
    kind_of, fits, opens = ends
    at_first = (kind_of > 0).sum(1)[[root + 1 for root in roots]]
    if min_blocks > 1 and (at_first == 0).any():
        raise InputError(
            f"{name}: to some fragments no other fits, so that they are molecules by "
            f"themselves; min_blocks is {min_blocks}, set it to 1"
        )
    goes_on = opens == 1 if closed else opens > 0
    used = kind_of[kind_of > 0].unique()
    if min_blocks > 2 and not (fits[used] & goes_on).any(1).all():
        rest = "do not lead on to exactly one other" if closed else "end there"
        raise InputError(
            f"{name}: to some ends only fragments fit that {rest}, so that some molecules stay "
            f"small; min_blocks is {min_blocks}, set it to 2 or less"
        )
    if not closed:
        return
    if not (fits[used] & (opens == 0)).any(1).all():
        raise InputError(
            f"{name}: some ends no fragment fits that could cap them; add such fragments "
            "(mine with a smaller --at_least) or set closed: false"
        )
    if (least := 1 + int(at_first.min())) > max_blocks:
        raise InputError(
            f"{name}: with closed: true the smallest molecule has {least} blocks; set max_blocks "
            f"to {least} or more"
        )
