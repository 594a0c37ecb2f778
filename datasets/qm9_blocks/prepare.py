"""Turn the public gaps of Shen et al. (2023) into a table: python prepare.py block_qm9str_v1_s5.pkl

The public file is a pickle of a dict from five symbols to a float32. A pickle can run code when it
is loaded, so it is not loaded: its instructions are listed, and the keys and values are picked from
them. The checksum of the gaps says whether that went well.
"""

import argparse
import pickletools
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gfn_design.environments.molecules.chains import BLOCKS, block_smiles
from gfn_design.errors import InputError
from gfn_design.files.registry import SOURCES, content_sha256

LENGTH = 5


def gaps(path: Path) -> Iterator[tuple[str, float]]:
    """Keys and values in the order of the file."""
    symbols, key = set(SOURCES["qm9"].alphabet), None
    try:
        for _, value, _ in pickletools.genops(path.read_bytes()):
            if isinstance(value, str) and len(value) == LENGTH and set(value) <= symbols:
                key = value
            elif key and isinstance(value, float):
                yield key, value
                key = None
            elif key and isinstance(value, bytes) and len(value) == 4:  # a NumPy scalar
                yield key, float(np.frombuffer(value, "<f4")[0])
                key = None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a pickle ({error}).") from error


def prepare(original: Path, output: Path) -> None:
    found = dict(gaps(original))
    keys = ["".join(key) for key in product(SOURCES["qm9"].alphabet, repeat=LENGTH)]
    if missing := [key for key in keys if key not in found]:
        raise InputError(f"{original} lacks {len(missing):,} chains, the first being {missing[0]}.")
    gap = np.array([found[key] for key in keys], np.float32)
    if content_sha256(gap) != SOURCES["qm9"].content_sha256:
        raise InputError(f"{original} holds every chain, but not with the published gaps.")
    names = [block.smiles for block in BLOCKS["qm9"]]
    chains = (" ".join(chain) for chain in product(names, repeat=LENGTH))
    pq.write_table(pa.table({"key": keys, "smiles": block_smiles(chains), "gap": gap}), output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write qm9str_11x5.parquet from the public file.")
    parser.add_argument("original", type=Path, help="block_qm9str_v1_s5.pkl as published")
    parser.add_argument("output", type=Path, nargs="?", default=Path("qm9str_11x5.parquet"))
    options = parser.parse_args()
    try:
        prepare(options.original, options.output)
    except InputError as error:
        parser.exit(2, f"{error}\n")
