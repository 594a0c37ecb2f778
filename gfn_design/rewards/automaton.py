"""Rewards that an automaton follows letter by letter, so that sums over all sequences are exact."""

from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gfn_design.environments.sequences.automaton import Bools, Ints

Floats = NDArray[np.float64]


class RewardAutomaton(NamedTuple):
    """What follows a sequence, letter by letter, up to its reward.

    What is said of each place may be said once for all places, in a table of one row; see `at`.

    Attributes:
        following: ``int64[longest or 1, states, letters]``, where a letter at a place leads.
        log_reward: ``float64[longest + 1 or 1, states]``, log R of so many letters that lead to a
            state, in nats.
        fits: ``bool[longest, letters]``, which letters a place may hold.
        ends: ``bool[longest + 1, states]``, whether so many letters that lead to a state are an
            object; ``bool[longest + 1, 1]`` where the state does not matter.
        hits: ``bool[terms, longest + 1 or 1, states]``, whether they are as each term wants.
        terms: What they are called.
        spends: ``int64[longest, letters]``, what a letter at a place costs, such as a substitution.
        budget: The least and the most that an object spends in all.
        first: The state that a sequence begins in.
    """

    following: Ints
    log_reward: Floats
    fits: Bools
    ends: Bools
    hits: Bools
    terms: tuple[str, ...]
    spends: Ints
    budget: tuple[int, int]
    first: int = 0

    @property
    def all_hit(self) -> Bools:
        """Whether a sequence is as all terms want: as `hits`, but for the first dimension."""
        every: Bools = np.logical_and.reduce(self.hits)
        return every


Table = TypeVar("Table", bound=NDArray[Any])


def at(table: Table, place: int) -> Table:
    """What a table with a row for each place, or one for all, says of a place."""
    row: Table = table[min(place, len(table) - 1)]
    return row
