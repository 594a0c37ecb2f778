"""What a design has in place of what the nearest measured object has."""

from collections import Counter
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, NamedTuple

from gfn_design.results.picking import distance

if TYPE_CHECKING:
    from rdkit.Chem import Mol

SECONDS = 1  # in which the common part of two molecules is looked for
SHORT = 30  # letters of a change of sequences; what is longer says nothing
FEW_SHARED = 0.5  # of a molecule's atoms; fewer make another skeleton


class Change(NamedTuple):
    """From one molecule to another.

    Attributes:
        words: As in ``Cl to C(F)(F)F``.
        new: Atoms of the design that the other does not have.
        common: The part that both have, as SMARTS; empty if there is none.
    """

    words: str
    new: list[int]
    common: str


def change_of_molecules(design: "Mol", other: "Mol") -> Change:
    """What a molecule has besides the largest part that it has in common with another.

    Args:
        design: As RDKit reads it.
        other: The one it is compared with.
    """
    from rdkit import Chem
    from rdkit.Chem import rdFMCS

    if Chem.MolToSmiles(design) == Chem.MolToSmiles(other):
        return Change("the same", [], Chem.MolToSmarts(other))
    found = rdFMCS.FindMCS(
        [design, other], timeout=SECONDS, ringMatchesRingOnly=True, completeRingsOnly=True
    )
    core = Chem.MolFromSmarts(found.smartsString) if found.numAtoms else None
    own = design.GetSubstructMatch(core) if core is not None else ()
    there = other.GetSubstructMatch(core) if core is not None else ()
    own, there = _whole_rings(design, other, own, there)
    if not own:
        return Change("another skeleton", [*range(design.GetNumAtoms())], "")
    new = sorted(set(range(design.GetNumAtoms())) - set(own))
    if len(own) < FEW_SHARED * design.GetNumHeavyAtoms():
        shared = f"another skeleton ({len(own)} of {design.GetNumHeavyAtoms()} atoms shared)"
        return Change(shared, new, found.smartsString)
    gained = Counter(_branches(design, own))
    lost = Counter(_branches(other, there))
    return Change(_words(lost - gained, gained - lost), new, found.smartsString)


def _whole_rings(
    design: "Mol", other: "Mol", own: tuple[int, ...], there: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A match without the atoms of rings of which it holds a part alone."""
    pairs = [*zip(own, there, strict=True)]
    while True:
        cut = _torn(design, {a for a, _ in pairs}), _torn(other, {b for _, b in pairs})
        kept = [(a, b) for a, b in pairs if a not in cut[0] and b not in cut[1]]
        if len(kept) == len(pairs):
            return tuple(a for a, _ in pairs), tuple(b for _, b in pairs)
        pairs = kept


def _torn(molecule: "Mol", match: set[int]) -> set[int]:
    """Atoms of a match that are in rings, but in none that is wholly in it."""
    rings = [set(ring) for ring in molecule.GetRingInfo().AtomRings()]
    whole = {atom for ring in rings if ring <= match for atom in ring}
    return {atom for ring in rings for atom in ring & match} - whole


def _branches(molecule: "Mol", core: tuple[int, ...]) -> list[str]:
    """What hangs on the atoms of a core, as SMILES without marks."""
    from rdkit import Chem

    rest = [atom for atom in range(molecule.GetNumAtoms()) if atom not in core]
    left = set(rest)
    found = []
    while left:
        part, edge = {left.pop()}, True
        while edge:
            near = {
                n.GetIdx() for atom in part for n in molecule.GetAtomWithIdx(atom).GetNeighbors()
            }
            edge = bool(near & left)
            part |= near & left
            left -= part
        begin = next((atom for atom in sorted(part) if _touches(molecule, atom, core)), min(part))
        found.append(Chem.MolFragmentToSmiles(molecule, sorted(part), rootedAtAtom=begin))
    return found


def _touches(molecule: "Mol", atom: int, core: tuple[int, ...]) -> bool:
    """Whether an atom is bound to a core."""
    return any(n.GetIdx() in core for n in molecule.GetAtomWithIdx(atom).GetNeighbors())


def _words(lost: Counter[str], gained: Counter[str]) -> str:
    before, after = sorted(lost.elements()), sorted(gained.elements())
    parts = [f"{a} to {b}" for a, b in zip(before, after, strict=False)]
    parts += [f"without {a}" for a in before[len(after) :]]
    parts += [f"with {b}" for b in after[len(before) :]]
    return "; ".join(parts) or "joined elsewhere"


def change_of_sequences(design: str, other: str) -> str:
    """``K4R``, insertions and deletions by their places in the other, or how many edits there are.

    Args:
        design: A sequence.
        other: The one it is compared with.
    """
    if design == other:
        return "the same"
    if len(design) == len(other):
        differ = [
            f"{a}{i}{b}" for i, (a, b) in enumerate(zip(other, design, strict=True), 1) if a != b
        ]
        if len(differ) <= max(4, len(design) // 3):
            return " ".join(differ)
    parts = []
    for what, i, j, k, m in SequenceMatcher(None, other, design, autojunk=False).get_opcodes():
        if what == "replace":
            parts.append(f"{other[i:j]}{i + 1}{design[k:m]}")
        elif what == "delete":
            parts.append(f"{other[i:j]}{i + 1}-")
        elif what == "insert":
            parts.append(f"+{design[k:m]} after {i}")
    words = " ".join(parts)
    return words if len(parts) <= 4 and len(words) <= SHORT else f"{distance(design, other)} edits"
