"""Alphabets, the letters that stand for several, and the other strand."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from gfn_design.environments.sequences.automaton import Bools
from gfn_design.errors import InputError

BLANK = "_"  # how a slot that is not filled yet is written
ALPHABETS = {"dna": "ACGT", "rna": "ACGU", "protein": "ACDEFGHIKLMNPQRSTVWY", "bits": "01"}
# What a letter may stand for (IUPAC, Cornish-Bowden 1985), of DNA and of proteins.
NUCLEOTIDES = {
    "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
    "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
AMINO_ACIDS = {"B": "DN", "Z": "EQ", "J": "IL", "X": "ACDEFGHIKLMNPQRSTVWY"}


class Letters(NamedTuple):
    """An alphabet.

    Attributes:
        symbols: Its letters, or words.
    """

    symbols: tuple[str, ...]

    @property
    def is_nucleic(self) -> bool:
        """DNA or RNA, whose letters pair."""
        return self.symbols in (tuple("ACGT"), tuple("ACGU"))

    @property
    def standing_for(self) -> dict[str, str]:
        """Letters that stand for several, and those."""
        if self.is_nucleic:
            return NUCLEOTIDES
        return AMINO_ACIDS if self.symbols == tuple(ALPHABETS["protein"]) else {}

    def read(self, text: str) -> str:
        """Text as the alphabet writes it: T for U in RNA and back, capitals."""
        if self.is_nucleic:
            text = text.upper()
            return text.replace("T", "U") if "U" in self.symbols else text.replace("U", "T")
        return text.upper() if all(s.isupper() for s in self.symbols) else text

    def fits(self, text: str) -> Bools:
        """Which letters fit each place of a text that may hold IUPAC letters.

        Returns:
            ``bool[places, letters]``.

        Raises:
            InputError: It holds another letter, or none at all.
        """
        read, several = self.read(text), self.standing_for
        if not read:
            raise InputError("a motif needs a letter at least, got ''")
        rows = []
        for letter in read:
            some = several.get(letter, letter)
            some = some.replace("T", "U") if "U" in self.symbols else some
            row = [symbol in some for symbol in self.symbols]
            if not any(row):
                known = " ".join((*self.symbols, *several))
                raise InputError(f"'{text}' holds '{letter}', which is not in the alphabet {known}")
            rows.append(row)
        return np.array(rows)

    def other_strand(self, fits: Bools) -> Bools:
        """What fits the reverse complement.

        Args:
            fits: See `fits`, of DNA or RNA.

        Raises:
            InputError: The letters of the alphabet do not pair.
        """
        if not self.is_nucleic:
            raise InputError(
                f"only DNA and RNA have another strand, got the alphabet {' '.join(self.symbols)}"
            )
        return fits[::-1, ::-1]  # A pairs with T, C with G, as they stand in the alphabet

    def strands(self, texts: Iterable[str], both: bool) -> list[Bools]:
        """What fits some motifs, on both strands or on one."""
        given = [self.fits(text) for text in texts]
        return given + [self.other_strand(fits) for fits in given] if both else given
