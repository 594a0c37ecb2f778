"""Which sequences an environment builds, as tables that a recursion over places can read."""

from typing import NamedTuple

import numpy as np

from gfn_design.environments.sequences.automaton import Bools, Ints
from gfn_design.environments.sequences.language import Language


class Rules(NamedTuple):
    """All sequences of a language that do not spend too much.

    Attributes:
        language: Of constraints and lengths.
        fits: ``bool[longest, letters]``, which letters a place may hold.
        spends: ``int64[longest, letters]``, what a letter at a place costs, at least 0.
        budget: The least and the most that a sequence spends in all.
    """

    language: Language
    fits: Bools
    spends: Ints
    budget: tuple[int, int]

    @classmethod
    def of(cls, language: Language) -> "Rules":
        """All sequences of a language."""
        fits: Bools = language.fits.numpy(force=True)
        return cls(language, fits, np.zeros(fits.shape, dtype=np.int64), (0, 0))
