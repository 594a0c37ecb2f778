"""Turn the public sEH proxy into plain arrays: python prepare.py sehstr_gbtr.pkl

The public file is a pickle of a scikit-learn 1.0 HistGradientBoostingRegressor. A pickle can run
code when it is loaded, so it is not loaded: its instructions are listed, and the blocks of bytes
that have the size of a tree's table of nodes are read as such. The original was not at hand when
this was written; the checksum of all predictions says whether that went well.
"""

import argparse
import pickletools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gfn_design.data import seh
from gfn_design.errors import InputError

TREES, NODES, POSITIONS, BLOCKS = 100, 61, 6, 18
BASELINE = (
    4.494287880695628  # the mean of what it was trained on, which every prediction starts from
)
NODE = np.dtype(  # of scikit-learn 1.0, without gaps
    [
        ("value", "<f8"),
        ("count", "<u4"),
        ("feature", "<u4"),
        ("threshold", "<f8"),
        ("missing_left", "u1"),
        ("left", "<u4"),
        ("right", "<u4"),
        ("gain", "<f8"),
        ("depth", "<u4"),
        ("is_leaf", "u1"),
        ("bin", "u1"),
        ("is_categorical", "u1"),
        ("bits", "<u4"),
    ]
)


def trees(path: Path) -> list[np.ndarray]:
    """The tables of nodes, in the order of the file."""
    size = NODES * NODE.itemsize
    try:
        parts = [value for _, value, _ in pickletools.genops(path.read_bytes())]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a pickle ({error}).") from error
    found = [np.frombuffer(p, NODE) for p in parts if isinstance(p, bytes) and len(p) == size]
    if len(found) != TREES:
        raise InputError(f"{path} holds {len(found)} trees of {NODES} nodes, expected {TREES}.")
    return found


def leaves(tree: np.ndarray) -> Iterator[tuple[NDArray[np.bool_], float]]:
    """Which blocks lead to each leaf, ``bool[positions, blocks]``, and the leaf's value."""
    waiting = [(0, np.ones((POSITIONS, BLOCKS), bool))]
    while waiting:
        number, allowed = waiting.pop()
        node = tree[number]
        if node["is_leaf"]:
            yield allowed, float(node["value"])
            continue
        position, block = divmod(int(node["feature"]), BLOCKS)
        this = np.zeros_like(allowed)
        this[position, block] = True
        without, only = allowed & ~this, allowed.copy()
        only[position] &= this[position]
        waiting += [(int(node["right"]), only), (int(node["left"]), without)]


def prepare(original: Path, output: Path) -> None:
    found = [leaf for tree in trees(original) for leaf in leaves(tree)]
    allowed = np.array([leaf[0] for leaf in found])
    value = np.array([leaf[1] for leaf in found])
    if seh.checksum(seh.predictions(allowed, value, BASELINE)) != seh.TABLE_SHA256:
        raise InputError(f"{original} does not give the published predictions.")
    np.savez_compressed(output, leaf_allowed=allowed, leaf_value=value, baseline=BASELINE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Write sehstr_gbtr_leaves.npz from the public file."
    )
    parser.add_argument("original", type=Path, help="sehstr_gbtr.pkl as published")
    parser.add_argument("output", type=Path, nargs="?", default=Path(Path(seh.LEAVES).name))
    options = parser.parse_args()
    try:
        prepare(options.original, options.output)
    except InputError as error:
        parser.exit(2, f"{error}\n")
