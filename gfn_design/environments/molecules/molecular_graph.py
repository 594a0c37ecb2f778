"""Molecules as atoms and bonds: to and from SMILES, and in how many ways they can be written."""

from functools import cache, lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gfn_design.errors import InputError

if TYPE_CHECKING:
    from rdkit.Chem import Mol

# The lowest valence of each element.
VALENCES = {
    "B": 3,
    "C": 4,
    "N": 3,
    "O": 2,
    "F": 1,
    "P": 3,
    "S": 2,
    "Cl": 1,
    "Br": 1,
    "I": 1,
}
# The charge that an element may have, and its valence then.
CHARGED = {"B": (-1, 4), "N": (1, 4), "O": (-1, 1), "P": (1, 4), "S": (-1, 1)}


class Atomic(NamedTuple):
    """A molecule without its hydrogens.

    Attributes:
        atoms: Element of each atom, and 1 if it has its charge of `CHARGED`, else 0.
        bonds: Both atoms of each bond, and its order, 1 to 3.
    """

    atoms: tuple[tuple[str, int], ...]
    bonds: tuple[tuple[int, int, int], ...]


@lru_cache(maxsize=2**12)
def _molecule(molecule: Atomic) -> "Mol":
    from rdkit import Chem

    orders = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
    made = Chem.RWMol()
    for element, charged in molecule.atoms:
        atom = Chem.Atom(element)
        atom.SetFormalCharge(CHARGED[element][0] if charged else 0)
        made.AddAtom(atom)
    for i, j, order in molecule.bonds:
        made.AddBond(i, j, orders[order])
    Chem.SanitizeMol(made)
    return made


@lru_cache(maxsize=2**16)
def to_smiles(molecule: Atomic) -> str:
    """RDKit's canonical SMILES; of no atoms, nothing."""
    from rdkit import Chem

    return Chem.MolToSmiles(_molecule(molecule))


def from_smiles(text: str) -> Atomic:
    """The molecule that a SMILES writes, every atom but the first with an earlier neighbour.

    Stereochemistry and isotopes are dropped.

    Raises:
        InputError: RDKit reads no SMILES, or it is none of bonded, paired atoms in the valences
            of `VALENCES` and `CHARGED`.
    """
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        read = Chem.MolFromSmiles(text)
    if read is None:
        raise InputError(f"'{text}' is no SMILES that RDKit reads")
    Chem.Kekulize(read, clearAromaticFlags=True)
    order = [0] if read.GetNumAtoms() else []
    for k in order:  # which grows meanwhile, breadth first
        around = (atom.GetIdx() for atom in read.GetAtomWithIdx(k).GetNeighbors())
        order += [atom for atom in around if atom not in order]
    if len(order) < read.GetNumAtoms():
        raise InputError(f"'{text}' has parts that are not joined; expected one molecule")
    atoms = []
    for k in order:
        atom = read.GetAtomWithIdx(k)
        element, charge = atom.GetSymbol(), atom.GetFormalCharge()
        expected, valence = CHARGED.get(element, (0, 0))
        if charge == 0:
            valence = VALENCES.get(element, atom.GetTotalValence())
        elif charge != expected:
            raise InputError(
                f"'{text}' has a charge of {charge:+d} on {element}, which has no such ion"
            )
        if atom.GetNumRadicalElectrons() or atom.GetTotalValence() != valence:
            raise InputError(
                f"'{text}' has {element} with {atom.GetTotalValence()} valences, expected {valence}"
            )
        atoms.append((element, int(charge != 0)))
    place = {k: i for i, k in enumerate(order)}
    bonds = []
    for bond in read.GetBonds():
        i, j = (place[k] for k in (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
        bonds.append((max(i, j), min(i, j), int(bond.GetBondTypeAsDouble())))
    return Atomic(tuple(atoms), tuple(sorted(bonds)))


@lru_cache(maxsize=2**16)
def forms_per_symmetry(molecule: Atomic) -> float:
    """The number of Kekule structures over the number of symmetries.

    The symmetries are those of the molecule as SMILES write it, with aromatic bonds all alike. With
    n! / symmetries ways to number the atoms of such a molecule, and a set of Kekule structures
    that these symmetries map onto itself, n! times this is how many different numbered graphs of
    single, double and triple bonds are the molecule.
    """
    from rdkit import Chem

    if not molecule.atoms:
        return 1.0
    made = Chem.Mol(_molecule(molecule))
    for atom in made.GetAtoms():  # matching takes no notice of hydrogens, but of isotopes
        atom.SetIsotope(1 + atom.GetTotalNumHs())
    symmetries = len(made.GetSubstructMatches(made, uniquify=False, maxMatches=10**6))
    aromatic = [
        (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
        for bond in made.GetBonds()
        if bond.GetBondType() == Chem.BondType.AROMATIC
    ]
    double = {frozenset((i, j)) for i, j, order in molecule.bonds if order == 2}
    paired = [ends for ends in aromatic if frozenset(ends) in double]
    inside = frozenset(atom for ends in paired for atom in ends)
    edges = tuple(ends for ends in aromatic if inside.issuperset(ends))
    return _matchings(inside, edges) / symmetries


def _matchings(atoms: frozenset[int], edges: tuple[tuple[int, int], ...]) -> int:
    """In how many ways the atoms can be paired off along edges."""
    if not atoms:
        return 1
    first = min(atoms)
    pairs = [ends for ends in edges if first in ends and atoms.issuperset(ends)]
    return sum(_matchings(atoms.difference(ends), edges) for ends in pairs)


def connected_orders(adjacent: Tensor, sizes: Tensor) -> Tensor:
    """In how many orders vertices can be taken so that each but the first has an earlier neighbour.

    Sets of vertices are gone through by their size: a set is reached from each set that lacks one
    of its vertices, where that is next to another of them.

    Args:
        adjacent: ``bool[batch, n, n]``, symmetric; n at most 12 or so, for there are 2^n sets.
        sizes: ``int64[batch]``, how many of the first vertices each graph has.

    Returns:
        ``float64[batch]``; 1 for no vertex.
    """
    batch, n, _ = adjacent.shape
    bits = 2 ** torch.arange(n, device=adjacent.device)
    neighbours = (adjacent * bits).sum(2).T  # of each vertex, as a set
    ways = torch.zeros(2**n, batch, dtype=torch.float64, device=adjacent.device)
    ways[0], ways[bits] = 1, 1
    for sets, last in _sets_by_size(n):
        sets, last = sets.to(bits), last.to(bits)
        before = sets[:, None] ^ bits[last]
        joins = (neighbours[last] & before[..., None]) > 0
        ways[sets] = (ways[before] * joins).sum(1)
    return ways.gather(0, (2**sizes - 1)[None])[0]


@cache
def _sets_by_size(n: int) -> list[tuple[Tensor, Tensor]]:
    """All sets of 2, 3, ... n vertices, each as a number of bits, and the vertices in each."""
    layers = [torch.tensor(list(combinations(range(n), size))) for size in range(2, n + 1)]
    return [((2**vertices).sum(1), vertices) for vertices in layers]
