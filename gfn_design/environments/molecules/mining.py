"""Fragments that molecules of one's own fall into."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gfn_design.environments.molecules import links as brics
from gfn_design.environments.molecules.vocabulary import Fragment, marked, parsed
from gfn_design.errors import InputError
from gfn_design.files.objects import Read, read_molecules


def mine_file(
    path: Path, at_least: int = 2, column: str | None = None, linked: bool = True
) -> tuple[list[Fragment], Read]:
    """The fragments of the molecules in a file, as `mine` finds them, and what was read.

    Args:
        path: A table or list of molecules.
        at_least: Fragments found less often are left out.
        column: Where its SMILES are; None: the column that looks like it.
        linked: Keep link types.
    """
    found = read_molecules(path, column)
    return mine([row.text for row in found.rows], at_least, str(path), linked), found


def mine(
    smiles: Sequence[str], at_least: int = 2, where: str = "", linked: bool = True
) -> list[Fragment]:
    """The fragments that molecules fall into at their BRICS bonds, the most frequent first.

    Degen et al., ChemMedChem 3:1503 (2008), as RDKit has it. Each end of a bond that is cut is a
    point, and keeps its link type, so that only ends are joined that BRICS would join. Every
    fragment is counted as often as it is found. Stereo marks are left out.

    Args:
        smiles: Molecules; what cannot be cut gives no fragment.
        at_least: Fragments found less often are left out.
        where: The file they are from, for messages.
        linked: Keep link types; otherwise any end may be joined to any other.

    Returns:
        Fragments with their counts; equal counts in the order of SMILES.

    Raises:
        InputError: One is no SMILES, or no fragment is frequent enough.
    """
    from rdkit import Chem
    from rdkit.Chem import BRICS

    if at_least < 1:
        raise InputError(f"at_least must be at least 1, got {at_least}")
    found: Counter[Fragment] = Counter()
    for i, text in enumerate(smiles, 1):
        molecule = parsed(text, f"{where}, molecule {i}" if where else f"molecule {i}")
        Chem.RemoveStereochemistry(molecule)
        broken = BRICS.BreakBRICSBonds(molecule)
        for piece in Chem.GetMolFrags(broken, asMols=True):
            marks = [atom for atom in piece.GetAtoms() if atom.GetAtomicNum() == 0]
            bonds = [bond.GetBondType() for atom in marks for bond in atom.GetBonds()]
            if marks and bonds == [Chem.BondType.SINGLE] * len(marks):
                found[marked(Chem.MolToSmiles(piece), "", linked)] += 1
    kept = [fragment._replace(times=n) for fragment, n in found.items() if n >= at_least]
    if not kept:
        name = where or "the molecules"
        raise InputError(f"{name}: no BRICS fragment is found {at_least} times or more")
    return sorted(kept, key=lambda kept: (-kept.times, *kept[:2], brics.written(kept.links)))
