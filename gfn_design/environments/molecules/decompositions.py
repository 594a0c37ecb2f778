"""In how many ways a molecule can be put together from fragments, and one of them.

A way is a rooted tree of fragments with a point at both ends of each join. Take a way together with
one of the Aut(M) ways to lay what it spells on the molecule M: that is a partition of the atoms of
M into pieces between which there are single bonds outside rings, a root among the pieces, for each
piece a map of its fragment onto it, and for each atom that is joined d times, of m points, one of
m (m - 1) ... (m - d + 1) choices of points. These are counted by dynamic programming over the bonds
that may be joins, from the leaves in, and divided by |Aut(M)|.
"""

from collections import Counter
from math import perm
from typing import TYPE_CHECKING, NamedTuple

from gfn_design.environments.molecules.attachment import Piece, outline
from gfn_design.environments.molecules.automorphisms import count_automorphisms
from gfn_design.environments.molecules.links import Links, fit

if TYPE_CHECKING:
    from rdkit.Chem import Mol

COEFFICIENT_BITS = (
    192  # bits of a coefficient; polynomials are whole numbers, whose products are fast
)

ANY: Links = frozenset()
Bond = tuple[int, int]  # from an atom to one of its neighbours


class Placement(NamedTuple):
    """A fragment laid on a part of a molecule.

    Attributes:
        piece: Which of the fragments.
        atoms: Where each of its atoms lies.
        joins: Bonds out of the part: the fragment's atom, the molecule's, and its neighbour.
        weight: In how many ways points can be chosen where this is the root.
    """

    piece: int
    atoms: tuple[int, ...]
    joins: list[tuple[int, int, int]]
    weight: int


class Block(NamedTuple):
    """A fragment in a way to build a molecule.

    Attributes:
        piece: Which of the fragments.
        point: Its point that is joined to the block before; -1 at the root.
        children: The blocks joined to its points, by rising point.
    """

    piece: int
    point: int
    children: list[tuple[int, "Block"]]


class Decompositions:
    """The ways to build molecules from fragments.

    Args:
        pieces: The fragments.
        min_blocks: Fragments in a molecule, at least.
        max_blocks: At most.
        core: If given, the first fragment of every molecule, which is used nowhere else.
        closed: Every point that something fits is joined.
    """

    def __init__(
        self,
        pieces: list[Piece],
        min_blocks: int,
        max_blocks: int,
        core: Piece | None = None,
        closed: bool = False,
    ) -> None:
        self.pieces = pieces if core is None else [*pieces, core]
        ends = {
            piece.links.get(atom, ANY)
            for piece in pieces
            for atom in ([piece.entry_atom] if piece.entry_atom is not None else piece.links)
        }
        self.must_join = [
            {atom for atom, own in piece.links.items() if closed and any(fit(own, x) for x in ends)}
            for piece in self.pieces
        ]
        self.core = len(pieces) if core is not None else None
        self.min_blocks, self.max_blocks = min_blocks, max_blocks
        self.mask = (
            1 << COEFFICIENT_BITS * (max_blocks + 1)
        ) - 1  # of larger molecules nothing is kept

    def count(self, molecule: "Mol") -> int:
        """In how many ways the molecule can be built."""
        on = _Molecule(self, molecule)
        total = sum(_coefficient(on.whole, n) for n in range(self.min_blocks, self.max_blocks + 1))
        if not total:
            return 0
        ways, rest = divmod(total, count_automorphisms(on.outline))
        assert not rest, "every way is laid on a molecule in as many ways as that on itself"
        return ways

    def find(self, molecule: "Mol") -> Block | None:
        """One way to build the molecule, of as few blocks as can be; None if there is none."""
        return _Molecule(self, molecule).find()


def _coefficient(polynomial: int, n: int) -> int:
    return polynomial >> COEFFICIENT_BITS * n & (1 << COEFFICIENT_BITS) - 1


