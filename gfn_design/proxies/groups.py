"""Groups of objects that are alike, which no test may split: scaffolds, clusters of sequences."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gfn_design.proxies.inputs import Inputs, Reference

ALIKE = 0.4  # similarity of counts from which on sequences are of one cluster
FOLDS = 5


def groups_of(inputs: Inputs) -> list[str]:
    """The group of each object, by a name.

    Of a molecule it is its scaffold, ring systems and what links them (Bemis and Murcko 1996), as
    SMILES; those without a ring are one group. Sequences are clustered: the first that is in no
    cluster yet begins one, and takes all others that are similar to it.
    """
    if inputs.kind == "molecules":
        return _scaffolds(inputs.texts)
    group = np.full(len(inputs), -1)
    n, all_of_them = 0, Reference(inputs.counts, levels=1)
    for i in range(len(inputs)):
        if group[i] < 0:
            free = np.flatnonzero(group < 0)
            alike = all_of_them.similarity(inputs.counts[i : i + 1])[0, free]
            group[free[alike >= ALIKE]] = n
            group[i] = n
            n += 1
    return [f"cluster {i + 1}" for i in group]


def _scaffolds(texts: Sequence[str]) -> list[str]:
    from rdkit import Chem
    from rdkit.Chem.Scaffolds.MurckoScaffold import GetScaffoldForMol

    names = []
    for text in texts:
        molecule = Chem.MolFromSmiles(text)
        Chem.RemoveStereochemistry(molecule)
        names.append(Chem.MolToSmiles(GetScaffoldForMol(molecule)) or "no ring")
    return names


def folds_of(groups: Sequence[str], n: int = FOLDS) -> NDArray[np.int64]:
    """The fold of each object: whole groups, large ones first, each into the smallest fold."""
    fold_of: dict[str, int] = {}
    sizes = [0] * n
    for name, size in sorted(Counter(groups).items(), key=lambda item: (-item[1], item[0])):
        fold_of[name] = int(np.argmin(sizes))
        sizes[fold_of[name]] += size
    return np.array([fold_of[name] for name in groups])
