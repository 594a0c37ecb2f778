"""Scores of peptides and RNA that follow from their letters alone: examples that mean something."""

import math
from collections.abc import Sequence

import numpy as np

# Consensus scale of hydrophobicity (Eisenberg et al. 1984), in units of its own.
HYDROPHOBICITY = {
    "A": 0.62, "C": 0.29, "D": -0.90, "E": -0.74, "F": 1.19, "G": 0.48, "H": -0.40, "I": 1.38,
    "K": -1.50, "L": 1.06, "M": 0.64, "N": -0.78, "P": 0.12, "Q": -0.85, "R": -2.53, "S": -0.18,
    "T": -0.05, "V": 1.08, "W": 0.81, "Y": 0.26,
}  # fmt: skip
CHARGE = {"K": 1, "R": 1, "D": -1, "E": -1}
TURN = math.radians(100)  # of an alpha helix, from residue to residue
LOOP = 3  # bases in a hairpin, at least
PAIRS = ("AU", "UA", "GC", "CG", "GU", "UG")


def amphipathic(texts: Sequence[str]) -> list[float]:
    """How much a peptide would be a charged helix with one greasy side, from 0 up to about 2.

    The hydrophobic moment per residue of an alpha helix (Eisenberg et al. 1984), times a factor
    that is 1 at a net charge of 4 or more, as of antimicrobial peptides, and 0.1 at 0 or less.
    """
    scores = []
    for text in texts:
        values = np.array([HYDROPHOBICITY[letter] for letter in text])
        angles = np.arange(len(values)) * TURN
        moment = abs((values * np.exp(1j * angles)).sum()) / len(values)
        charge = sum(CHARGE.get(letter, 0) for letter in text)
        scores.append(float(moment) * min(1.0, max(0.1, charge / 4)))
    return scores


def paired(texts: Sequence[str]) -> list[float]:
    """Which share of the bases of an RNA can pair with each other at once, from 0 to 1.

    The most pairs (A-U, G-C, G-U) that do not cross, with three bases in a hairpin at least
    (Nussinov and Jacobson 1980); no energies.
    """
    scores = []
    for text in texts:
        n = len(text)
        most = np.zeros((n + 1, n + 1), dtype=int)  # of the bases from i up to, not with, j
        for span in range(LOOP + 2, n + 1):
            for i in range(n - span + 1):
                j = i + span
                best = most[i + 1, j]
                for k in range(i + LOOP + 1, j):
                    if text[i] + text[k] in PAIRS:
                        best = max(best, 1 + most[i + 1, k] + most[k + 1, j])
                most[i, j] = best
        scores.append(2 * float(most[0, n]) / n)
    return scores
