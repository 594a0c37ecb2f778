"""What data gives pictures of sequences to show."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Windows(NamedTuple):
    """A part of each of some sequences.

    Attributes:
        name: What they are, and of whom.
        words: One for each.
        in_place: Whether they are lined up already, as by a motif.
        both_strands: Whether either strand of a word may be shown.
    """

    name: str
    words: list[str]
    in_place: bool = False
    both_strands: bool = False


class OnOff(NamedTuple):
    """What two tables say of all words, and of the best windows of some sequences.

    Attributes:
        names: Of both.
        words: ``float64[words, 2]``.
        chosen: ``float64[sequences, 2]``.
        limits: The smallest and the largest value that is wanted of each.
    """

    names: tuple[str, str]
    words: NDArray[np.float64]
    chosen: NDArray[np.float64]
    limits: tuple[tuple[float, float], tuple[float, float]]
