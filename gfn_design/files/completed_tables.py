"""Tables of k-mers that list one strand only, or leave out a few: completed, and said."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gfn_design.errors import InputError
from gfn_design.files.kmer_tables import content_index, read_table

MAX_GAPS = 0.1  # of all k-mers


def completed_scores(
    path: str | Path, alphabet: str, column: str | None, strands: bool
) -> tuple[NDArray[np.float64], str]:
    """The table as one array in index order, and a sentence on what was added to it.

    Of DNA a k-mer that is not there has the score of its other strand, if that is; any other gap
    the mean of those listed k-mers that differ from it in one letter.

    Args:
        path: The file; see `read_table`.
        alphabet: The letters, in index order.
        column: Of scores.
        strands: Whether letters pair, so that a k-mer may stand for its other strand.

    Raises:
        InputError: More than a tenth of the k-mers are missing.
    """
    table = read_table(path, column)
    index, length = content_index(table, alphabet)
    size, total = len(alphabet), len(alphabet) ** length
    sums, counts = np.zeros(total), np.zeros(total)
    values = np.tile(table.scores, index.size // len(table.sequences))
    np.add.at(sums, index, values)
    np.add.at(counts, index, 1)
    with np.errstate(invalid="ignore"):
        scores = sums / counts
    places = size ** np.arange(length)[::-1]
    digits = np.arange(total)[:, None] // places % size
    other = 0
    if strands:
        twin = ((size - 1 - digits[:, ::-1]) * places).sum(1)
        missing = np.isnan(scores) & ~np.isnan(scores[twin])
        scores[missing], other = scores[twin][missing], int(missing.sum())
    gaps = np.isnan(scores).nonzero()[0]
    if len(gaps) > MAX_GAPS * total:
        raise InputError(
            f"{path}: lacks {len(gaps):,} of the {total:,} words of {length} letters over "
            f"{alphabet}, more than a tenth; too many to fill in"
        )
    for gap in gaps:
        near = gap + ((np.arange(size) - digits[gap][:, None]) * places[:, None]).ravel()
        scores[gap] = np.nanmean(scores[near])
    said = [f"{other:,} scores are those of the other strand"] if other else []
    said += [f"{len(gaps):,} missing ones the mean of their neighbours"] if len(gaps) else []
    return scores, f"{path}: {' and '.join(said)}" if said else ""
