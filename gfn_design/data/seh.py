"""The sEH proxy of Shen et al. (2023) on all 18^6 chains of blocks, as one table.

The proxy is a sum of regression trees over one-hot encoded blocks. A leaf is reached exactly by the
chains whose block at each position is one that the leaf allows, so the sum over leaves is one
matrix product: what leaves say of the first half of a chain, times what they say of the second.
"""

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gfn_design.errors import InputError
from gfn_design.files.registry import cache_folder

LEAVES = "sehstr/sehstr_gbtr_leaves.npz"  # inside a data folder
TABLE = "seh_18x6.npy"  # inside the cache
TABLE_SHA256 = "2ec7599e2ad608b27aeb0fcfd634a768993d89eeb65a22968685777d2e081f97"
ROWS = 324  # first halves of a chain done at once: 15 MB of float64 for sEH


def seh_scores() -> NDArray[np.float32]:
    """The proxy's prediction for every chain, ``float32[18 ** 6]`` in the order of their numbers.

    Computed from the leaves in half a minute or less, once; then read from the cache. The checksum
    is that of the predictions, which are the same to the last bit on any machine.

    Raises:
        InputError: The leaves are not at hand or others, or the cache cannot be written.
    """
    path = cache_folder() / TABLE
    if path.is_file() and (table := _read(path)) is not None:
        return table
    leaves = _leaves_file()
    try:
        with np.load(leaves, allow_pickle=False) as file:
            allowed, value, baseline = (
                file[name] for name in ("leaf_allowed", "leaf_value", "baseline")
            )
            table = predictions(allowed, value, float(baseline))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{leaves}: is no file of leaves ({error}); copy it anew") from error
    if checksum(table) != TABLE_SHA256:
        raise InputError(f"{leaves}: holds other leaves than the published ones; copy it anew")
    _write(path, table)
    return table


def predictions(
    allowed: NDArray[np.bool_], value: NDArray[np.float64], baseline: float
) -> NDArray[np.float32]:
    """baseline + sum over leaves of value times whether each block is allowed, for every chain.

    Values are rounded to multiples of 2^-40 first. Sums below 2^13 are then exact in float64,
    whatever order they are added in, so that equal leaves give equal bits on every machine.

    Args:
        allowed: ``bool[leaves, positions, blocks]``, which blocks lead to a leaf.
        value: ``float64[leaves]``.
        baseline: Of a chain that reaches no leaf.

    Returns:
        ``float32[blocks ** positions]``, the first position most significant.
    """
    half = allowed.shape[1] // 2
    worth = torch.from_numpy(np.round(value * 2.0**40) / 2.0**40)
    left = _products(allowed[:, :half]) * worth[:, None]
    right = _products(allowed[:, half:])
    constant = round(baseline * 2.0**40) / 2.0**40
    table = torch.empty(left.shape[1], right.shape[1])
    for rows, part in zip(table.split(ROWS), left.split(ROWS, dim=1), strict=True):
        rows.copy_(part.T @ right + constant)
    return table.flatten().numpy()


def _products(allowed: NDArray[np.bool_]) -> torch.Tensor:
    """Whether every leaf allows each string of blocks: ``float64[leaves, blocks ** positions]``."""
    product = torch.ones(len(allowed), 1, dtype=torch.float64)
    for position in torch.from_numpy(allowed).double().unbind(1):
        product = (product[:, :, None] * position[:, None]).flatten(1)
    return product


def _leaves_file() -> Path:
    folder = os.environ.get("GFN_DESIGN_DATA")
    path = Path(folder).expanduser() / LEAVES if folder else cache_folder() / Path(LEAVES).name
    if not path.is_file():
        raise InputError(
            f"{path}: there is no such file; make it with datasets/seh_blocks/prepare.py, or name "
            f"a folder that holds {LEAVES} in GFN_DESIGN_DATA"
        )
    return path


def checksum(table: NDArray[np.float32]) -> str:
    """sha256 of predictions as little-endian float32."""
    return hashlib.sha256(table.astype("<f4", copy=False).data).hexdigest()


def _read(path: Path) -> NDArray[np.float32] | None:
    """The table in the cache, None if the file is damaged."""
    try:
        table: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    good = table.dtype == np.float32 and table.ndim == 1 and checksum(table) == TABLE_SHA256
    return table if good else None


def _write(path: Path, table: NDArray[np.float32]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder) / TABLE
            np.save(part, table)
            os.replace(part, path)  # in one step: other processes may be waiting
    except OSError as error:
        raise InputError(
            f"{path.parent}: the cache folder cannot be written ({error.strerror}); name another "
            "one in GFN_DESIGN_CACHE"
        ) from error
