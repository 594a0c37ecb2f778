"""Position weight matrices of DNA-binding proteins as scores."""

import contextlib
import warnings
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfn_design.errors import InputError


class Motif(NamedTuple):
    """A position frequency matrix.

    Attributes:
        name: Of the factor.
        source: Where the matrix comes from.
        counts: ``float64[4, width]``, how often A, C, G and T were seen at each position.
    """

    name: str
    source: str
    counts: np.ndarray


def jaspar_motif(factor: str) -> Motif:
    """The matrix of a factor in the JASPAR 2026 database, which the pyjaspar package carries.

    Args:
        factor: A matrix such as ``MA0148.5``, or a name such as ``FOXA1``; of several matrices
            with one name the best curated collection counts, then vertebrates, then the newest.

    Raises:
        InputError: The database has no such factor.
    """
    from pyjaspar import jaspardb

    database = jaspardb(release="JASPAR2026")
    with warnings.catch_warnings(), contextlib.closing(database.conn):
        warnings.simplefilter("ignore")  # that nothing was found is said below
        if factor[:2] in ("MA", "UN") and factor[2:6].isdecimal():
            found = database.fetch_motif_by_id(factor)
        else:
            named = (factor and database.fetch_motifs_by_name(factor)) or [None]
            found = min(named, key=_preference)
    if found is None:
        raise InputError(
            f"JASPAR 2026 has no factor '{factor}'; give a name such as FOXA1 or a matrix such as "
            "MA0148.5"
        )
    counts = np.array([found.counts[base] for base in "ACGT"], dtype=np.float64)
    return Motif(found.name, f"JASPAR 2026, {found.matrix_id}", counts)


def _preference(motif: object) -> tuple[bool, bool, str]:
    """Sorts the motif to take first."""
    if motif is None:
        return (True, True, "")
    group, collection = getattr(motif, "tax_group", ""), getattr(motif, "collection", "")
    return (collection != "CORE", group != "vertebrates", getattr(motif, "matrix_id", ""))


class MotifScore(nn.Module):
    """How strongly a factor binds a sequence, the best possible site counting as 1.

    The sum over all positions, and both strands, of exp(log-odds of the site - the largest
    possible log-odds): the relative occupancy of a weakly bound sequence (Stormo 2000). Sites lie
    inside the sequence; of a motif that is wider, the most informative columns that fit are kept.

    Args:
        motif: The factor's matrix.
        length: Letters in each sequence.
        both_strands: Also read the reverse complement.
        pseudocount: Added to every count, so that a letter never seen is not impossible.
    """

    kernel: Tensor

    def __init__(
        self, motif: Motif, length: int, both_strands: bool = True, pseudocount: float = 1.0
    ) -> None:
        super().__init__()
        counts = torch.from_numpy(motif.counts) + pseudocount
        log_odds = (4 * counts / counts.sum(0)).log()
        if log_odds.shape[1] > length:
            information = (counts / counts.sum(0) * log_odds).sum(0)
            start = int(information.unfold(0, length, 1).sum(1).argmax())
            log_odds = log_odds[:, start : start + length]
        log_odds = log_odds - log_odds.max(0).values
        strands = [log_odds, log_odds.flip(0, 1)] if both_strands else [log_odds]
        self.register_buffer("kernel", torch.stack(strands).float(), persistent=False)

    def forward(self, objects: Tensor) -> Tensor:
        letters = F.one_hot(objects, 4).transpose(1, 2).to(self.kernel.dtype)
        return F.conv1d(letters, self.kernel).exp().sum((1, 2))
