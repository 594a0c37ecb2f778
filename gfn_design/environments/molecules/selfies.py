"""SELFIES strings: molecules as text every piece of which is valid."""

import logging
from functools import lru_cache

import selfies

from gfn_design.environments.molecules.strings import MoleculeStrings, molecules_of
from gfn_design.errors import InputError

_log = logging.getLogger(__name__)

# Atoms, branches and rings that drug-like molecules are mostly made of. There are no charges among
# them, since an atom with a charge keeps its valences open in SELFIES, as a radical.
DEFAULT = list(
    selfies.split_selfies(
        "[C][=C][#C][N][=N][#N][O][=O][S][=S][F][Cl][Br]"
        "[Branch1][=Branch1][#Branch1][Branch2][=Branch2][Ring1][=Ring1][Ring2]"
    )
)


class Selfies(MoleculeStrings):
    """SELFIES strings of any length up to a bound, written from left to right (Krenn et al. 2020).

    A state is the symbol in each slot, -1 while blank. Action c writes symbol c behind the last
    one, the last action stops. The first symbol has to be an atom, and only then may one stop, so
    no string is the empty molecule.

    An atom with a charge or in brackets may keep its valences open, and some strings RDKit does not
    read: with an alphabet that has such symbols these strings are rejected (`rejected_for`). What
    RDKit does not read counts as the molecule of its longest beginning that it does.

    The object is the *string*: R / Z is the probability of a string, and a molecule that k strings
    of the alphabet spell has k times its share. These cannot be counted, as those of `Atoms` and of
    fragments can. `decode` gives the string, `smiles` the molecule.

    Args:
        alphabet: ``default`` (21 symbols of uncharged organic molecules), a list of symbols such as
            ``[=C]``, or a file of SMILES, one a line, whose symbols are taken; of a salt those of
            its largest part.
        max_length: Symbols of the longest string.
    """

    def __init__(self, alphabet: str | list[str] = "default", max_length: int = 20) -> None:
        if isinstance(alphabet, str):
            alphabet = DEFAULT if alphabet == "default" else _mined(alphabet)
        if "." in alphabet:
            raise InputError("alphabet has '.', which would join two molecules; leave it out")
        super().__init__(alphabet, [_begins_a_molecule(x) for x in alphabet], max_length)
        self.rejects = not set(self.symbols) <= set(DEFAULT)

    def split(self, text: str) -> list[str]:
        """The symbols of SELFIES, or of a SMILES written so."""
        return _split(text)

    def molecule(self, text: str) -> tuple[str, str | None]:
        """Canonical SMILES of a string, and why it is rejected, if it is."""
        return _molecule(text)


def _split(text: str) -> list[str]:
    symbols = _symbols(text)
    if symbols is None:  # or else a SMILES
        try:
            symbols = _symbols(selfies.encoder(text))
        except selfies.EncoderError:
            symbols = None
    if symbols is None:
        raise InputError(f"'{text}' is neither SELFIES nor a SMILES that can be written so")
    return symbols


def _symbols(text: str) -> list[str] | None:
    """The symbols of SELFIES; None if it is none."""
    try:
        symbols = list(selfies.split_selfies(text))
    except ValueError:
        return None
    return symbols if "".join(symbols) == text else None


def _begins_a_molecule(symbol: str) -> bool:
    try:
        return bool(selfies.decoder(symbol))
    except selfies.DecoderError as error:
        raise InputError(f"alphabet has '{symbol}', which is no symbol of SELFIES") from error


def symbols_of(path: str, most: int | None = None) -> list[str]:
    """The symbols that the molecules in a file are written with, in order.

    Args:
        path: A file of SMILES.
        most: So many of them are looked at, evenly; None is all.

    Raises:
        InputError: It cannot be read.
    """
    return [*_mined(path, most)]


@lru_cache(maxsize=2**16)
def _molecule(text: str) -> tuple[str, str | None]:
    """Canonical SMILES of a string, and why it is rejected, if it is."""
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    symbols, reason = _split(text), None
    with BlockLogs():
        for end in range(len(symbols), 0, -1):
            molecule = Chem.MolFromSmiles(selfies.decoder("".join(symbols[:end])))
            if molecule is not None and molecule.GetNumAtoms():
                break
            reason = "RDKit does not read it"
        else:
            return "", "RDKit does not read it" if symbols else None
    if reason is None and any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()):
        reason = "a radical"
    return str(Chem.MolToSmiles(molecule)), reason


def _mined(path: str, most: int | None = None) -> list[str]:
    """The symbols of the SMILES in a file, in order; of so many of them at most."""
    found, left_out = set(), []
    for row in molecules_of(path, most):
        try:
            found.update(selfies.split_selfies(selfies.encoder(row.text)))
        except selfies.EncoderError:
            left_out.append(row)
    if left_out:
        first = left_out[0]
        _log.warning(
            "%s: %s molecules are left out that SELFIES cannot write, the first in line %s: %s",
            path,
            len(left_out),
            first.line,
            first.text,
        )
    return sorted(found - {"."})
