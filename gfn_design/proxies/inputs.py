"""What models read of objects: counts of parts of molecules, or of words in sequences."""

from collections.abc import Sequence
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from gfn_design.errors import InputError
from gfn_design.files.measured import LETTERS, Kind, other_strand

Counts = NDArray[np.uint8]
SIZE = 2048  # of a molecule's counts, into which parts are folded
LONGEST_WORD = {"DNA": 5, "RNA": 5, "protein": 2}
FARTHEST = {"DNA": 7, "RNA": 7, "protein": 4}  # letters between which pairs are counted
GROUPS = ("KRH", "DE", "FWY", "AVILMC", "STNQ", "G", "P")  # of residues that are alike


class Inputs:
    """Objects of one kind, and what models read of them.

    Args:
        kind: ``molecules``, ``DNA``, ``RNA`` or ``protein``.
        texts: SMILES, or sequences in capitals.
        strands: ``both`` reads DNA on both strands, so that either gives the same.
        second: Reads other parts: of molecules pairs of atoms at distances in place of
            surroundings of atoms, of sequences words of groups of letters (protein) or pairs with
            a gap (DNA, RNA). What judges a model should not read what it reads.

    Raises:
        InputError: A text is no such object.
    """

    def __init__(
        self, kind: Kind, texts: Sequence[str], strands: str = "both", second: bool = False
    ) -> None:
        self.kind, self.texts, self.strands, self.second = kind, list(texts), strands, second

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: NDArray[np.int64]) -> "Inputs":
        """Some of them, with what was counted already."""
        some = Inputs(self.kind, [self.texts[i] for i in rows], self.strands, self.second)
        if "counts" in self.__dict__:
            some.__dict__["counts"] = self.counts[rows]
        return some

    @cached_property
    def counts(self) -> Counts:
        """``uint8[n, features]``."""
        if self.kind == "molecules":
            return _of_molecules(self.texts, self.second)
        both = self.kind == "DNA" and self.strands == "both"
        counted = _of_sequences(self.kind, self.texts, self.second)
        if both:
            other = _of_sequences(self.kind, [other_strand(x) for x in self.texts], self.second)
            counted = np.minimum(counted.astype(np.uint16) + other, 255).astype(np.uint8)
        return counted


def _of_molecules(texts: Sequence[str], second: bool) -> Counts:
    """Morgan's surroundings of radius 2, or pairs of atoms, counted and folded."""
    from rdkit import Chem, rdBase
    from rdkit.Chem.rdFingerprintGenerator import GetAtomPairGenerator, GetMorganGenerator

    make = (
        GetAtomPairGenerator(fpSize=SIZE, countSimulation=False)
        if second
        else GetMorganGenerator(radius=2, fpSize=SIZE)
    )
    counts = np.zeros((len(texts), SIZE), dtype=np.uint8)
    with rdBase.BlockLogs():
        for i, text in enumerate(texts):
            molecule = Chem.MolFromSmiles(text)
            if molecule is None:
                raise InputError(f"RDKit reads no molecule in '{text}'")
            counts[i] = np.minimum(make.GetCountFingerprintAsNumPy(molecule), 255)
    return counts


def _of_sequences(kind: str, texts: Sequence[str], second: bool) -> Counts:
    """How often each word, and each pair of letters at each distance, occurs."""
    letters, longest = LETTERS[kind], LONGEST_WORD[kind]
    if second and kind == "protein":
        groups = {letter: str(i) for i, group in enumerate(GROUPS) for letter in group}
        texts = ["".join(groups[letter] for letter in text) for text in texts]
        letters, longest = "".join(map(str, range(len(GROUPS)))), 3
    words = [w for k in range(1, longest + 1) for w in map("".join, product(letters, repeat=k))]
    if second and kind != "protein":
        words = list(letters)
    place = {word: i for i, word in enumerate(words)}
    farthest = FARTHEST[kind] if second or kind == "protein" else 0
    size = len(letters)
    counts = np.zeros((len(texts), len(words) + max(farthest - 1, 0) * size * size), np.uint16)
    longest = max(map(len, words))
    index = {letter: i for i, letter in enumerate(letters)}
    for row, text in zip(counts, texts, strict=True):
        for k in range(1, longest + 1):
            for i in range(len(text) - k + 1):
                row[place[text[i : i + k]]] += 1
        codes = [index[letter] for letter in text]
        for gap in range(2, farthest + 1):
            base = len(words) + (gap - 2) * size * size
            for first, last in zip(codes, codes[gap:], strict=False):
                row[base + first * size + last] += 1
    return np.minimum(counts, 255).astype(np.uint8)


class Reference:
    """Measured objects that others are compared with.

    Args:
        counts: ``uint8[n, features]``.
        levels: Up to which counts differ; larger ones count as that many.
    """

    def __init__(self, counts: Counts, levels: int = 4) -> None:
        self.counts, self.levels = counts, levels
        self._used = [counts.max(0, initial=0) >= level for level in range(1, levels + 1)]
        self._unary = self._written(counts)
        self._sums = self._sum(counts)

    def _written(self, counts: Counts) -> NDArray[np.float32]:
        """A count of 3 as 1 1 1 0: so the sum of minima is a product."""
        parts = [counts[:, used] >= level for level, used in enumerate(self._used, 1)]
        return np.concatenate(parts, 1).astype(np.float32)

    def _sum(self, counts: Counts) -> NDArray[np.float32]:
        return np.minimum(counts, self.levels).sum(1, dtype=np.float32)

    def similarity(self, rows: Counts) -> NDArray[np.float32]:
        """Tanimoto's, sum of minima over sum of maxima, from 0 to 1: ``float32[rows, n]``."""
        common = self._written(rows) @ self._unary.T
        either = self._sum(rows)[:, None] + self._sums - common
        return np.divide(common, either, out=np.ones_like(common), where=either > 0)
