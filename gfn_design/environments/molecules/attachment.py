"""Fragments as RDKit has them: how they are joined, and how many hydrogens that leaves."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from gfn_design.environments.molecules.vocabulary import Fragment, parsed
from gfn_design.errors import InputError

if TYPE_CHECKING:
    from rdkit.Chem import Mol

AtomKey = tuple[int, int, bool, int]


def atom_key(atom: Any) -> AtomKey:
    """Element, charge, aromaticity and isotope of an atom."""
    return atom.GetAtomicNum(), atom.GetFormalCharge(), atom.GetIsAromatic(), atom.GetIsotope()


class Outline(NamedTuple):
    """What a molecule is made of, as plain lists.

    Attributes:
        keys: Of each atom, see `atom_key`.
        hydrogens: On each atom.
        bonds: Two atoms, the order (1.5 if aromatic), and whether it is in a ring.
    """

    keys: list[AtomKey]
    hydrogens: list[int]
    bonds: list[tuple[int, int, float, bool]]


def outline(molecule: "Mol") -> Outline:
    """The outline of a molecule; by index, since RDKit's iterators are slow."""
    atoms = [molecule.GetAtomWithIdx(i) for i in range(molecule.GetNumAtoms())]
    bonds = [molecule.GetBondWithIdx(i) for i in range(molecule.GetNumBonds())]
    return Outline(
        [atom_key(atom) for atom in atoms],
        [atom.GetTotalNumHs() for atom in atoms],
        [
            (b.GetBeginAtomIdx(), b.GetEndAtomIdx(), b.GetBondTypeAsDouble(), b.IsInRing())
            for b in bonds
        ],
    )


def joined(parts: Sequence["Mol"], bonds: Iterable[tuple[int, int, int, int]]) -> "Mol":
    """One molecule of several parts; a bond takes the place of a hydrogen at both of its ends.

    Args:
        parts: Molecules.
        bonds: A part and its atom, and another part and its atom, which a single bond joins.
    """
    from rdkit import Chem

    molecule, first = Chem.RWMol(), []
    for part in parts:
        first.append(molecule.GetNumAtoms())
        molecule.InsertMol(part)
    for one, atom, other, end in bonds:
        ends = first[one] + atom, first[other] + end
        molecule.AddBond(*ends, Chem.BondType.SINGLE)
        for place in ends:
            at = molecule.GetAtomWithIdx(place)
            if hydrogens := at.GetNumExplicitHs():  # RDKit counts the others anew
                at.SetNumExplicitHs(hydrogens - 1)
    Chem.SanitizeMol(molecule)
    return molecule


