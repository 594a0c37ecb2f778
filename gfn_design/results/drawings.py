"""Drawings of molecules for a page: lined up with the nearest measured one, what is new marked."""

from typing import TYPE_CHECKING, Any, NamedTuple

from gfn_design.results.changes import change_of_molecules
from gfn_design.results.charts import embedded

if TYPE_CHECKING:
    from rdkit.Chem import Mol

WIDTH, HEIGHT = 300, 200
SMALL = 0.6  # of the nearest one's drawing
NEW = (0.98, 0.80, 0.55)  # the colour of what is new


class Drawn(NamedTuple):
    """A design and the measured molecule nearest to it.

    Attributes:
        design: A source of an ``img``.
        nearest: Likewise; empty where there is none.
        change: In words.
    """

    design: str
    nearest: str
    change: str


def drawn(smiles: str, nearest: str | None) -> Drawn:
    """A design in two dimensions, in the attitude of the nearest measured molecule.

    Args:
        smiles: Of the design.
        nearest: Of that molecule, None without one.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem.rdDepictor import SetPreferCoordGen

    design = Chem.MolFromSmiles(smiles)
    SetPreferCoordGen(True)
    if nearest is None:
        _lay_down(design)
        return Drawn(_picture(design, [], 1.0), "", "")
    other = Chem.MolFromSmiles(nearest)
    _lay_down(other)
    change = change_of_molecules(design, other)
    with rdBase.BlockLogs():
        _lay_down(design)
        if change.common:
            _line_up(design, other, change.common)
    new = change.new if len(change.new) < design.GetNumAtoms() else []
    return Drawn(_picture(design, new, 1.0), _picture(other, [], SMALL), change.words)


def _lay_down(molecule: "Mol") -> None:
    """Two dimensions, wider than high."""
    from rdkit.Chem.rdDepictor import Compute2DCoords
    from rdkit.Chem.rdMolTransforms import CanonicalizeConformer

    Compute2DCoords(molecule)
    CanonicalizeConformer(molecule.GetConformer())


def _line_up(design: "Mol", other: "Mol", common: str) -> None:
    """Give the common part of a molecule the places that it has in another."""
    from rdkit import Chem
    from rdkit.Chem.rdDepictor import GenerateDepictionMatching2DStructure

    core = Chem.MolFromSmarts(common)
    own, there = design.GetSubstructMatch(core), other.GetSubstructMatch(core)
    if own and there:
        pairs = [*zip(there, own, strict=True)]
        try:
            GenerateDepictionMatching2DStructure(design, other, atomMap=pairs)
        except (RuntimeError, ValueError):  # it cannot be drawn so; it stays as it was
            return


def _picture(molecule: "Mol", marked: list[int], scale: float) -> str:
    from rdkit.Chem.Draw import MolDraw2DSVG, PrepareMolForDrawing

    drawer = MolDraw2DSVG(int(WIDTH * scale), int(HEIGHT * scale))
    options: Any = drawer.drawOptions()  # whose stubs know one type only
    options.clearBackground, options.padding = False, 0.06
    options.highlightBondWidthMultiplier = 12
    ready = PrepareMolForDrawing(molecule)
    bonds = [
        bond.GetIdx()
        for bond in ready.GetBonds()
        if bond.GetBeginAtomIdx() in marked and bond.GetEndAtomIdx() in marked
    ]
    drawer.DrawMolecule(
        ready,
        highlightAtoms=marked,
        highlightBonds=bonds,
        highlightAtomColors=dict.fromkeys(marked, NEW),
        highlightBondColors=dict.fromkeys(bonds, NEW),
    )
    drawer.FinishDrawing()
    return embedded(drawer.GetDrawingText())