class _Molecule:
    """One molecule and the fragments that lie on its parts.

    `whole` is a polynomial: the coefficient of x^n is the weight of all ways of n blocks.
    """

    def __init__(self, ways: Decompositions, molecule: "Mol") -> None:
        self.ways = ways
        self.outline = outline(molecule)
        self.neighbours: list[list[int]] = [[] for _ in self.outline.keys]
        self.cuttable: set[Bond] = set()
        for one, other, order, in_ring in self.outline.bonds:
            self.neighbours[one].append(other)
            self.neighbours[other].append(one)
            if order == 1 and not in_ring:
                self.cuttable |= {(one, other), (other, one)}
        self.placements = self._place(molecule)
        self.under: dict[Bond, list[tuple[Placement, int]]] = {}  # by bond from outside to inside
        for placement in self.placements:
            if placement.piece != ways.core:
                for place, (_, atom, outside) in enumerate(placement.joins):
                    self.under.setdefault((outside, atom), []).append((placement, place))
        self.known: dict[tuple[Bond, Links], int] = {}
        self.whole = 0
        for placement in self.roots():
            self.whole += placement.weight * self._with_children(placement)

    def roots(self) -> list[Placement]:
        """The placements that may be the first block."""
        core = self.ways.core
        return [p for p in self.placements if core is None or p.piece == core]

    def _place(self, molecule: "Mol") -> list[Placement]:
        """All ways to lay a fragment on a part that single bonds outside rings bound."""
        here = Counter(self.outline.keys)
        placements = []
        for number, piece in enumerate(self.ways.pieces):
            if not piece.keys <= here:
                continue
            found = molecule.GetSubstructMatches(piece.query, uniquify=False, maxMatches=10**6)
            for atoms in found:
                inside, joins, weight = set(atoms), [], 1
                for place, degree in piece.open_atoms:
                    atom = atoms[place]
                    out = [n for n in self.neighbours[atom] if n not in inside]
                    if len(out) + degree != len(self.neighbours[atom]):
                        break  # bonds within the part that the fragment lacks
                    if any((atom, n) not in self.cuttable for n in out):
                        break
                    if place in self.ways.must_join[number] and len(out) < piece.count[place]:
                        break
                    joins += [(place, atom, n) for n in out]
                    weight *= perm(piece.count[place], len(out))
                else:
                    placements.append(Placement(number, atoms, joins, weight))
        return placements

    def _with_children(self, placement: Placement, but: int = -1) -> int:
        """The block and all beyond its joins, but for one of these."""
        product = 1 << COEFFICIENT_BITS
        for place, (own, atom, outside) in enumerate(placement.joins):
            if place != but:
                links = self.links(placement, own)
                product = product * self.beyond((atom, outside), links) & self.ways.mask
                if not product:
                    break
        return product

    def weight_under(self, placement: Placement, place: int) -> int:
        """In how many ways points can be chosen where one join leads to the block before."""
        piece = self.ways.pieces[placement.piece]
        atom = placement.joins[place][0]
        if piece.entry_atom is None:
            return placement.weight
        # The entry is taken by this join, which is the one choice of `count` there were for it.
        return placement.weight // piece.count[atom] if atom == piece.entry_atom else 0

    def links(self, placement: Placement, atom: int) -> Links:
        """The link types of a fragment's atom."""
        return self.ways.pieces[placement.piece].links.get(atom, ANY)

    def joined_at(self, bond: Bond, links: Links) -> list[tuple[Placement, int]]:
        """The placements beyond a bond, and which of their joins it is, that fit its other end."""
        return [
            (placement, place)
            for placement, place in self.under.get(bond, ())
            if fit(links, self.links(placement, placement.joins[place][0]))
        ]

    def beyond(self, bond: Bond, links: Links) -> int:
        """All ways to build what the bond leads to from an end of these types."""
        if (bond, links) not in self.known:
            total = 0
            for placement, place in self.joined_at(bond, links):
                if weight := self.weight_under(placement, place):
                    total += weight * self._with_children(placement, place)
            self.known[bond, links] = total
        return self.known[bond, links]

    def find(self) -> Block | None:
        for n in range(self.ways.min_blocks, self.ways.max_blocks + 1):
            for placement in self.roots():
                if placement.weight and _coefficient(self._with_children(placement), n):
                    return self._block(placement, -1, n)
        return None

    def _block(self, placement: Placement, back: int, n: int) -> Block:
        """A block and n - 1 beyond it; `back` is the join to the block before."""
        piece = self.ways.pieces[placement.piece]
        free = dict(enumerate(piece.fragment.points))  # points, and their atoms
        point = -1
        if back >= 0:
            atom = placement.joins[back][0]
            entry = piece.fragment.entry
            point = entry if entry is not None else next(p for p, a in free.items() if a == atom)
            del free[point]
        others = [place for place in range(len(placement.joins)) if place != back]
        products = [1]  # of what is beyond the last joins, the shortest first
        for place in reversed(others):
            own, atom, outside = placement.joins[place]
            here = self.beyond((atom, outside), self.links(placement, own))
            products.append(products[-1] * here & self.ways.mask)
        children, left = [], n - 1
        for place, after in zip(others, reversed(products[:-1]), strict=True):
            at, atom, outside = placement.joins[place]
            links = self.links(placement, at)
            here = self.beyond((atom, outside), links)
            size = next(
                k
                for k in range(1, left + 1)
                if _coefficient(here, k) and _coefficient(after, left - k)
            )
            left -= size
            mine = next(p for p, a in free.items() if a == at)
            del free[mine]
            children.append((mine, self._child((atom, outside), links, size)))
        return Block(placement.piece, point, sorted(children, key=lambda child: child[0]))

    def _child(self, bond: Bond, links: Links, n: int) -> Block:
        for placement, place in self.joined_at(bond, links):
            if self.weight_under(placement, place) and _coefficient(
                self._with_children(placement, place), n
            ):
                return self._block(placement, place, n)
        raise AssertionError("there is a way of n blocks")