class Piece:
    """A fragment that has been checked, and what RDKit knows of it.

    Args:
        fragment: From a vocabulary.
        where: Named in messages.

    Attributes:
        molecule: With hydrogens at its points.
        count: How often each atom may be joined.
        hydrogens: Of each atom, by how often it is joined.
        keys: How many atoms of each kind it has.
        links: Of each atom that may be joined the types of BRICS; without any, all fit.
        entry_atom: The only atom that what is before may be joined to; None: any.
        name: Equal for two fragments exactly if they are the same.

    Raises:
        InputError: It is no SMILES, has no point, or no valence is left for one.
    """

    def __init__(self, fragment: Fragment, where: str = "") -> None:
        from rdkit import Chem

        self.fragment, self.where = fragment, where
        self.molecule = parsed(fragment.smiles, where)
        Chem.RemoveStereochemistry(self.molecule)
        name = f"{where}: '{fragment.smiles}'" if where else f"'{fragment.smiles}'"
        atoms = list(self.molecule.GetAtoms())
        if not fragment.points:
            raise InputError(f"{name} has no attachment point; list one or more atoms as points")
        if bad := [point for point in fragment.points if not 0 <= point < len(atoms)]:
            raise InputError(f"{name} has {len(atoms)} atoms, counted from 0; got point {bad[0]}")
        if fragment.entry is not None and not 0 <= fragment.entry < len(fragment.points):
            raise InputError(f"{name}: entry must be one of its points, got {fragment.entry}")
        if any(atom.GetAtomicNum() == 0 or atom.GetNumRadicalElectrons() for atom in atoms):
            raise InputError(
                f"{name}: points are listed, so it must have no dummy atom and no open valence"
            )
        self.count = [fragment.points.count(i) for i in range(len(atoms))]
        self.entry_atom = None if fragment.entry is None else fragment.points[fragment.entry]
        self.hydrogens = [[atom.GetTotalNumHs()] for atom in atoms]
        self.keys = Counter(map(atom_key, atoms))
        points, links = fragment.points, fragment.links or (frozenset(),) * len(fragment.points)
        if len(points) != len(links):
            raise InputError(f"{name}: {len(points)} points need as many links, got {len(links)}")
        self.links = dict(zip(points, links, strict=True))
        if any(self.links[point] != own for point, own in zip(points, links, strict=True)):
            raise InputError(f"{name}: the points of one atom must have the same links")
        self._try_points(name)
        for atom, times in zip(atoms, self.count, strict=True):
            types = sum(1 << x for x in self.links.get(atom.GetIdx(), ()))
            entry = self.entry_atom == atom.GetIdx()
            atom.SetAtomMapNum(times + entry * 100 + types * 1000)
        self.name = Chem.MolToSmiles(self.molecule)
        for atom in atoms:
            atom.SetAtomMapNum(0)

    def _try_points(self, name: str) -> None:
        """Join carbon everywhere, once and as often as possible, and count hydrogens."""
        from rdkit import Chem, rdBase

        carbon, size = Chem.MolFromSmiles("C"), self.molecule.GetNumAtoms()

        def with_carbons(ends: list[int]) -> "Mol":
            bonds = [(0, end, i, 0) for i, end in enumerate(ends, 1)]
            try:
                with rdBase.BlockLogs():
                    whole = joined([self.molecule, *[carbon] * len(ends)], bonds)
            except (Chem.AtomValenceException, Chem.KekulizeException) as error:
                raise InputError(
                    f"{name}: atom {ends[0]} has no valence left for so many attachment points"
                ) from error
            before = [atom_key(atom) for atom in self.molecule.GetAtoms()]
            if [atom_key(atom) for atom in list(whole.GetAtoms())[:size]] != before or any(
                atom.GetNumRadicalElectrons() for atom in whole.GetAtoms()
            ):
                raise InputError(f"{name}: to join something there changes more than a hydrogen")
            return whole

        for atom, times in enumerate(self.count):
            for k in range(1, times + 1):
                whole = with_carbons([atom] * k)
                self.hydrogens[atom].append(whole.GetAtomWithIdx(atom).GetTotalNumHs())
        whole = with_carbons(list(self.fragment.points))
        found = [atom.GetTotalNumHs() for atom in list(whole.GetAtoms())[:size]]
        if found != [counts[-1] for counts in self.hydrogens]:
            raise InputError(f"{name}: its attachment points depend on each other")
        self.full = whole

    @cached_property
    def query(self) -> "Mol":
        """A pattern that each atom matches if it is there with as many hydrogens as joins leave."""
        from rdkit import Chem

        pattern = Chem.RWMol(self.molecule)
        for atom in self.molecule.GetAtoms():
            degree, counts = atom.GetDegree(), self.hydrogens[atom.GetIdx()]
            joins = ",".join(f"D{degree + k}&H{hydrogens}" for k, hydrogens in enumerate(counts))
            kind = "a" if atom.GetIsAromatic() else "A"
            isotope = f"&{atom.GetIsotope()}*" if atom.GetIsotope() else "&0*"
            charge = f"{atom.GetFormalCharge():+d}"
            text = f"[#{atom.GetAtomicNum()}&{kind}{isotope}&{charge};{joins}]"
            pattern.ReplaceAtom(atom.GetIdx(), Chem.AtomFromSmarts(text))
        return pattern.GetMol()

    @cached_property
    def open_atoms(self) -> list[tuple[int, int]]:
        """The atoms that may be joined, and their bonds within the fragment."""
        atoms = self.molecule.GetAtoms()
        return [(a.GetIdx(), a.GetDegree()) for a in atoms if self.count[a.GetIdx()]]


def pieces(fragments: Iterable[Fragment], where: str) -> list[Piece]:
    """The fragments of a vocabulary, checked.

    Raises:
        InputError: One is not as it should be, or is there twice.
    """
    found: dict[str, Piece] = {}
    for i, fragment in enumerate(fragments, 1):
        piece = Piece(fragment, f"{where}, fragment {i}")
        if (other := found.setdefault(piece.name, piece)) is not piece:
            raise InputError(
                f"{piece.where}: '{fragment.smiles}' with these points is there already, as "
                f"'{other.fragment.smiles}' ({other.where}); remove one"
            )
    if not found:
        raise InputError(f"{where}: holds no fragment")
    return list(found.values())


def mark(fragment: Fragment) -> str:
    """The fragment as SMILES with its points marked by ``[*]``, as `marked` reads it."""
    from rdkit import Chem

    dummy = Chem.MolFromSmiles("[*]")
    piece = Piece(fragment)
    bonds = [(0, atom, i, 0) for i, atom in enumerate(fragment.points, 1)]
    return Chem.MolToSmiles(joined([piece.molecule, *[dummy] * len(bonds)], bonds))
