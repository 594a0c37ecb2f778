"""What a sequence must be, or must not hold: each a small automaton, or letters that fit places."""

from typing import Literal

import numpy as np

from gfn_design.described import Described
from gfn_design.environments.sequences.automaton import (
    Automaton,
    Bools,
    anything,
    complement,
    containing,
    counting,
    ending_in,
    in_frame,
    product,
    runs_up_to,
)
from gfn_design.environments.sequences.enzymes import site_or_letters
from gfn_design.environments.sequences.letters import Letters
from gfn_design.errors import InputError

Strands = Literal["both", "given"]
STOPS = ("TAA", "TAG", "TGA")  # of the standard genetic code


class Constraint(Described):
    """A condition that every sequence meets, as no letter that breaks it is ever legal.

    A constraint of one's own overrides `automaton` or `fits`, and `__str__`.
    """

    def check(self, letters: Letters, shortest: int, longest: int) -> None:
        """Refuse an alphabet or lengths that the constraint says nothing about.

        Raises:
            InputError: It does not.
        """

    def automaton(self, letters: Letters, longest: int) -> Automaton:
        """What allows the sequences that meet it."""
        return anything(len(letters.symbols))

    def fits(self, letters: Letters, longest: int) -> Bools:
        """Which letters each place may hold: ``bool[longest, letters]``."""
        return np.ones((longest, len(letters.symbols)), dtype=bool)


class Template(Constraint):
    """Sequences of one length that fit a text: letters stand fixed, N (of proteins X) is open.

    Args:
        text: As long as the sequences, of letters and IUPAC letters; ``ACGTNNNNNNTTGA``.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return f"template {self.text}"

    def check(self, letters: Letters, shortest: int, longest: int) -> None:
        length = len(letters.fits(self.text))
        if not shortest == longest == length:
            lengths = longest if shortest == longest else f"{shortest} to {longest}"
            raise InputError(
                f"'{self}' has {length} letters, and sequences have {lengths}; make them as long, "
                "or take StartsWith and EndsWith"
            )

    def fits(self, letters: Letters, longest: int) -> Bools:
        return letters.fits(self.text)


class StartsWith(Constraint):
    """Sequences that begin with a text.

    Args:
        text: Letters and IUPAC letters.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return f"starts with {self.text}"

    def check(self, letters: Letters, shortest: int, longest: int) -> None:
        _check_length(self, len(letters.fits(self.text)), shortest)

    def fits(self, letters: Letters, longest: int) -> Bools:
        fits = super().fits(letters, longest)
        start = letters.fits(self.text)
        fits[: len(start)] = start
        return fits


