"""Rewards that an automaton follows letter by letter, so that sums over all sequences are exact."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gfn_design.environments.sequences.automaton import Bools, Ints
from gfn_design.environments.sequences.language import Language
from gfn_design.environments.sequences.words import (
    TooManyStatesError,
    WordMachine,
    together,
    word_machine,
)
from gfn_design.rewards.levels import Levels
from gfn_design.rewards.windows import BestWindow

Floats = NDArray[np.float64]
MAX_STATES = 4_000_000  # 130 MB of a table, and 1 GB of sums for 30 letters


class RewardAutomaton(NamedTuple):
    """What follows a sequence, letter by letter, up to its reward.

    Attributes:
        following: ``int64[states, letters]``; it begins in state 0.
        log_reward: ``float64[states]``, log R of a sequence that ends there, in nats.
        fits: ``bool[longest, letters]``, which letters a place may hold.
        ends: ``bool[longest + 1, states]``, whether so many letters that lead to a state are an
            object; ``bool[longest + 1, 1]`` where the state does not matter.
        hits: ``bool[terms, states]``, whether a sequence that ends there is as each term wants.
        terms: What they are called.
    """

    following: Ints
    log_reward: Floats
    fits: Bools
    ends: Bools
    hits: Bools
    terms: tuple[str, ...]

    @property
    def all_hit(self) -> Bools:
        """Whether a sequence that ends in a state is as all terms want: ``bool[states]``."""
        every: Bools = np.logical_and.reduce(self.hits)
        return every


def levels_of_states(levels: list[Levels]) -> Ints:
    """All that a sequence may have reached so far: ``int64[combinations, terms]``."""
    return np.stack(np.meshgrid(*(np.arange(len(x)) for x in levels), indexing="ij"), -1).reshape(
        -1, len(levels)
    )


def words_of(windows: list[BestWindow], levels: list[Levels], n_letters: int) -> WordMachine:
    """A machine that tells the level of the best word so far, of each term."""
    whole: WordMachine | None = None
    for window, level in zip(windows, levels, strict=True):
        words, values = np.zeros((0, window.width), dtype=np.int64), np.zeros(0)
        if len(level) > 1:
            words, values = window.words_from(float(level.edges[0]))
        reached = level.of(torch.from_numpy(values).to(level.edges)).numpy(force=True)
        machine = word_machine(words[reached > 0], reached[reached > 0], n_letters)
        whole = machine if whole is None else together(whole, machine)[0]
    assert whole is not None
    return whole


def reward_automaton(
    words: WordMachine, reached: Ints, sizes: list[int], language: Language
) -> tuple[Ints, Bools, Bools, Ints]:
    """The states of words, levels reached and constraints, and where letters lead.

    Args:
        words: What tells the level of each word.
        reached: See `levels_of_states`.
        sizes: Levels of each term.
        language: Which sequences there are.

    Returns:
        ``following``, ``fits`` and ``ends`` as in `RewardAutomaton`, and of each state which row of
        `reached` it has.

    Raises:
        TooManyStatesError: The automaton would be too large.
    """
    rules = language.following.numpy(force=True)
    nothing = np.zeros((0, *rules.shape), dtype=np.int64)
    dead: Bools = np.logical_not(language.completable.numpy(force=True).any(0))
    whole, _, rule = together(words, WordMachine(rules, nothing), dead)
    n_nodes, n_letters = whole.following.shape
    if n_nodes * len(reached) > MAX_STATES:
        raise TooManyStatesError(
            f"{n_nodes * len(reached):,} states of an automaton would follow these terms and "
            f"constraints, more than {MAX_STATES:,}; leave a constraint such as GC out, or set "
            "fewer levels"
        )
    radix = np.cumprod([1, *sizes[:0:-1]])[::-1]
    following = np.empty((n_nodes, len(reached), n_letters), dtype=np.int64)
    for letter in range(n_letters):
        level = whole.level[:, :, letter].T[:, None]
        place = (np.maximum(reached, level) * radix).sum(-1)
        following[:, :, letter] = whole.following[:, letter, None] * len(reached) + place
    ends = language.ends.numpy(force=True)
    if len(rules) > 1:
        ends = ends[:, rule].repeat(len(reached), 1)
    return (
        following.reshape(-1, n_letters),
        language.fits.numpy(force=True),
        ends,
        np.tile(np.arange(len(reached)), n_nodes),
    )
