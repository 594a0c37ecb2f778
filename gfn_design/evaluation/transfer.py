"""The exact target where objects are too many to list: a recursion over states of an automaton.

A reward that an automaton can follow, letter by letter, has an exact log Z, exact samples, exact
shares of anything that the automaton can tell, at any length, and so a distance from the target of
whatever policy has probabilities of its own (no other has them beyond enumeration).
"""

import numpy as np
from numpy.typing import NDArray

from gfn_design.environments.sequences.automaton import Bools, Ints
from gfn_design.errors import InputError
from gfn_design.rewards.automaton import RewardAutomaton

Floats = NDArray[np.float64]


class TransferTarget:
    """The exact law of sequences with probability R / Z.

    Args:
        automaton: Follows the reward.

    Attributes:
        log_z: log of the sum of rewards, in nats.
        log_size: log of the number of objects.
    """

    def __init__(self, automaton: RewardAutomaton) -> None:
        self.automaton = automaton
        # Sums over all ways to go on, by state, less a scale that they have in common.
        self.sums, self._scales = self._backwards(automaton.log_reward)
        self.log_z = self._log(self.sums[0][0], self._scales[0])
        self.log_size = self.log_sum(np.zeros_like(automaton.log_reward))

    @property
    def longest(self) -> int:
        """Letters of the longest sequence."""
        return len(self.automaton.fits)

    def _backwards(self, log_weight: Floats) -> tuple[list[Floats], list[float]]:
        following, _, fits, ends, *_ = self.automaton
        top = float(log_weight.max())
        weight = np.exp(log_weight - top)
        sums, scales = [weight * ends[-1]], [top]
        for place in reversed(range(self.longest)):
            total = weight * ends[place] * np.exp(top - scales[-1])
            for letter in fits[place].nonzero()[0]:
                total = total + sums[-1][following[:, letter]]
            largest = float(total.max()) or 1.0
            sums.append(total / largest)
            scales.append(scales[-1] + float(np.log(largest)))
        return sums[::-1], scales[::-1]

    @staticmethod
    def _log(value: float, scale: float) -> float:
        with np.errstate(divide="ignore"):
            return float(np.log(value)) + scale

    def log_sum(self, log_weight: Floats) -> float:
        """log of the sum over all objects of a weight, by the state they end in; -inf of 0.

        Args:
            log_weight: ``float64[states]``, in nats; -inf counts nothing.
        """
        if not np.isfinite(log_weight).any():
            return -np.inf
        sums, scales = self._backwards(log_weight)
        return self._log(sums[0][0], scales[0])

    def check(self) -> None:
        """Refuse wishes that no object can meet together.

        Raises:
            InputError: None can.
        """
        automaton = self.automaton
        if self.share_of_objects(automaton.all_hit):
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
        """The probability under the target of what ends in some states, ``bool[states]``."""
        log_reward = np.where(counted, self.automaton.log_reward, -np.inf)
        return float(np.exp(self.log_sum(log_reward) - self.log_z))

    def share_of_objects(self, counted: Bools) -> float:
        """Of all objects, which part ends in some states, ``bool[states]``."""
        return float(np.exp(self.log_sum(np.where(counted, 0.0, -np.inf)) - self.log_size))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
        """Independent objects of the target, and log R of each.

        Args:
            n: How many.
            rng: The randomness.

        Returns:
            ``int64[n, longest]``, -1 after the last letter, and ``float64[n]`` in nats.
        """
        following, log_reward, fits, ends, *_ = self.automaton
        letters = np.full((n, self.longest), -1)
        state, going = np.zeros(n, dtype=np.int64), np.ones(n, dtype=bool)
        top = float(log_reward.max())
        for place in range(self.longest):
            here = state[going]
            after = following[here]
            scale = np.exp(self._scales[place + 1] - self._scales[place])
            weights = self.sums[place + 1][after] * fits[place] * scale
            stop = (
                np.exp(log_reward[here] - top)
                * np.broadcast_to(ends[place], log_reward.shape)[here]
                * np.exp(top - self._scales[place])
            )
            upper = np.concatenate([weights, stop[:, None]], 1).cumsum(1)
            lot = rng.random(len(here)) * upper[:, -1]
            choice = (upper <= lot[:, None]).sum(1).clip(max=upper.shape[1] - 1)
            rows = going.nonzero()[0]
            goes_on = choice < upper.shape[1] - 1
            letters[rows[goes_on], place] = choice[goes_on]
            state[rows[goes_on]] = after[goes_on, choice[goes_on]]
            going[rows[~goes_on]] = False
        return letters, log_reward[state]

    def states_of(self, letters: Ints) -> Ints:
        """The state that sequences end in.

        Args:
            letters: ``int64[n, longest]``, -1 after the last letter.
        """
        state = np.zeros(len(letters), dtype=np.int64)
        for letter in letters.T:
            state = np.where(letter < 0, state, self.automaton.following[state, letter])
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
