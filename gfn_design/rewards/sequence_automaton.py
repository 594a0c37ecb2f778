"""The automaton that follows a `SequenceScore`, letter by letter."""

from itertools import product
from typing import NamedTuple

import numpy as np
import torch

from gfn_design.environments.sequences.automaton import Bools, Ints
from gfn_design.environments.sequences.rules import Rules
from gfn_design.environments.sequences.words import (
    TooManyStatesError,
    WordMachine,
    together,
    word_machine,
)
from gfn_design.rewards.automaton import RewardAutomaton
from gfn_design.rewards.levels import Levels
from gfn_design.rewards.reward import Reward
from gfn_design.rewards.sequence_score import Counted, SequenceScore
from gfn_design.rewards.windows import BestWindow

MAX_STATES = 4_000_000  # 130 MB of a table, and 1 GB of sums for 30 letters


class Followed(NamedTuple):
    """Where letters lead, and what is known in each state.

    Attributes:
        following: ``int64[states, letters]``; it begins in state 0.
        ends: As in `RewardAutomaton`.
        reached: ``int64[states]``, which combination of levels windows have reached.
        counted: ``int64[states]``, how many letters are of those that are counted.
    """

    following: Ints
    ends: Bools
    reached: Ints
    counted: Ints


def automaton_of(
    score: SequenceScore, reward: Reward, rules: Rules, names: list[str]
) -> RewardAutomaton | None:
    """What follows a score; None where a term is none that an automaton can follow.

    Args:
        score: Of sequences.
        reward: Made of it.
        rules: Which sequences there are.
        names: Of the terms.

    Raises:
        TooManyStatesError: The automaton would be too large.
    """
    terms = list(score.terms)
    if not all(isinstance(term, BestWindow | Counted) for term in terms):
        return None
    levels = [level for level in score.levels if isinstance(level, Levels)]
    windows = [(t, x) for t, x in zip(terms, levels, strict=True) if isinstance(t, BestWindow)]
    each = [*product(*(range(len(level)) for _, level in windows))]
    combinations = np.array(each, dtype=np.int64).reshape(len(each), len(windows))
    counts = [term for term in terms if isinstance(term, Counted)]
    letters = next((term.counted for term in counts if term.counted), [])
    followed = follow(words_of(windows, rules.fits.shape[1]), windows, combinations, letters, rules)
    longest = len(rules.fits)
    lengths = [longest]
    if counts and rules.language.shortest < longest:
        lengths = [*range(longest + 1)]
    most = int(followed.counted.max()) + 1
    log_reward = np.empty((len(lengths), len(combinations), most))
    hits = np.empty((len(terms), *log_reward.shape), dtype=bool)
    known = torch.from_numpy(combinations.T)[:, :, None].expand(-1, -1, most)
    for row, length in enumerate(lengths):
        counted, reached = torch.arange(most).expand(len(combinations), -1), iter(known)
        places = [
            level.of(term.of_counts(counted, torch.full_like(counted, length)))
            if isinstance(term, Counted)
            else next(reached)
            for term, level in zip(terms, levels, strict=True)
        ]
        worths = [level.worth.cpu()[x] for level, x in zip(levels, places, strict=True)]
        found = score.of_worths(torch.stack([x.flatten() for x in worths], 1)).float()
        log_reward[row] = reward.log_of(found).double().view(-1, most).numpy(force=True)
        for term_hits, level, place in zip(hits, levels, places, strict=True):
            term_hits[row] = level.hits.cpu()[place].numpy(force=True)
    at_state = followed.reached, followed.counted
    return RewardAutomaton(
        followed.following[None],
        log_reward[:, *at_state],
        rules.fits,
        followed.ends,
        hits[:, :, *at_state],
        tuple(names),
        rules.spends,
        rules.budget,
    )


Window = tuple[BestWindow, Levels]


def words_of(windows: list[Window], n_letters: int) -> WordMachine:
    """A machine that tells the level of the word that each letter ends, of each term."""
    whole = WordMachine(
        np.zeros((1, n_letters), dtype=np.int64), np.zeros((0, 1, n_letters), dtype=np.int64)
    )
    for window, level in windows:
        words, values = np.zeros((0, window.width), dtype=np.int64), np.zeros(0)
        if len(level) > 1:
            words, values = window.words_from(float(level.edges[0]))
        reached = level.of(torch.from_numpy(values).to(level.edges)).numpy(force=True)
        machine = word_machine(words[reached > 0], reached[reached > 0], n_letters)
        whole = together(whole, machine)[0]
    return whole


def follow(
    words: WordMachine,
    windows: list[Window],
    combinations: Ints,
    letters: list[int],
    rules: Rules,
) -> Followed:
    """The states of words, levels reached, letters counted and constraints, and where they lead.

    Args:
        words: What tells the level of each word.
        windows: The terms whose words they are.
        combinations: ``int64[n, terms]``, all levels that may have been reached.
        letters: That are counted; none takes no states.
        rules: Which sequences there are.

    Raises:
        TooManyStatesError: There are too many.
    """
    language = rules.language
    after = language.following.numpy(force=True)
    nothing = np.zeros((0, *after.shape), dtype=np.int64)
    dead: Bools = np.logical_not(language.completable.numpy(force=True).any(0))
    whole, _, rule = together(words, WordMachine(after, nothing), dead)
    n_nodes, n_letters = whole.following.shape
    n_counts = len(rules.fits) + 1 if letters else 1
    n_states = n_nodes * len(combinations) * n_counts
    if n_states > MAX_STATES:
        raise TooManyStatesError(
            f"{n_states:,} states of an automaton would follow these terms and constraints, more "
            f"than {MAX_STATES:,}; leave out GC, as a term or a constraint, or set fewer levels"
        )
    sizes = [len(level) for _, level in windows]
    radix = np.cumprod([1, *sizes[:0:-1]])[::-1] if sizes else np.zeros(0, dtype=np.int64)
    following = np.empty((n_nodes, len(combinations), n_counts, n_letters), dtype=np.int64)
    counts = np.arange(n_counts)
    for letter in range(n_letters):
        level = whole.level[:, :, letter].T[:, None]
        place = (np.maximum(combinations, level) * radix).sum(-1)
        here = whole.following[:, letter, None] * len(combinations) + place
        count = np.minimum(counts + (letter in letters), n_counts - 1)
        following[..., letter] = here[..., None] * n_counts + count
    ends: Bools = language.ends.numpy(force=True)
    if len(after) > 1:
        ends = ends[:, rule].repeat(len(combinations) * n_counts, 1)
    return Followed(
        following.reshape(-1, n_letters),
        ends,
        np.tile(np.arange(len(combinations)).repeat(n_counts), n_nodes),
        np.tile(counts, n_nodes * len(combinations)),
    )
