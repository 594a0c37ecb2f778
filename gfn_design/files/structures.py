"""One molecule out of what people write in a structure column: the parent, in RDKit's SMILES."""

import re
from typing import NamedTuple

CHARGED = re.compile(r"\.|\+|-\d?\]|\[(?:Li|Na|K|Mg|Ca|Zn|Al|Ag)\]")  # what the standardiser mends
INCHI = "InChI="


class Structure(NamedTuple):
    """A cleaned molecule.

    Attributes:
        smiles: As it is written, or RDKit's SMILES of what it was made into.
        is_salt: Whether it had several parts, of which the largest organic one was taken.
        is_mended: Whether charges or bonds to metals were changed.
    """

    smiles: str
    is_salt: bool
    is_mended: bool


class Unusable(NamedTuple):
    """Why a text is no molecule, and what to do about it."""

    reason: str
    remedy: str


def clean_structure(text: str) -> Structure | Unusable:
    """The molecule that is meant: of a salt its largest organic part, uncharged where it can be.

    By RDKit's standardiser (Bento et al. 2020): bonds to metals and charges of common groups as
    they are usually written, then the parent fragment, then neutral. SMILES and InChI are read.
    Tautomers and stereo marks stay as they are.
    """
    from rdkit import Chem, rdBase

    if not text:
        return Unusable("no structure", "add one, or leave it out")
    with rdBase.BlockLogs():
        inchi = text.startswith(INCHI)
        molecule = Chem.MolFromInchi(text) if inchi else Chem.MolFromSmiles(text)
        if molecule is None or not molecule.GetNumAtoms():
            return _unusable(text)
        if any(atom.GetAtomicNum() == 0 for atom in molecule.GetAtoms()):
            return Unusable(
                "has an open position (*), so it is no whole molecule", "say what is there"
            )
        if not inchi and not CHARGED.search(text):
            return Structure(text, False, False)
        from rdkit.Chem.MolStandardize import rdMolStandardize
        from rdkit.Chem.SaltRemover import SaltRemover

        is_salt = len(Chem.GetMolFrags(molecule)) > 1
        before = Chem.MolToSmiles(molecule)
        try:
            parent = rdMolStandardize.Cleanup(molecule)
            if is_salt:  # known counter-ions, of which a tosylate may be larger than the rest
                parent = SaltRemover().StripMol(parent, dontRemoveEverything=True)
            parent = rdMolStandardize.FragmentParent(parent)
            parent = rdMolStandardize.Uncharger().uncharge(parent)
            after = Chem.MolToSmiles(parent)
        except Exception:  # RDKit raises what it likes
            return Unusable("cannot be standardised by RDKit", "mend charges and valences")
    return Structure(after, is_salt, not is_salt and after != before)


def parent_smiles(text: str) -> str:
    """The molecule that a text means, in RDKit's SMILES; the text itself if it is none."""
    from rdkit import Chem

    found = clean_structure(text)
    if isinstance(found, Unusable):
        return text
    return Chem.MolToSmiles(Chem.MolFromSmiles(found.smiles))


def _unusable(text: str) -> Unusable:
    if "M  END" in text or "V2000" in text or "V3000" in text:
        return Unusable("is a drawing (mol block), not a SMILES", "export the column as SMILES")
    if " " in text.strip() or (text.isalpha() and len(text) > 3 and text[0].isupper()):
        return Unusable("is not a SMILES that RDKit reads, but words", "give its SMILES or InChI")
    remedy = "mend the SMILES: valences, brackets, ring numbers"
    return Unusable("is not a SMILES that RDKit reads", remedy)
