"""The automaton that follows an Ehrlich function, letter by letter."""

import numpy as np
import torch

from gfn_design.environments.sequences.automaton import Bools, Ints
from gfn_design.environments.sequences.ehrlich import EhrlichSequence
from gfn_design.environments.sequences.words import TooManyStatesError

MAX_ENTRIES = 1_000_000  # states times letters, which take some five seconds
DEAD, LOST = -1, -2


class Windows:
    """What is known of a string so far, as rows of numbers.

    A row holds the last letter; of each motif the most elements that are present in a window that
    is over; and of each window that is not, how many are present so far, `DEAD` if it can be no
    better. After a letter that may not follow, all of it is `LOST`.

    Args:
        strings: Of the function.
    """

    def __init__(self, strings: EhrlichSequence) -> None:
        self.allowed = strings.allowed.numpy(force=True)
        self.motifs = strings.motifs.numpy(force=True)
        self.offsets = strings.offsets.numpy(force=True)
        self.n_motifs, size = self.motifs.shape
        self.worth = strings.worth_of(torch.arange(size + 1)).numpy(force=True)
        self.begins = np.cumsum([1 + self.n_motifs, *self.offsets[:, -1]])

    def first(self) -> Ints:
        """Of the empty string: ``int64[1, numbers]``."""
        row = np.full((1, self.begins[-1]), DEAD)
        row[0, 1 : 1 + self.n_motifs] = 0
        return row

    def after(self, rows: Ints) -> Ints:
        """Of strings a letter longer: ``int64[n, letters, numbers]``."""
        return np.stack([self._after(rows, letter) for letter in range(len(self.allowed))], 1)

    def _after(self, rows: Ints, letter: int) -> Ints:
        following, last = rows.copy(), rows[:, 0]
        following[:, 0] = letter
        for m in range(self.n_motifs):
            own = slice(self.begins[m], self.begins[m + 1])
            best, going = self._of_motif(rows[:, 1 + m], rows[:, own], m, letter)
            following[:, 1 + m], following[:, own] = best, going
        following[(last == LOST) | ((last >= 0) & ~self.allowed[last, letter])] = LOST
        return following

    def _of_motif(self, best: Ints, going: Ints, m: int, letter: int) -> tuple[Ints, Ints]:
        """The same of one motif: the most elements present, and those of windows that go on."""
        places = self.offsets[m]
        ages = np.concatenate([np.zeros((len(going), 1), dtype=np.int64), going], 1)
        for element, place in zip(self.motifs[m], places, strict=True):
            ages[:, place] += (ages[:, place] >= 0) & (element == letter)
        best = np.maximum(best, ages[:, -1])
        open_, left = ages[:, :-1], np.array([(places > age).sum() for age in range(places[-1])])
        better = self.worth[(open_ + left).clip(min=0)] > self.worth[best.clip(min=0)][:, None]
        return best, np.where(better & (open_ >= 0), open_, DEAD)


def followed(strings: EhrlichSequence) -> tuple[Ints, Ints, Bools]:
    """Where letters lead, how much of each motif is present in each state, and which are lost.

    Returns:
        ``int64[states, letters]``, ``int64[states, motifs]`` and ``bool[states]``.

    Raises:
        TooManyStatesError: There are too many.
    """
    windows = Windows(strings)
    frontier = windows.first()
    known, found, following = {frontier.tobytes(): 0}, [frontier], []
    while len(frontier):
        children = windows.after(frontier)
        every, place = np.unique(
            children.reshape(-1, children.shape[2]), axis=0, return_inverse=True
        )
        numbers, new = [], []
        for row in every:
            key = row.tobytes()
            if key not in known:
                known[key] = len(known)
                new.append(row)
            numbers.append(known[key])
        following.append(np.array(numbers)[place.ravel()].reshape(children.shape[:2]))
        if len(known) * children.shape[1] > MAX_ENTRIES:
            raise TooManyStatesError(
                f"more than {MAX_ENTRIES // children.shape[1]:,} states of an automaton would "
                "follow this function; take fewer letters, or shorter strings"
            )
        frontier = np.array(new, dtype=np.int64).reshape(-1, children.shape[2])
        found.append(frontier)
    rows = np.concatenate(found)
    present = rows[:, 1 : 1 + windows.n_motifs].clip(min=0)
    return np.concatenate(following), present, rows[:, 0] == LOST
