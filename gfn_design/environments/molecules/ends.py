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


class Limits(NamedTuple):
    """What a molecule of fragments must be like.

    Attributes:
        min_blocks: Fragments, at least.
        max_blocks: At most.
        closed: It must not stop with an open end.
        name: Of the fragments, for messages.
    """

    min_blocks: int
    max_blocks: int
    closed: bool
    name: str


def block_tables(pieces: list[Piece], core: Piece | None, limits: Limits) -> dict[str, Tensor]:
    """What an environment of fragments looks up: the buffers of `Fragments` by name.

    Args:
        pieces: The fragments.
        core: The first of every molecule, if it is always the same.
        limits: Of a molecule.

    Raises:
        InputError: Some molecule could neither grow nor stop.
    """
    every = [*pieces, *([] if core is None else [core])]
    roots = range(len(pieces)) if core is None else [len(pieces)]
    _check_points(pieces, [every[root] for root in roots], limits)
    sizes = [0, *(len(piece.fragment.points) for piece in every)]  # first: no block
    pairs = [
        (number, point)
        for number, piece in enumerate(pieces)
        for point in range(len(piece.fragment.points))
        if piece.fragment.entry in (None, point)
    ]
    pair_of = torch.zeros(len(every), max(sizes), dtype=torch.int64)
    first = torch.zeros(len(every), dtype=torch.int64)
    for pair, (fragment, point) in reversed(list(enumerate(pairs))):
        pair_of[fragment, point] = first[fragment] = pair
    ends = ends_of(every, pairs)
    _check_ends(ends, roots, limits)
    least = 1 + (ends.kind_of > 0).sum(1)[1:] if limits.closed else first.clamp(max=0)
    begins = [  # the action of the pair may also be the first
        first[fragment] == pair and least[fragment] <= limits.max_blocks
        for pair, (fragment, _) in enumerate(pairs)
    ]
    return {
        "sizes": torch.tensor(sizes),
        "pair_of": pair_of.flatten(),
        "first_pair": first,
        "pair_fragment": torch.tensor([fragment for fragment, _ in pairs]),
        "pair_point": torch.tensor([point for _, point in pairs]),
        "kind_of": ends.kind_of,
        "fits": ends.fits,
        "pair_opens": ends.opens,
        "begins": torch.tensor(begins),
    }


def _check_points(pieces: list[Piece], roots: list[Piece], limits: Limits) -> None:
    """Every molecule can grow to `min_blocks`: one that could not must not be begun."""
    grows = any(len(piece.fragment.points) > 1 for piece in pieces)
    least = min(len(piece.fragment.points) for piece in roots) + 1
    if not grows and least < limits.min_blocks:
        raise InputError(
            f"{limits.name}: no fragment has two points, so that some molecules end with {least} "
            f"blocks; min_blocks is {limits.min_blocks}"
        )


def _check_ends(ends: Ends, roots: Sequence[int], limits: Limits) -> None:
    """No molecule may come to where it can neither grow nor stop."""
    min_blocks, max_blocks, closed, name = limits
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
