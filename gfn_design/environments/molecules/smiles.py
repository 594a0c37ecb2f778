"""SMILES strings: molecules as people write them, most strings of which are none."""

import re
from functools import lru_cache

from gfn_design.environments.molecules.strings import MoleculeStrings, molecules_of
from gfn_design.errors import InputError

# Atoms, bonds, branches and ring numbers of most drug-like molecules.
DEFAULT = [*"CcNnOoSsF", "Cl", "Br", *"=#()1234"]
SYMBOL = re.compile(r"\[[^\]]+\]|Br|Cl|%\d\d|[BCNOPSFIbcnops]|[0-9=#()/\\+\-]")
ATOM = re.compile(r"\[[^\]]+\]|Br|Cl|[BCNOPSFIbcnops]")


class Smiles(MoleculeStrings):
    """SMILES strings of any length up to a bound, written from left to right (Weininger 1988).

    A state is the symbol in each slot, -1 while blank: an atom, with its brackets if it has any, a
    bond, a branch or a ring number. Action c writes symbol c behind the last one, the last action
    stops. The first symbol has to be an atom, and only then may one stop.

    Most strings are no molecule that RDKit reads, and are rejected (`rejected_for`); so begin from
    a prior that has learned what SMILES look like (`gfn-design pretrain --write smiles`).

    The object is the *string*: R / Z is the probability of a string, and a molecule that k strings
    spell has k times its share. `decode` gives the string, `smiles` the molecule, in RDKit's
    SMILES, and the empty text where there is none.

    Args:
        alphabet: ``default`` (19 symbols of uncharged organic molecules), a list of symbols such as
            ``[nH]`` and ``Cl``, or a file of SMILES, one a line, whose symbols are taken; of a salt
            those of its largest part.
        max_length: Symbols of the longest string.
    """

    rejects = True

    def __init__(self, alphabet: str | list[str] = "default", max_length: int = 40) -> None:
        if isinstance(alphabet, str):
            alphabet = DEFAULT if alphabet == "default" else smiles_symbols_of(alphabet)
        if bad := [symbol for symbol in alphabet if not SYMBOL.fullmatch(symbol)]:
            raise InputError(f"alphabet has '{bad[0]}', which is no symbol of SMILES")
        starts = [ATOM.fullmatch(symbol) is not None for symbol in alphabet]
        super().__init__(alphabet, starts, max_length)

    def split(self, text: str) -> list[str]:
        """Atoms, bonds, branches and ring numbers."""
        symbols = SYMBOL.findall(text)
        if "".join(symbols) != text:
            raise InputError(f"'{text}' is no SMILES of one molecule")
        return list(symbols)

    def molecule(self, text: str) -> tuple[str, str | None]:
        """Canonical SMILES of a string, and why it is rejected, if it is."""
        return _molecule(text)


def smiles_symbols_of(path: str, most: int | None = None) -> list[str]:
    """The symbols that the SMILES in a file are written with, in order.

    Args:
        path: A file of SMILES.
        most: So many of them are looked at, evenly; None is all.

    Raises:
        InputError: It cannot be read.
    """
    rows = molecules_of(path, most)
    return sorted({symbol for row in rows for symbol in SYMBOL.findall(row.text)})


@lru_cache(maxsize=2**16)
def _molecule(text: str) -> tuple[str, str | None]:
    """Canonical SMILES of a string, and why it is rejected, if it is."""
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    with BlockLogs():
        molecule = Chem.MolFromSmiles(text) if text else None
    if molecule is None:
        return "", "RDKit does not read it" if text else None
    if any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()):
        return str(Chem.MolToSmiles(molecule)), "a radical"
    return str(Chem.MolToSmiles(molecule)), None
