"""Molecules for chemists: what there is to say of each, and files and pictures of many."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gfn_design.files.objects import Row
from gfn_design.rewards.properties import alerts

if TYPE_CHECKING:
    from rdkit.Chem import Mol

N_BEST = 100  # of the best molecules, which a summary is about
RADIUS, BITS = 2, 2048  # of Morgan fingerprints, which similarity is measured by


def describe(smiles: Sequence[str], reference: Sequence[Row] | None = None) -> dict[str, list[str]]:
    """Columns about molecules, one text for each.

    `inchikey`; `scaffold`, the ring systems and what links them (Bemis and Murcko 1996; empty
    without a ring); `alerts`, substructures of the PAINS and BRENK catalogues that it has; and with
    a reference `nearest`, the most similar molecule of it, and `nearest_similarity`, from 0 to
    1, which is Tanimoto's of Morgan fingerprints of radius 2.

    Args:
        smiles: Molecules that RDKit reads.
        reference: Known molecules, with their names.
    """
    from rdkit import Chem

    molecules = _read(smiles)
    columns = {
        "inchikey": [Chem.MolToInchiKey(m) for m in molecules],
        "scaffold": _scaffolds(molecules),
        "alerts": ["; ".join(alerts(text)) for text in smiles],
    }
    if reference is not None:
        names = [row.name for row in reference]
        prints = _fingerprints(_read([row.text for row in reference]))
        from rdkit.DataStructs import BulkTanimotoSimilarity

        nearest, similarity = [], []
        for own in _fingerprints(molecules):
            all_of_them = np.array(BulkTanimotoSimilarity(own, prints))
            nearest.append(names[int(all_of_them.argmax())])
            similarity.append(f"{all_of_them.max():.3f}")
        columns |= {"nearest": nearest, "nearest_similarity": similarity}
    return columns


def diversity(smiles: Sequence[str]) -> float:
    """1 minus the mean Tanimoto similarity of all pairs, from 0 (all alike) to 1."""
    from rdkit.DataStructs import BulkTanimotoSimilarity

    prints = _fingerprints(_read(smiles))
    pairs = [BulkTanimotoSimilarity(own, prints[:i]) for i, own in enumerate(prints)]
    similarity = np.array([x for row in pairs for x in row])
    return float(1 - similarity.mean()) if len(similarity) else 0.0


def summary(smiles: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
    """Measures of distinct molecules, best first, and their scores.

    Of the 100 first `top_score`, their mean score, and `top_diversity`, see `diversity`; of all
    `scaffolds`, the number of different ones that have a ring.
    """
    scaffolds = {text for text in _scaffolds(_read(smiles)) if text}
    return {
        "top_score": float(np.mean(scores[:N_BEST])),
        "top_diversity": diversity(smiles[:N_BEST]),
        "scaffolds": float(len(scaffolds)),
    }


def farthest(smiles: Sequence[str], n: int) -> list[int]:
    """Places of `n` molecules far apart, the first one among them.

    Each next one is that whose nearest among those picked is farthest (MaxMin), by Tanimoto's
    similarity.
    """
    from rdkit.SimDivFilters.rdSimDivPickers import MaxMinPicker

    prints = _fingerprints(_read(smiles))
    n = min(n, len(prints))
    if n < 2:
        return list(range(n))
    return list(MaxMinPicker().LazyBitVectorPick(prints, len(prints), n, firstPicks=[0]))


def _read(smiles: Sequence[str]) -> list["Mol"]:
    from rdkit import Chem

    return [Chem.MolFromSmiles(text) for text in smiles]


def _scaffolds(molecules: Sequence["Mol"]) -> list[str]:
    from rdkit import Chem
    from rdkit.Chem.Scaffolds.MurckoScaffold import GetScaffoldForMol

    return [Chem.MolToSmiles(GetScaffoldForMol(molecule)) for molecule in molecules]


def _fingerprints(molecules: Sequence["Mol"]) -> list:
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    generator = GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    return [generator.GetFingerprint(molecule) for molecule in molecules]


def write_sdf(path: Path, smiles: Sequence[str], columns: dict[str, list[str]]) -> None:
    """Molecules drawn in two dimensions, with all columns as properties."""
    from rdkit import Chem
    from rdkit.Chem.rdDepictor import Compute2DCoords

    with Chem.SDWriter(str(path)) as writer:
        for i, molecule in enumerate(_read(smiles)):
            Compute2DCoords(molecule)
            molecule.SetProp("_Name", f"candidate_{columns['rank'][i]}")
            for name, values in columns.items():
                molecule.SetProp(name, values[i])
            writer.write(molecule)


def draw_grid(smiles: Sequence[str], legends: Sequence[str], columns: int = 4) -> bytes:
    """A picture (PNG) of molecules in rows, each with its legend."""
    from rdkit.Chem.Draw import MolDraw2DCairo

    width, height = 300, 240
    rows = -(-len(smiles) // columns)
    drawer = MolDraw2DCairo(width * columns, height * rows, width, height)
    options: Any = drawer.drawOptions()  # whose stubs know one type only
    options.legendFontSize, options.padding = 20, 0.08
    drawer.DrawMolecules(_read(smiles), legends=list(legends))
    drawer.FinishDrawing()
    picture: bytes = drawer.GetDrawingText()
    return picture