class EndsWith(Constraint):
    """Sequences that end with a text.

    Args:
        text: Letters and IUPAC letters.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return f"ends with {self.text}"

    def check(self, letters: Letters, shortest: int, longest: int) -> None:
        _check_length(self, len(letters.fits(self.text)), shortest)

    def automaton(self, letters: Letters, longest: int) -> Automaton:
        return ending_in(letters.fits(self.text), len(letters.symbols))


class Forbid(Constraint):
    """Sequences that hold none of some motifs.

    Args:
        motifs: Of letters and IUPAC letters, or names of restriction enzymes, as ``BamHI``, whose
            sites are meant.
        strands: ``both`` forbids the reverse complement too, ``given`` does not; None is both for
            DNA and given for all else.
    """

    def __init__(self, motifs: str | list[str], strands: Strands | None = None) -> None:
        self.motifs = [motifs] if isinstance(motifs, str) else list(motifs)
        self.strands = _check_strands(strands)

    def __str__(self) -> str:
        return f"forbid {', '.join(self.motifs)}"

    def check(self, letters: Letters, shortest: int, longest: int) -> None:
        _patterns(letters, self.motifs, self.strands)

    def automaton(self, letters: Letters, longest: int) -> Automaton:
        patterns = _patterns(letters, self.motifs, self.strands)
        return complement(containing(patterns, len(letters.symbols)))


class Require(Constraint):
    """Sequences that hold each of some motifs.

    Args:
        motifs: Of letters and IUPAC letters, or names of restriction enzymes, whose sites are
            meant.
        strands: Where each must be: on ``both`` it may be on either, with ``given`` it is as it is
            written; None is both for DNA and given for all else.
    """

    def __init__(self, motifs: str | list[str], strands: Strands | None = None) -> None:
        self.motifs = [motifs] if isinstance(motifs, str) else list(motifs)
        self.strands = _check_strands(strands)

    def __str__(self) -> str:
        return f"require {', '.join(self.motifs)}"

    def check(self, letters: Letters, shortest: int, longest: int) -> None:
        _patterns(letters, self.motifs, self.strands)

    def automaton(self, letters: Letters, longest: int) -> Automaton:
        whole = anything(len(letters.symbols))
        for motif in self.motifs:
            patterns = _patterns(letters, [motif], self.strands)
            whole = product(whole, containing(patterns, len(letters.symbols)))
        return whole


class LongestRun(Constraint):
    """Sequences in which no letter stands more than so many times in a row.

    Args:
        longest: At least 1.
    """

    def __init__(self, longest: int) -> None:
        if longest < 1:
            raise InputError(f"LongestRun needs at least 1 letter, got {longest}")
        self.longest = longest

    def __str__(self) -> str:
        return f"no run longer than {self.longest}"

    def automaton(self, letters: Letters, longest: int) -> Automaton:
        return runs_up_to(len(letters.symbols), self.longest)


class GC(Constraint):
    """Sequences whose share of G and C lies within limits, which belong to it.

    Args:
        lowest: From 0.
        highest: Up to 1.
    """

    def __init__(self, lowest: float = 0.0, highest: float = 1.0) -> None:
        if not 0 <= lowest <= highest <= 1:
            raise InputError(f"GC needs 0 <= lowest <= highest <= 1, got {lowest} and {highest}")
        self.lowest, self.highest = lowest, highest

    def __str__(self) -> str:
        return f"GC from {self.lowest:g} to {self.highest:g}"

    def check(self, letters: Letters, shortest: int, longest: int) -> None:
        _check_nucleic(self, letters)

    def automaton(self, letters: Letters, longest: int) -> Automaton:
        counted = np.array([symbol in "GC" for symbol in letters.symbols])
        n = np.arange(longest + 1)
        lowest = np.ceil(self.lowest * n - 1e-9).astype(np.int64)
        highest = np.floor(self.highest * n + 1e-9).astype(np.int64)
        return counting(counted, longest, lowest, highest)


class NoSelfComplement(Constraint):
    """Sequences that hold no longer word that is its own reverse complement, as GAATTC is.

    Two molecules of such a sequence would pair there.

    Args:
        longest: Letters of the longest such word that is allowed, from 0 to 10.
    """

    def __init__(self, longest: int) -> None:
        if not 0 <= longest <= 10:
            raise InputError(f"NoSelfComplement needs from 0 to 10 letters, got {longest}")
        self.longest = longest

    def __str__(self) -> str:
        return f"no self-complement longer than {self.longest}"

    def check(self, letters: Letters, shortest: int, longest: int) -> None:
        _check_nucleic(self, letters)

    def automaton(self, letters: Letters, longest: int) -> Automaton:
        half = self.longest // 2 + 1
        sides = np.stack(np.meshgrid(*[np.arange(4)] * half, indexing="ij"), -1).reshape(-1, half)
        words = np.concatenate([sides, 3 - sides[:, ::-1]], 1)  # within all longer ones
        return complement(containing(np.eye(4, dtype=bool)[words], 4))


class NoStop(Constraint):
    """Sequences without a stop codon (TAA, TAG, TGA) in a reading frame.

    Args:
        frame: Letters before the first codon: 0, 1 or 2; None is all three.
    """

    def __init__(self, frame: int | None = 0) -> None:
        if frame not in (None, 0, 1, 2):
            raise InputError(
                f"NoStop needs the frame 0, 1 or 2, or null for all three, got {frame}"
            )
        self.frame = frame

    def __str__(self) -> str:
        return "no stop in any frame" if self.frame is None else f"no stop in frame {self.frame}"

    def check(self, letters: Letters, shortest: int, longest: int) -> None:
        _check_nucleic(self, letters)

    def automaton(self, letters: Letters, longest: int) -> Automaton:
        patterns = [letters.fits(stop) for stop in STOPS]
        if self.frame is None:
            return complement(containing(patterns, 4))
        stops = np.zeros((4, 4, 4), dtype=bool)
        for first, second, third in patterns:
            stops |= first[:, None, None] & second[:, None] & third
        return in_frame(stops, self.frame)


def _patterns(letters: Letters, motifs: list[str], strands: Strands | None) -> list[Bools]:
    """What fits some motifs, or sites of enzymes, on the strands that are meant."""
    both = strands == "both" or (strands is None and letters.symbols == tuple("ACGT"))
    if not letters.is_nucleic:
        return letters.strands(motifs, both)
    return letters.strands([site_or_letters(motif) for motif in motifs], both)


def _check_strands(strands: Strands | None) -> Strands | None:
    if strands not in (None, "both", "given"):
        raise InputError(f"strands must be both or given, or left out, got '{strands}'")
    return strands


def _check_length(constraint: Constraint, length: int, shortest: int) -> None:
    if length > shortest:
        raise InputError(
            f"'{constraint}' has {length} letters, and the shortest sequence {shortest}"
        )


def _check_nucleic(constraint: Constraint, letters: Letters) -> None:
    if not letters.is_nucleic:
        raise InputError(
            f"'{constraint}' is about DNA or RNA, got the alphabet {' '.join(letters.symbols)}"
        )
