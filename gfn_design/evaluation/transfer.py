"""The exact target where objects are too many to list: a recursion over states of an automaton.

A reward that an automaton can follow, letter by letter, has an exact log Z, exact samples, exact
shares of anything that the automaton can tell, at any length, and so a distance from the target of
whatever policy has probabilities of its own (no other has them beyond enumeration).
"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gfn_design.environments.sequences.automaton import Bools, Ints
from gfn_design.errors import InputError
from gfn_design.rewards.automaton import RewardAutomaton, at

Floats = NDArray[np.float64]
AT_ONCE = 8  # sums that are found together, for each of which a table of all states is read once


def log_sums(automaton: RewardAutomaton, log_weights: list[Floats]) -> list[float]:
    """log of the sum over all objects of each of some weights, by what they end in; -inf of 0.

    Args:
        automaton: Follows objects.
        log_weights: Each as ``RewardAutomaton.log_reward``, in nats; -inf counts nothing.
    """
    found: list[float] = []
    for first in range(0, len(log_weights), AT_ONCE):
        found += _log_sums(automaton, log_weights[first : first + AT_ONCE])
    return found


def _log_sums(automaton: RewardAutomaton, log_weights: list[Floats]) -> list[float]:
    *_, (sums, scale) = _backwards(automaton, np.stack(log_weights, 2))
    with np.errstate(divide="ignore"):
        logs: list[float] = (np.log(sums[0, automaton.first]) + scale).tolist()
    return logs


def _backwards(automaton: RewardAutomaton, log_weights: Floats) -> Iterator[tuple[Floats, Floats]]:
    """Sums over all ways to go on, from the last place to the first; the recursion itself.

    Args:
        automaton: Follows objects.
        log_weights: ``float64[longest + 1 or 1, states, weights]``, in nats.

    Yields:
        Sums ``float64[spent, states, weights]``, and the log of a scale that each weight's have in
        common, ``float64[weights]``.
    """
    longest, (least, most) = len(automaton.fits), automaton.budget
    top = np.maximum(log_weights.max((0, 1)), -1e300)  # finite, of what counts nothing
    weight = np.exp(log_weights - top)
    enough = (np.arange(most + 1) >= least)[:, None, None]
    sums, scale = enough * (at(weight, longest) * automaton.ends[-1][:, None]), top
    yield sums, scale
    for place in reversed(range(longest)):
        following, ends = at(automaton.following, place), automaton.ends[place]
        total = np.zeros((most + 1, len(following), len(top)))
        if ends.any():
            total += enough * (at(weight, place) * ends[:, None]) * np.exp(top - scale)
        for letter in automaton.fits[place].nonzero()[0]:
            spent = int(automaton.spends[place, letter])
            for before in range(most + 1 - spent):
                total[before] += sums[before + spent].take(following[:, letter], 0)
        largest = total.max((0, 1))
        largest[largest == 0] = 1.0
        sums, scale = total / largest, scale + np.log(largest)
        yield sums, scale


class TransferTarget:
    """The exact law of sequences with probability R / Z.

    Args:
        automaton: Follows the reward.

    Attributes:
        log_z: log of the sum of rewards, in nats.
    """

    def __init__(self, automaton: RewardAutomaton) -> None:
        self.automaton = automaton
        places = [*_backwards(automaton, automaton.log_reward[..., None])][::-1]
        # Over all ways to go on, ``[spent, states]`` for each place, less a scale of the place.
        self.sums = [sums[..., 0] for sums, _ in places]
        self._scales = [float(scale[0]) for _, scale in places]
        self.log_z = float(np.log(self.sums[0][0, automaton.first])) + self._scales[0]

    @property
    def longest(self) -> int:
        """Letters of the longest sequence."""
        return len(self.automaton.fits)

    @cached_property
    def log_size(self) -> float:
        """log of the number of objects."""
        return log_sums(self.automaton, [np.zeros_like(self.automaton.log_reward)])[0]

    def check(self) -> None:
        """Refuse wishes that no object can meet together.

        Raises:
            InputError: None can.
        """
        automaton = self.automaton
        if self.share_of_objects(automaton.bounds_met):
            return
        alone = [
            f"{name} {self.share_of_objects(hit):.3g}"
            for name, hit in zip(automaton.terms, automaton.hits, strict=True)
        ]
        raise InputError(
            f"no sequence of {self.longest} letters is as wanted in all terms; of all there are, "
            f"these shares are in each alone: {', '.join(alone)}; loosen what is wanted"
        )

    def share(self, counted: Bools) -> float:
        """The probability under the target of what ends as counted; see `RewardAutomaton.hits`."""
        log_reward = np.where(counted, self.automaton.log_reward, -np.inf)
        return float(np.exp(log_sums(self.automaton, [log_reward])[0] - self.log_z))

    def share_of_objects(self, counted: Bools) -> float:
        """Of all objects, which part ends as counted; see `RewardAutomaton.hits`."""
        counts = np.where(counted, 0.0, -np.inf)
        return float(np.exp(log_sums(self.automaton, [counts])[0] - self.log_size))

    def marginals(self) -> Floats:
        """How probable each letter is at each place: ``float64[longest, letters]``.

        Of sequences of several lengths the letters of a place may add up to less than 1.
        """
        automaton, (_, most) = self.automaton, self.automaton.budget
        n_states = automaton.following.shape[1]
        found = np.zeros(automaton.fits.shape)
        ways = np.zeros((most + 1, n_states))  # to come to each state, less a scale
        ways[0, automaton.first], scale = 1.0, 0.0
        for place in range(self.longest):
            following, after = at(automaton.following, place), self.sums[place + 1]
            then = np.zeros_like(ways)
            for letter in automaton.fits[place].nonzero()[0]:
                to, spent = following[:, letter], int(automaton.spends[place, letter])
                for before in range(most + 1 - spent):
                    found[place, letter] += ways[before] @ after[before + spent][to]
                    then[before + spent] += np.bincount(to, ways[before], n_states)
            found[place] *= np.exp(scale + self._scales[place + 1] - self.log_z)
            largest = float(then.max()) or 1.0
            ways, scale = then / largest, scale + float(np.log(largest))
        return found

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
        """Independent objects of the target, and log R of each.

        Args:
            n: How many.
            rng: The randomness.

        Returns:
            ``int64[n, longest]``, -1 after the last letter, and ``float64[n]`` in nats.
        """
        automaton, (_, most) = self.automaton, self.automaton.budget
        log_reward, top = automaton.log_reward, float(automaton.log_reward.max())
        letters = np.full((n, self.longest), -1)
        state, spent = np.full(n, automaton.first), np.zeros(n, dtype=np.int64)
        rows = np.arange(n)
        for place in range(self.longest):
            here, so_far = state[rows], spent[rows]
            after = at(automaton.following, place)[here]
            then = so_far[:, None] + automaton.spends[place]
            scale = np.exp(self._scales[place + 1] - self._scales[place])
            ways = self.sums[place + 1][then.clip(max=most), after]
            weights = ways * (automaton.fits[place] & (then <= most)) * scale
            stop = (
                np.exp(at(log_reward, place)[here] - top)
                * np.broadcast_to(automaton.ends[place], log_reward.shape[1:])[here]
                * (so_far >= automaton.budget[0])
                * np.exp(top - self._scales[place])
            )
            upper = np.concatenate([weights, stop[:, None]], 1).cumsum(1)
            lot = rng.random(len(here)) * upper[:, -1]
            choice = (upper <= lot[:, None]).sum(1).clip(max=upper.shape[1] - 1)
            goes_on = choice < upper.shape[1] - 1
            rows, choice = rows[goes_on], choice[goes_on]
            letters[rows, place] = choice
            state[rows] = after[goes_on, choice]
            spent[rows] = then[goes_on, choice]
        return letters, self.log_reward_of(letters, state)

    def log_reward_of(self, letters: Ints, state: Ints | None = None) -> Floats:
        """log R of sequences, ``float64[n]`` in nats.

        Args:
            letters: ``int64[n, longest]``, -1 after the last letter.
            state: That they end in, ``int64[n]``; None finds it.
        """
        state = self.states_of(letters) if state is None else state
        length = (letters >= 0).sum(1)
        log_reward = self.automaton.log_reward
        return log_reward[length.clip(max=len(log_reward) - 1), state]

    def states_of(self, letters: Ints) -> Ints:
        """The state that sequences end in.

        Args:
            letters: ``int64[n, longest]``, -1 after the last letter.
        """
        state = np.full(len(letters), self.automaton.first)
        for place, letter in enumerate(letters.T):
            following = at(self.automaton.following, place)
            state = np.where(letter < 0, state, following[state, letter])
        return state


def total_variation_from(log_q: Floats, log_p: Floats) -> tuple[float, float]:
    """Half the sum of |p - q|, by samples of p: the mean of max(0, 1 - q/p), and its error.

    Args:
        log_q: Of each sample, log of its probability under the policy.
        log_p: Of each, under the target.

    Returns:
        The estimate, which is unbiased, and its standard error.
    """
    missing = np.clip(1 - np.exp(log_q - log_p), 0, None)
    return float(missing.mean()), float(missing.std(ddof=1) / np.sqrt(len(missing)))
