"""A trained model of chemprop 2 as a term: {function: "chemprop_model.py:predict", want: ">= 7"}.

Copy this file beside your configuration, and let MODEL name the file that `chemprop train` wrote
(`model_0/best.pt`). chemprop's files may run code when they are read, as pickles do; so use those
of people you trust. Needs `pip install chemprop`.
"""

import functools
import os

import numpy as np

MODEL = os.environ.get("CHEMPROP_MODEL", "model_0/best.pt")


@functools.cache
def model():
    """Read once in each process that scores."""
    from chemprop.models import MPNN

    return MPNN.load_from_file(MODEL, map_location="cpu").eval()


def predict(smiles: list[str]) -> list[float]:
    """The first property of each molecule, in its own units."""
    import torch
    from chemprop.data import MoleculeDatapoint, MoleculeDataset, collate_batch

    data = MoleculeDataset([MoleculeDatapoint.from_smi(text) for text in smiles])
    batch = collate_batch([data[i] for i in range(len(data))])
    with torch.inference_mode():
        found = model()(batch.bmg, batch.V_d, batch.X_d)
    return np.asarray(found)[:, 0].tolist()
