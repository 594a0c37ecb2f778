"""The automaton that follows a `SequenceScore`, letter by letter."""

from copy import deepcopy
from itertools import product
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gfn_design.environments.sequences.automaton import Bools, Ints
from gfn_design.environments.sequences.rules import Rules
from gfn_design.environments.sequences.words import (
    TooManyStatesError,
    WordMachine,
    together,
    word_machine,
)
from gfn_design.rewards.automaton import RewardAutomaton, at, reachable
from gfn_design.rewards.levels import Levels
from gfn_design.rewards.reward import Reward
from gfn_design.rewards.sequence_score import SequenceScore, Summed
from gfn_design.rewards.windows import BestWindow

MAX_STATES = 4_000_000
MAX_ENTRIES = 80_000_000  # of a table that says where letters lead: 640 MB
MAX_SUMS = 150_000_000  # over the ways to go on, for each state, place and number spent: 1.2 GB


class Counter(NamedTuple):
    """A sum over the letters so far.

    Attributes:
        units: ``int64[longest or 1, letters]``, what each letter adds.
        lowest: The smallest sum of any beginning of a sequence.
        size: How many whole numbers there are from it to the largest.
    """

    units: Ints
    lowest: int
    size: int


class Followed(NamedTuple):
    """Where letters lead, and what is known in each state.

    Attributes:
        following: As in `RewardAutomaton`.
        ends: Likewise.
        reached: ``int64[states]``, which combination of levels windows have reached.
        counted: ``int64[states]``, which combination of sums there is.
        first: The state that a sequence begins in.
    """

    following: Ints
    ends: Bools
    reached: Ints
    counted: Ints
    first: int


def automaton_of(
    score: SequenceScore, reward: Reward, rules: Rules, names: list[str], firm: list[bool]
) -> RewardAutomaton | None:
    """What follows a score; None where a term is none that an automaton can follow.

    Args:
        score: Of sequences.
        reward: Made of it.
        rules: Which sequences there are.
        names: Of the terms.
        firm: Whether each has bounds.

    Raises:
        TooManyStatesError: The automaton would be too large.
    """
    if not all(isinstance(term, BestWindow | Summed) for term in score.terms):
        return None
    score = deepcopy(score).cpu()
    levels = [level for level in score.levels if isinstance(level, Levels)]
    both = [*zip(score.terms, levels, strict=True)]
    windows = [(term, level) for term, level in both if isinstance(term, BestWindow)]
    counters = [counter_of(term, rules) for term in score.terms if isinstance(term, Summed)]
    sizes = [len(level) for _, level in windows]
    followed = follow(words_of(windows, rules.fits.shape[1]), sizes, counters, rules)
    longest = len(rules.fits)
    lengths = [longest]
    if counters and rules.language.shortest < longest:
        lengths = [*range(longest + 1)]
    rewards, hits = [], []
    for length in lengths:
        of_terms = levels_reached(score, levels, counters, length)
        shape = of_terms[0].shape
        worths = [level.worth[x].flatten() for level, x in zip(levels, of_terms, strict=True)]
        log_reward = reward.log_of(score.of_worths(torch.stack(worths, 1)).float())
        rewards.append(log_reward.double().view(shape).numpy(force=True))
        wanted = [level.hits[x] for level, x in zip(levels, of_terms, strict=True)]
        hits.append(torch.stack(wanted).numpy(force=True))
    at_state = followed.reached, followed.counted
    whole = RewardAutomaton(
        followed.following,
        np.stack(rewards)[:, *at_state],
        rules.fits,
        followed.ends,
        np.stack(hits, 1)[:, :, *at_state],
        tuple(names),
        rules.spends,
        rules.budget,
        followed.first,
        tuple(firm),
    )
    whole = reachable(whole) if rules.budget[1] else whole
    sums = whole.following.shape[1] * (len(whole.fits) + 1) * (rules.budget[1] + 1)
    if sums > MAX_SUMS:
        raise TooManyStatesError(
            f"the sums over {whole.following.shape[1]:,} states of an automaton, for every place "
            f"and number of changes, would be {sums:,} numbers, more than {MAX_SUMS:,}; set fewer "
            "levels, or leave a term or a constraint out"
        )
    return whole


