"""How samples compare with a library: valid, distinct, new, and of the same kind."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from gfn_design.environments.base import Environment, written

MOST = 500  # samples, and as many of those held out, whose similarities are found


def compared(
    environment: Environment, drawn: Tensor, library: Tensor, held_out: Tensor
) -> dict[str, float]:
    """Shares and similarities, from 0 to 1.

    Args:
        environment: What is built.
        drawn: Samples, ``int64[n, *state_shape]``.
        library: What was learned from.
        held_out: What was not.

    Returns:
        ``valid`` of the samples; ``unique`` of the valid ones; ``novel`` of the unique ones, not in
        the library; of molecules ``diversity``, ``nearest_held_out``, and the same of the library
        in place of samples, ``library_diversity`` and ``library_nearest_held_out``.
    """
    good = drawn
    if environment.rejects:
        good = drawn[[reason is None for reason in environment.rejected_for(drawn)]]
    write = written(environment)
    texts = [text for text in write(good) if text]
    distinct, known = list(dict.fromkeys(texts)), set(write(library))
    found = {
        "valid": len(texts) / len(drawn),
        "unique": len(distinct) / max(len(texts), 1),
        "novel": sum(text not in known for text in distinct) / max(len(distinct), 1),
    }
    if environment.molecules and len(distinct) > 1:
        others = write(held_out[:: 1 + len(held_out) // MOST])
        few = write(library[:: 1 + len(library) // MOST])
        for name, some in (("", distinct[:MOST]), ("library_", few)):
            found[f"{name}diversity"], found[f"{name}nearest_held_out"] = _alike(some, others)
    return found


def _alike(smiles: Sequence[str], others: Sequence[str]) -> tuple[float, float]:
    """1 minus the mean similarity of pairs, and the mean similarity to the nearest of others."""
    from rdkit.Chem import MolFromSmiles
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator
    from rdkit.DataStructs import BulkTanimotoSimilarity

    make = GetMorganGenerator(radius=2, fpSize=2048)
    own, there = (
        [make.GetFingerprint(MolFromSmiles(text)) for text in some if text]
        for some in (smiles, others)
    )
    pairs = [x for i, one in enumerate(own) for x in BulkTanimotoSimilarity(one, own[:i])]
    nearest = [max(BulkTanimotoSimilarity(one, there)) for one in own]
    return 1 - float(np.mean(pairs)), float(np.mean(nearest))
