"""States of fragments as molecules and back: the border between tensors and RDKit."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from gfn_design.environments.molecules.attachment import Piece, joined, pieces
from gfn_design.environments.molecules.decompositions import Block, Decompositions
from gfn_design.environments.molecules.forbidden import LISTS
from gfn_design.environments.molecules.vocabulary import Fragment, marked, parsed
from gfn_design.errors import InputError

if TYPE_CHECKING:
    from rdkit.Chem import Mol

REMEMBERED = 2**17  # molecules of which it is kept what they are


class Assembly:
    """The molecules that rows of blocks spell.

    A row lists fragments, slots of parents, the parents' points, own points: `slots` numbers each,
    -1 where there is none. All answers are kept, since the same molecules are asked again.

    Args:
        fragments: What there is to build of; see `Fragments`.
        name: Of the vocabulary, for messages.
        min_blocks: Fragments in a molecule, at least.
        max_blocks: At most, which is the number of slots.
        core: The first fragment of every molecule, as marked SMILES.
        forbidden: SMARTS by name.
        closed: Only rows in which every point that something fits is joined are counted and found.

    Attributes:
        pieces: The fragments that are used; the core, if there is one, last.
        core: Whether there is one.

    Raises:
        InputError: Something is not as it should be, or too little is left.
    """

    def __init__(
        self,
        fragments: Sequence[Fragment],
        name: str,
        min_blocks: int,
        max_blocks: int,
        core: str | None = None,
        forbidden: Mapping[str, str] | None = None,
        closed: bool = False,
    ) -> None:
        self.name, self.slots, self.core = name, max_blocks, core is not None
        self.bounds = f"{min_blocks} to {max_blocks}"
        self.forbidden = {name: _pattern(smarts) for name, smarts in (forbidden or {}).items()}
        parts = [p for p in pieces(fragments, name) if self._brought(p) is None]
        if not parts:
            raise InputError(f"{name}: every fragment holds a forbidden substructure")
        first = None if core is None else Piece(marked(core, "core"), "core")
        if first is not None and (bad := self._brought(first)):
            raise InputError(f"core: '{core}' holds '{bad}', which is forbidden")
        self.pieces = parts if first is None else [*parts, first]
        self._ways = Decompositions(parts, min_blocks, max_blocks, first, closed)
        self._smiles: dict[tuple[int, ...], str] = {}
        self._log_copies: dict[str, float] = {}
        self._held: dict[str, str | None] = {}
        self._log_frequency: dict[str, float] = {}

    def _brought(self, piece: Piece) -> str | None:
        """A pattern that lies in the fragment both when it is bare and when it is joined."""
        inside = set(range(piece.molecule.GetNumAtoms()))
        for smarts, pattern in self.forbidden.items():
            matches = piece.full.GetSubstructMatches(pattern, maxMatches=10**4)
            if piece.molecule.HasSubstructMatch(pattern) and any(inside >= set(m) for m in matches):
                return smarts
        return None

    def smiles(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """Canonical SMILES, with a hydrogen at every open point; empty if there is no block."""
        return _each(self._smiles, list(map(tuple, rows)), self._spell)

    def _spell(self, row: Sequence[int]) -> str:
        from rdkit import Chem

        slots = self.slots
        parts = [self.pieces[kind] for kind in row[:slots] if kind >= 0]
        bonds = []
        for slot in range(1, len(parts)):
            parent, at, own = (row[k * slots + slot] for k in (1, 2, 3))
            ends = parts[parent].fragment.points[at], parts[slot].fragment.points[own]
            bonds.append((parent, ends[0], slot, ends[1]))
        return Chem.MolToSmiles(joined([part.molecule for part in parts], bonds))

    def row(self, text: str) -> list[int]:
        """A row that spells the molecule, of as few blocks as can be; stereo marks are not read.

        Raises:
            InputError: The text is no SMILES, or the molecule cannot be built.
        """
        root = self._ways.find(_read(text))
        if root is None:
            core = " on the core" if self.core else ""
            raise InputError(
                f"'{text}' cannot be built of {self.bounds} fragments of {self.name}{core}"
            )
        blocks: list[tuple[int, int, int, int]] = []

        def add(block: Block, parent: int, at: int) -> None:
            slot = len(blocks)
            blocks.append((block.piece, parent, at, block.point))
            for point, child in block.children:
                add(child, slot, point)

        add(root, -1, -1)
        blocks += [(-1, -1, -1, -1)] * (self.slots - len(blocks))
        return [x for row in zip(*blocks, strict=True) for x in row]

    def log_states_per_object(self, texts: Sequence[str]) -> list[float]:
        """log of the number of rows that spell each molecule; -inf if there is none."""
        return _each(self._log_copies, texts, self._count)

    def _count(self, text: str) -> float:
        ways = self._ways.count(_read(text)) if text else 0
        return math.log(ways) if ways else -math.inf

    def log_frequency(self, texts: Sequence[str]) -> list[float]:
        """How usual the fragments of each molecule are: the sum of log(count / mean count).

        Of the row that `row` gives, without the core.
        """
        return _each(self._log_frequency, texts, self._frequency)

    def _frequency(self, text: str) -> float:
        if not text:
            return 0.0
        counts = [p.fragment.times for p in self.pieces[: len(self.pieces) - self.core]]
        mean = sum(counts) / len(counts)
        kinds = [kind for kind in self.row(text)[: self.slots] if kind >= 0][self.core :]
        return sum(math.log(counts[kind] / mean) for kind in kinds)

    def forbidden_in(self, texts: Sequence[str]) -> list[str | None]:
        """The first forbidden pattern in each molecule; None where there is none."""
        return _each(self._held, texts, self._first_held)

    def _first_held(self, text: str) -> str | None:
        if not self.forbidden or not text:
            return None
        molecule = parsed(text)
        holds = (s for s, pattern in self.forbidden.items() if molecule.HasSubstructMatch(pattern))
        return next(holds, None)


K = TypeVar("K")
V = TypeVar("V")


def _each(known: dict[K, V], keys: Sequence[K], find: Callable[[K], V]) -> list[V]:
    """What is known of each key, found where it is not known yet."""
    if len(known) > REMEMBERED:
        known.clear()
    for key in keys:
        if key not in known:
            known[key] = find(key)
    return [known[key] for key in keys]


def _read(text: str) -> "Mol":
    from rdkit import Chem

    molecule = parsed(text)
    Chem.RemoveStereochemistry(molecule)
    return molecule


def _pattern(smarts: str) -> "Mol":
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        pattern = Chem.MolFromSmarts(smarts)
    if pattern is None or not pattern.GetNumAtoms():
        raise InputError(
            f"forbidden: '{smarts}' is neither a SMARTS that RDKit reads nor one of the lists "
            f"{' and '.join(LISTS)}"
        )
    return pattern