def levels_reached(
    score: SequenceScore, levels: list[Levels], counters: list[Counter], length: int
) -> list[Tensor]:
    """The level of each term in sequences of some length: ``int64[combinations, counts]`` each.

    Args:
        score: Of which terms.
        levels: Of each.
        counters: Of each that is a sum.
        length: Letters.
    """
    both = [*zip(score.terms, levels, strict=True)]
    sizes = [len(level) for term, level in both if isinstance(term, BestWindow)]
    combinations = torch.from_numpy(all_of(sizes))
    counts = torch.from_numpy(all_of([counter.size for counter in counters]))
    reached, counted, shape = 0, 0, (len(combinations), len(counts))
    found = []
    for term, level in both:
        if isinstance(term, Summed):
            total = counts[:, counted] + counters[counted].lowest
            value = term.of_sums(total, torch.full_like(total, length))
            found.append(level.of(value)[None].expand(shape))
            counted += 1
        else:
            found.append(combinations[:, reached, None].expand(shape))
            reached += 1
    return found


def all_of(sizes: list[int]) -> Ints:
    """All combinations of numbers below some: ``int64[n, sizes]``, the last changing fastest."""
    each = [*product(*map(range, sizes))]
    return np.array(each, dtype=np.int64).reshape(len(each), len(sizes))


def counter_of(term: Summed, rules: Rules) -> Counter:
    """What counts for a term, between the least and the most that any sequence may have so far."""
    units = term.units.numpy(force=True)
    most = rules.budget[1]
    spent = np.arange(most + 1)
    bounds = []
    for sign in (-1, 1):
        best = np.where(spent == 0, 0.0, -np.inf)  # of so much spent
        highest = 0.0
        for place, fits in enumerate(rules.fits):
            after = np.full(most + 1, -np.inf)
            for letter in fits.nonzero()[0]:
                cost = rules.spends[place, letter]
                if cost > most:
                    continue
                here = best[: most + 1 - cost] + sign * at(units, place)[letter]
                after[cost:] = np.maximum(after[cost:], here)
            best = after
            highest = max(highest, float(best.max()))
        bounds.append(sign * int(highest))
    return Counter(units, bounds[0], bounds[1] - bounds[0] + 1)


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


def follow(words: WordMachine, sizes: list[int], counters: list[Counter], rules: Rules) -> Followed:
    """The states of words, levels reached, sums and constraints, and where letters lead.

    Args:
        words: What tells the level of each word.
        sizes: Levels of each term that has words.
        counters: Of each sum.
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
    combinations, sums = all_of(sizes), [counter.size for counter in counters]
    n_places = max([1, *(len(counter.units) for counter in counters)])
    n_counts = prod(sums)
    n_states = n_nodes * len(combinations) * n_counts
    if n_states > MAX_STATES or n_states * n_places * n_letters > MAX_ENTRIES:
        raise TooManyStatesError(
            f"{n_states:,} states of an automaton would follow these terms and constraints, more "
            f"than {MAX_STATES:,}; leave out GC, as a term or a constraint, or set fewer levels"
        )
    following = np.empty((n_places, n_nodes, len(combinations), n_counts, n_letters), np.int64)
    counts = all_of(sums)
    for letter in range(n_letters):
        level = whole.level[:, :, letter].T[:, None]
        place_of = (np.maximum(combinations, level) * radix(sizes)).sum(-1)
        here = whole.following[:, letter, None] * len(combinations) + place_of
        for place in range(n_places):
            added = np.array([at(counter.units, place)[letter] for counter in counters], int)
            then = np.clip(counts + added, 0, np.array(sums, int) - 1)
            count = (then * radix(sums)).sum(-1)
            following[place, ..., letter] = here[..., None] * n_counts + count
    # Every sum begins with nothing, which need not be the lowest.
    first = -int(radix(sums) @ np.array([counter.lowest for counter in counters], int))
    ends: Bools = language.ends.numpy(force=True)
    if len(after) > 1:
        ends = ends[:, rule].repeat(len(combinations) * n_counts, 1)
    return Followed(
        following.reshape(n_places, -1, n_letters),
        ends,
        np.tile(np.arange(len(combinations)).repeat(n_counts), n_nodes),
        np.tile(np.arange(n_counts), n_nodes * len(combinations)),
        first,
    )


def radix(sizes: list[int]) -> Ints:
    """What each digit counts in a number of digits below `sizes`, the last changing fastest."""
    return np.array([prod(sizes[i + 1 :]) for i in range(len(sizes))], dtype=np.int64)
