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
        firm: Whether each term has bounds that must be met, and not only a way to be better; none
            said is all.
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
    firm: tuple[bool, ...] = ()

    @property
    def all_hit(self) -> Bools:
        """Whether a sequence is as all terms want: as `hits`, but for the first dimension."""
        every: Bools = np.logical_and.reduce(self.hits)
        return every

    @property
    def bounds_met(self) -> Bools:
        """The same of the terms that are firm."""
        firm = self.firm or (True,) * len(self.hits)
        some = [hit for hit, must in zip(self.hits, firm, strict=True) if must]
        met: Bools = np.logical_and.reduce([np.ones_like(self.hits[0]), *some])
        return met


Table = TypeVar("Table", bound=NDArray[Any])


def at(table: Table, place: int) -> Table:
    """What a table with a row for each place, or one for all, says of a place."""
    row: Table = table[min(place, len(table) - 1)]
    return row


def reachable(automaton: RewardAutomaton) -> RewardAutomaton:
    """The same without states that no object leads through: of few changes, most of them."""
    n_states, most = automaton.following.shape[1], automaton.budget[1]
    met = np.zeros(n_states, dtype=bool)
    met[automaton.first] = True
    codes: Ints = np.array([automaton.first])  # states, and n_states times what was spent
    for place, fits in enumerate(automaton.fits):
        spent, state = np.divmod(codes, n_states)
        after = []
        for letter in fits.nonzero()[0]:
            then = spent + automaton.spends[place, letter]
            some = then <= most
            following = at(automaton.following, place)[state[some], letter]
            after.append(then[some] * n_states + following)
        codes = np.unique(np.concatenate(after))
        met[codes % n_states] = True
    # What cannot be met leads anywhere: nothing that can be met asks for it.
    number = np.where(met, met.cumsum() - 1, 0)
    ends = automaton.ends
    return automaton._replace(
        following=number[automaton.following[:, met]],
        log_reward=automaton.log_reward[:, met],
        ends=ends if ends.shape[1] == 1 else ends[:, met],
        hits=automaton.hits[:, :, met],
        first=int(number[automaton.first]),
    )
