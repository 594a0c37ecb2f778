"""How many ways there are to lay a molecule on itself."""

from collections import Counter
from math import factorial, prod
from typing import Any

from gfn_design.environments.molecules.attachment import Outline


def count_automorphisms(molecule: Outline) -> int:
    """Permutations of heavy atoms that keep elements, charges, hydrogens and bonds; no stereo.

    Bonds outside rings make a tree of the ring systems and the other atoms. What hangs on each of
    its bonds is put in a class of its likes, from the leaves in; so only the ring systems, which
    are small, are compared atom by atom. A molecule that looks alike from k of its atoms has k
    times as many automorphisms as leave one of these in its place.
    """
    return _Tree(molecule).automorphisms()


class _Tree:
    def __init__(self, molecule: Outline) -> None:
        self.keys = list(zip(molecule.keys, molecule.hydrogens, strict=True))
        self.ring: list[dict[int, Any]] = [{} for _ in self.keys]  # bonds in rings, by neighbour
        self.tree: list[dict[int, Any]] = [{} for _ in self.keys]  # the others
        for one, other, order, in_ring in molecule.bonds:
            bonds = self.ring if in_ring else self.tree
            bonds[one][other] = bonds[other][one] = order
        self.classes: dict[Any, int] = {}
        self.shapes: dict[Any, list[tuple[int, dict[int, int]]]] = {}  # ring systems seen so far
        self.known: dict[tuple[int, int], tuple[int, int]] = {}
        self.systems: dict[int, list[int]] = {}

    def automorphisms(self) -> int:
        kinds = list(zip(self.keys, map(len, self.tree), map(len, self.ring), strict=True))
        alike = Counter(kinds)
        rarest = min(range(len(kinds)), key=lambda atom: alike[kinds[atom]])
        others = [atom for atom, kind in enumerate(kinds) if kind == kinds[rarest]]
        seen = [self.rooted(atom, -1) for atom in others]
        here, fixed = seen[others.index(rarest)]
        return fixed * sum(other == here for other, _ in seen)

    def rooted(self, atom: int, before: int) -> tuple[int, int]:
        """What is seen from `before` at `atom`: its class, and automorphisms that keep `atom`.

        `before` is a neighbour outside rings; with -1 the whole molecule is seen from `atom`.
        """
        if (atom, before) not in self.known:
            system = self._system(atom)
            colours, ways = {}, 1
            for member in system:
                hanging = []
                for other, bond in self.tree[member].items():
                    if (member, other) != (atom, before):
                        kind, inner = self.rooted(other, member)
                        hanging.append((bond, kind))
                        ways *= inner
                if len(hanging) > 1:
                    ways *= prod(map(factorial, Counter(hanging).values()))
                colours[member] = self._class((self.keys[member], tuple(sorted(hanging))))
            if len(system) == 1:
                self.known[atom, before] = self._class(("atom", colours[atom])), ways
            else:
                kind = self._shape(atom, colours)
                self.known[atom, before] = kind, ways * self._maps(atom, colours, atom, colours)
        return self.known[atom, before]

    def _class(self, description: Any) -> int:
        return self.classes.setdefault(description, len(self.classes))

    def _system(self, atom: int) -> list[int]:
        """The ring system of an atom, or itself alone."""
        if atom not in self.systems:
            system = [atom]
            for member in system:  # which grows meanwhile
                system += [other for other in self.ring[member] if other not in system]
            self.systems.update(dict.fromkeys(system, system))
        return self.systems[atom]

    def _shape(self, root: int, colours: dict[int, int]) -> int:
        """The class of a ring system with coloured atoms and a root."""
        outline = ("ring", colours[root], tuple(sorted(colours.values())))
        like = self.shapes.setdefault(outline, [])
        for number, (other, others) in enumerate(like):
            if self._maps(root, colours, other, others, first=True):
                return self._class((outline, number))
        like.append((root, colours))
        return self._class((outline, len(like) - 1))

    def _maps(
        self,
        root: int,
        colours: dict[int, int],
        other: int,
        others: dict[int, int],
        first: bool = False,
    ) -> int:
        """Maps of one ring system on another that keep colours and bonds; up to the `first`."""
        if colours[root] != others[other] or len(colours) != len(others):
            return 0
        order, parent = [root], {root: root}
        for member in order:  # each after a neighbour, but for the root
            for near in self.ring[member]:
                if near not in parent:
                    parent[near] = member
                    order.append(near)
        image, used = {root: other}, {other}

        def fits(member: int, at: int) -> bool:
            if at in used or colours[member] != others[at]:
                return False
            near = self.ring[member]
            if len(near) != len(self.ring[at]):
                return False
            known = ((image[n], kind) for n, kind in near.items() if n in image)
            return all(self.ring[at].get(n) == kind for n, kind in known)

        def extend(depth: int) -> int:
            if depth == len(order):
                return 1
            member, total = order[depth], 0
            for at in self.ring[image[parent[member]]]:
                if fits(member, at):
                    image[member] = at
                    used.add(at)
                    total += extend(depth + 1)
                    used.discard(at)
                    del image[member]
                    if total and first:
                        break
            return total

        return extend(1)
