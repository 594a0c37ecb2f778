"""Building blocks that are joined to chains, and the molecules that chains spell."""

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from gfn_design.errors import InputError

if TYPE_CHECKING:
    from rdkit.Chem import Mol


class Block(NamedTuple):
    """A fragment with two places to join others; both may be on one atom.

    Attributes:
        smiles: The free fragment. It is also the block's name.
        enter: The atom joined to the block before, by its place in the SMILES.
        leave: The atom joined to the block after.
    """

    smiles: str
    enter: int
    leave: int


# The vocabularies of Shen et al. (2023), arXiv:2305.07170, in their order.
QM9 = (
    Block("C", 0, 0),
    Block("O", 0, 0),
    Block("N", 0, 0),
    Block("CF", 0, 0),
    Block("C=O", 0, 0),
    Block("C=C", 0, 1),
    Block("C#C", 0, 1),
    Block("c1ccccc1", 0, 3),
    Block("C1CCCCC1", 0, 3),
    Block("C1CCNC1", 0, 2),
    Block("CCC", 0, 0),
)
SEH = (
    Block("CO", 1, 0),
    Block("O=c1[nH]cnc2[nH]cnc12", 3, 6),
    Block("S", 0, 0),
    Block("C1CNCCN1", 2, 5),
    Block("c1cc[nH+]cc1", 3, 1),
    Block("c1ccccc1", 0, 2),
    Block("C1CCCCC1", 0, 2),
    Block("CC(C)C", 1, 2),
    Block("C1CCOCC1", 0, 2),
    Block("c1cn[nH]c1", 4, 0),
    Block("C1CCNC1", 2, 0),
    Block("c1cncnc1", 0, 1),
    Block("O=c1nc2[nH]c3ccccc3nc-2c(=O)[nH]1", 8, 4),
    Block("c1ccncc1", 1, 0),
    Block("O=c1nccc[nH]1", 6, 3),
    Block("O=c1cc[nH]c(=O)[nH]1", 2, 4),
    Block("C1CCOC1", 2, 4),
    Block("C1CCNCC1", 1, 0),
)
BLOCKS = {"qm9": QM9, "seh": SEH}


def block_smiles(chains: Iterable[str], blocks: str = "qm9") -> list[str]:
    """Canonical SMILES of chains of blocks.

    Each block's `leave` atom is joined by a single bond to the next one's `enter` atom; a hydrogen
    written at such an atom gives way. A chain and its reverse may spell one molecule.

    Args:
        chains: Names of blocks with spaces between, as `Sequence` writes them.
        blocks: The vocabulary, ``qm9`` or ``seh``.

    Raises:
        InputError: There is no such vocabulary, or no such block in it.
    """
    if blocks not in BLOCKS:
        raise InputError(f"there are no blocks '{blocks}', choose one of {', '.join(BLOCKS)}")
    known = {block.smiles: block for block in BLOCKS[blocks]}
    return [_joined([_look_up(name, known) for name in chain.split()]) for chain in chains]


def _look_up(name: str, known: dict[str, Block]) -> Block:
    if name not in known:
        raise InputError(f"there is no block '{name}', expected some of {' '.join(known)}")
    return known[name]


@cache
def _fragment(smiles: str) -> "Mol":
    from rdkit import Chem

    return Chem.MolFromSmiles(smiles)


def _joined(chain: list[Block]) -> str:
    from rdkit import Chem

    molecule = Chem.RWMol()
    tail = None  # the atom that the next block is joined to
    for block in chain:
        first = molecule.GetNumAtoms()
        molecule.InsertMol(_fragment(block.smiles))
        if tail is not None:
            molecule.AddBond(tail, first + block.enter, Chem.BondType.SINGLE)
            for atom in (tail, first + block.enter):
                place = molecule.GetAtomWithIdx(atom)
                place.SetNumExplicitHs(max(0, place.GetNumExplicitHs() - 1))
        tail = first + block.leave
    Chem.SanitizeMol(molecule)
    return Chem.MolToSmiles(molecule)
