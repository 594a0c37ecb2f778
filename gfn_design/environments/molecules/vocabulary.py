"""Fragments that molecules are built from: embedded, published, mined, or from a file."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gfn_design.environments.molecules import links as brics
from gfn_design.environments.molecules.links import Links
from gfn_design.errors import InputError
from gfn_design.files.whole import whole_file

if TYPE_CHECKING:
    from rdkit.Chem import Mol


class Fragment(NamedTuple):
    """A part of molecules, and where it can be joined to others by a single bond.

    Attributes:
        smiles: The fragment with hydrogens at its points.
        points: Atoms by their place in the SMILES; an atom is there as often as it may be joined.
        entry: Which of the points, by its place among them, is the only one that a fragment before
            may be joined to; None: any.
        links: BRICS types of each point's atom, which say what it may be joined to; of a fragment
            without any, all of its points may be joined to anything.
        times: How often it was found where it was mined, which `Fragments` may weigh it by.
    """

    smiles: str
    points: tuple[int, ...]
    entry: int | None = None
    links: tuple[Links, ...] = ()
    times: int = 1


# Fragments common in drugs; small, so that a few of them make a molecule of the size of a drug, and
# mostly such that a point may as well stay open.
DRUGLIKE = (
    "[*]c1ccccc1",
    "[*]c1ccc([*])cc1",
    "[*]c1cccc([*])c1",
    "[*]c1ccc([*])nc1",
    "[*]c1cnc([*])nc1",
    "[*]c1cnn([*])c1",
    "[*]c1csc([*])n1",
    "[*]c1noc([*])c1",
    "[*]N1CCN([*])CC1",
    "[*]N1CCC([*])CC1",
    "[*]N1CCOCC1",
    "[*]N1CCC([*])C1",
    "[*]C1CCN([*])C1=O",
    "[*]C1CC1",
    "[*]C1CCC([*])CC1",
    "[*]C(=O)N[*]",
    "[*]NS(=O)(=O)c1ccc([*])cc1",
    "[*]S(N)(=O)=O",
    "[*]S(C)(=O)=O",
    "[*]NC(=O)N[*]",
    "[*]CC(=O)N[*]",
    "[*]C[*]",
    "[*]C([*])C",
    "[*]CC[*]",
    "[*]O[*]",
    "[*]N[*]",
    "[*]C",
    "[*]OC",
    "[*]F",
    "[*]Cl",
    "[*]C#N",
    "[*]C(F)(F)F",
    "[*]N(C)C",
)


def vocabulary(source: str) -> tuple[Fragment, ...]:
    """The fragments of a vocabulary.

    Args:
        source: ``druglike``, which is embedded; ``seh_105``, the blocks of Bengio et al. (2021),
            arXiv:2106.04399, each joined to what was there by its first point alone; ``seh_72``,
            the 72 different ones of these with all their points; or a file, see `read_vocabulary`.

    Raises:
        InputError: There is no such vocabulary, or a fragment is not as it should be.
    """
    if source == "druglike":
        return tuple(marked(smiles, "druglike") for smiles in DRUGLIKE)
    if source in ("seh_105", "seh_72"):
        from gfn_design.files.registry import locate

        blocks = read_vocabulary(locate("seh_105"))
        return blocks if source == "seh_105" else _merged(blocks)
    if not Path(source).is_file():
        raise InputError(
            f"{source}: no such file, and no vocabulary of that name (druglike, seh_72, seh_105)"
        )
    return read_vocabulary(Path(source))


def _merged(blocks: Iterable[Fragment]) -> tuple[Fragment, ...]:
    """One fragment for each SMILES, with the points of all; ordered by SMILES."""
    points: dict[str, set[int]] = {}
    for block in blocks:
        points.setdefault(block.smiles, set()).update(block.points)
    return tuple(Fragment(smiles, tuple(sorted(points[smiles]))) for smiles in sorted(points))


def read_vocabulary(path: Path) -> tuple[Fragment, ...]:
    """The fragments in a file.

    - ``.smi``, ``.txt``: a SMILES in each line, its points marked by ``[*]``; words after it are
      not read.
    - ``.csv``: a column ``smiles``; points marked, or in a column ``points`` as the places of
      atoms in the SMILES, from 0, with spaces between. A column ``entry`` may name the one atom
      that the fragment is joined to what is there by, and a column ``links`` the BRICS types of
      the points, such as ``5 8+16``, 0 for any, and a column ``count`` how often it was found.
    - ``.json``: a list of marked SMILES, or of objects with the same keys; or the published blocks
      of Bengio et al. (2021).

    Raises:
        InputError: A row is no fragment; the message names it.
    """
    return tuple(_fragment(row, where) for where, row in _rows(path))


def _rows(path: Path) -> list[tuple[str, Any]]:
    """What each row of a file holds, and what to call it."""
    try:
        rows = _parsed_rows(path)
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    if not rows:
        raise InputError(f"{path}: holds nothing")
    return rows


def _parsed_rows(path: Path) -> list[tuple[str, Any]]:
    kind = path.suffix.lower()
    if kind == ".json":
        content = json.loads(path.read_text())
        if isinstance(content, dict) and "block_smi" in content:
            names = content["block_smi"]
            entries: list[Any] = [
                {"smiles": names[i], "stems": content["block_r"][i], "first": True}
                for i in sorted(names, key=int)
            ]
        elif isinstance(content, dict):
            (first, entries) = next(
                (key == "blocks", content[key]) for key in ("blocks", "fragments") if key in content
            )
            entries = [{**entry, "first": first} if first else entry for entry in entries]
        else:
            entries = content
        return [(f"{path}, entry {i}", entry) for i, entry in enumerate(entries, 1)]
    if kind == ".csv":
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            if "smiles" not in (reader.fieldnames or ()):
                raise ValueError("it has no column 'smiles'")
            return [(f"{path}, row {i}", row) for i, row in enumerate(reader, 1)]
    lines = enumerate(path.read_text().splitlines(), 1)
    return [(f"{path}, line {i}", line.split()[0]) for i, line in lines if line.strip()]


def _fragment(row: Any, where: str) -> Fragment:
    if isinstance(row, str):
        return marked(row, where)
    if not isinstance(row, dict) or not isinstance(row.get("smiles"), str):
        raise InputError(f"{where}: expected a SMILES, or an object with 'smiles' and 'points'")
    points, entry = row.get("points", row.get("stems")), row.get("entry")
    if points in (None, ""):
        if entry not in (None, ""):
            raise InputError(f"{where}: an entry is one of the points, which must be listed too")
        return marked(row["smiles"], where)._replace(times=_times(row, where))
    try:
        listed = points.split() if isinstance(points, str) else points
        atoms = tuple(int(atom) for atom in listed)
        place = 0 if row.get("first") else None
        if entry not in (None, ""):
            place = atoms.index(int(entry))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{where}: points must be places of atoms, such as 0 1 3, and entry one of them, "
            f"got points {points!r} and entry {entry!r}"
        ) from error
    try:
        links = brics.read(row.get("links") or "")
    except ValueError as error:
        raise InputError(f"{where}: links '{row['links']}' cannot be read ({error})") from error
    if links and len(links) != len(atoms):
        raise InputError(f"{where}: {len(atoms)} points need as many links, got {len(links)}")
    return Fragment(row["smiles"], atoms, place, links if any(links) else (), _times(row, where))


def _times(row: dict[str, Any], where: str) -> int:
    """The count of a row; 1 without."""
    text = str(row.get("count") or 1).strip()
    if not text.isdecimal() or not 1 <= int(text) < 2**31:
        raise InputError(f"{where}: count must be a whole number from 1, got '{text}'")
    return int(text)


def marked(smiles: str, where: str = "", linked: bool = False) -> Fragment:
    """The fragment whose points are marked by dummy atoms, such as ``[*]c1ccccc1``.

    Stereo marks are left out: molecules are built without.

    Args:
        smiles: With at least one ``*``, each on a single bond; its number is not read.
        where: Named in messages.
        linked: The numbers are read, as BRICS types.

    Raises:
        InputError: It is no SMILES, or has no point.
    """
    from rdkit import Chem

    molecule = parsed(smiles, where)
    dummies = [atom for atom in molecule.GetAtoms() if atom.GetAtomicNum() == 0]
    name = f"{where}: '{smiles}'" if where else f"'{smiles}'"
    if not dummies:
        raise InputError(f"{name} has no attachment point; mark one or more by [*]")
    if len(dummies) == molecule.GetNumAtoms():
        raise InputError(f"{name} has no atom but its attachment points")
    points = []
    for dummy in dummies:
        bonds = dummy.GetBonds()
        if len(bonds) != 1 or bonds[0].GetBondType() != Chem.BondType.SINGLE:
            raise InputError(f"{name}: every [*] must be on one single bond")
        neighbour = bonds[0].GetOtherAtom(dummy)
        if neighbour.GetAtomicNum() == 0:
            raise InputError(f"{name}: every [*] must be on an atom of the fragment")
        points.append(neighbour)
    for atom in molecule.GetAtoms():
        atom.SetAtomMapNum(0)
    types = [dummy.GetIsotope() if linked else 0 for dummy in dummies]
    for atom in points:
        own = {x for x, at in zip(types, points, strict=True) if at.GetIdx() == atom.GetIdx()}
        atom.SetProp("links", "+".join(map(str, sorted(own))))
        atom.SetIntProp("points", sum(atom.GetIdx() == other.GetIdx() for other in points))
    for dummy in dummies:  # a hydrogen takes its place
        dummy.SetAtomicNum(1)
        dummy.SetIsotope(0)
        dummy.SetFormalCharge(0)
        dummy.SetNoImplicit(True)
        dummy.SetNumExplicitHs(0)
    Chem.RemoveStereochemistry(molecule)
    free = Chem.RemoveHs(molecule)
    text = Chem.MolToSmiles(free)
    order = list(free.GetPropsAsDict(True, True)["_smilesAtomOutputOrder"])
    again = [
        place
        for place, atom in enumerate(order)
        for _ in range(_count(free.GetAtomWithIdx(atom), "points"))
    ]
    if not any(types):
        return Fragment(text, tuple(again))
    texts = [free.GetAtomWithIdx(order[place]).GetProp("links") for place in again]
    return Fragment(text, tuple(again), None, brics.read(" ".join(texts)))


def _count(atom: Any, name: str) -> int:
    return atom.GetIntProp(name) if atom.HasProp(name) else 0


def parsed(smiles: str, where: str = "") -> "Mol":
    """The one molecule that a SMILES spells.

    Raises:
        InputError: RDKit does not read it, or it is empty or several molecules.
    """
    from rdkit import Chem, rdBase

    name = f"{where}: '{smiles}'" if where else f"'{smiles}'"
    with rdBase.BlockLogs():  # RDKit's own words, which are many
        molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise InputError(f"{name} is not a SMILES that RDKit reads; mend or remove it")
    if not molecule.GetNumAtoms():
        raise InputError(f"{name} holds no atom")
    if len(Chem.GetMolFrags(molecule)) > 1:
        raise InputError(f"{name} is several molecules; expected one")
    return molecule


def write_vocabulary(fragments: Iterable[Fragment], path: Path) -> None:
    """Write a file that `read_vocabulary` reads: CSV with all of fragments, and their counts."""
    with whole_file(path, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["smiles", "points", "entry", "links", "count"])
        for smiles, points, entry, links, count in fragments:
            first = "" if entry is None else points[entry]
            places = " ".join(map(str, points))
            writer.writerow([smiles, places, first, brics.written(links), count])
