"""Finite automata over letters: which sequences are allowed, and which can still become so."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gfn_design.errors import InputError

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
MAX_STATES = 200_000  # of an automaton: 10 MB of tables for DNA, and a minute to build


class Automaton(NamedTuple):
    """A complete deterministic finite automaton, which begins in state 0.

    Attributes:
        following: ``int64[states, letters]``, the state after each letter.
        accepts: ``bool[1, states]``, whether a sequence that ends in a state is allowed; or
            ``bool[length + 1, states]``, by its number of letters.
    """

    following: Ints
    accepts: Bools

    @property
    def n_states(self) -> int:
        """How many states there are."""
        return len(self.following)

    def after(self, letters: Ints) -> int:
        """The state after some letters, ``int64[n]``."""
        state = 0
        for letter in letters:
            state = int(self.following[state, letter])
        return state


def anything(n_letters: int) -> Automaton:
    """Allows every sequence."""
    return Automaton(np.zeros((1, n_letters), dtype=np.int64), np.ones((1, 1), dtype=bool))


def product(first: Automaton, second: Automaton) -> Automaton:
    """Allows what both do; of the pairs of states, those that some sequence reaches.

    Raises:
        InputError: There would be too many.
    """
    n, letters = second.n_states, first.following.shape[1]

    def pairs_after(pairs: Ints) -> Ints:
        a, b = np.divmod(pairs, n)
        following: Ints = first.following[a] * n + second.following[b]
        return following

    too_many = InputError(
        f"these constraints together take more than {MAX_STATES:,} states of an automaton; leave "
        "some out, or make them shorter"
    )
    pairs, following = explored(pairs_after, letters, MAX_STATES, too_many)
    a, b = np.divmod(pairs, n)
    return Automaton(following, first.accepts[:, a] & second.accepts[:, b])


def explored(
    after: Callable[[Ints], Ints], letters: int, most: int, too_many: InputError
) -> tuple[Ints, Ints]:
    """Every number that letters lead to from 0 on, 0 first, and which each of them leads to.

    Args:
        after: From numbers ``int64[n]`` to those after each letter, ``int64[n, letters]``.
        letters: Of the alphabet.
        most: Numbers, at most.
        too_many: Raised where there are more.

    Returns:
        ``int64[states]``, and the places there of ``int64[states, letters]``.
    """
    frontier = found = order = np.zeros(1, dtype=np.int64)  # the last is all found, sorted
    rows = [np.zeros((0, letters), dtype=np.int64)]
    while len(frontier):
        children = after(frontier)
        rows.append(children)
        new = np.unique(children)
        frontier = new[~np.isin(new, order, assume_unique=True)]
        found, order = np.concatenate([found, frontier]), np.union1d(order, frontier)
        if len(found) > most:
            raise too_many
    place = np.argsort(found)
    return found, place[np.searchsorted(order, np.concatenate(rows))]


def minimised(automaton: Automaton) -> Automaton:
    """The smallest automaton that allows the same, by refining what tells states apart (Moore)."""
    following, accepts = automaton
    packed = np.ascontiguousarray(np.packbits(accepts, axis=0).T)
    kind = _numbered(packed.view(np.dtype((np.void, packed.shape[1])))[:, 0])
    count = 0
    while (n := int(kind.max()) + 1) > count:
        count, before = n, kind
        for after in following.T:
            kind = _numbered(kind * count + before[after])
    _, first = np.unique(kind, return_index=True)
    rank = np.argsort(np.argsort(first))  # so that the start comes first
    first.sort()
    return Automaton(rank[kind[following[first]]], accepts[:, first])


def _numbered(keys: NDArray[Any]) -> Ints:
    """Equal keys as equal numbers from 0 on."""
    numbers: Ints = np.unique(keys, return_inverse=True)[1].ravel().astype(np.int64)
    return numbers


def containing(patterns: Iterable[Bools], n_letters: int) -> Automaton:
    """Allows sequences in which one of some patterns occurs.

    Args:
        patterns: Of each, which letters fit at each of its places: ``bool[places, letters]``.
        n_letters: Of the alphabet.
    """
    fits = [np.asarray(pattern, dtype=bool) for pattern in patterns]
    # Bit k of a pattern: its first k letters fit the last k that were read (Baeza-Yates and
    # Gonnet 1992). Numbers of Python hold the bits of all patterns, one after another.
    offsets = np.cumsum([0, *(len(pattern) + 1 for pattern in fits)]).tolist()
    start = sum(1 << offset for offset in offsets[:-1])
    ends = sum(1 << offset - 1 for offset in offsets[1:])
    masks = [
        sum(
            1 << offset + int(k)
            for offset, pattern in zip(offsets, fits, strict=False)
            for k in pattern[:, letter].nonzero()[0]
        )
        for letter in range(n_letters)
    ]
    place, todo, rows = {start: 0}, [start], list[list[int]]()
    for state in todo:  # grows as it is walked
        row = []
        for mask in masks:
            after = -1 if state < 0 else (state & mask) << 1 | start
            after = -1 if after & ends else after  # one was found, whatever follows
            if after not in place:
                place[after] = len(place)
                todo.append(after)
            row.append(place[after])
        rows.append(row)
        if len(place) > MAX_STATES:
            raise InputError(
                f"a motif takes more than {MAX_STATES:,} states of an automaton; make it "
                "shorter, or its letters less ambiguous"
            )
    accepts = np.array([[state < 0 for state in todo]])
    return minimised(Automaton(np.array(rows, dtype=np.int64), accepts))


def complement(automaton: Automaton) -> Automaton:
    """Allows what the other does not."""
    return automaton._replace(accepts=~automaton.accepts)


def counting(counted: Bools, length: int, lowest: Ints, highest: Ints) -> Automaton:
    """Allows sequences of k letters of which from ``lowest[k]`` to ``highest[k]`` are counted.

    Args:
        counted: Which letters are: ``bool[letters]``.
        length: Of the longest sequence.
        lowest: ``int64[length + 1]``.
        highest: Likewise.
    """
    states = np.arange(length + 2)  # the last for sequences that are too long
    following = np.minimum(states[:, None] + counted[None], length + 1)
    accepts = (states >= lowest[:, None]) & (states <= highest[:, None])
    return Automaton(following.astype(np.int64), accepts)


def runs_up_to(n_letters: int, longest: int) -> Automaton:
    """Allows sequences in which no letter stands more than so many times in a row."""
    # State 1 + letter * longest + run - 1; 0 at the start, and the last where it is too late.
    end = 1 + n_letters * longest
    following = np.full((end + 1, n_letters), end, dtype=np.int64)
    first = 1 + np.arange(n_letters) * longest
    following[0] = first
    for letter in range(n_letters):
        for run in range(longest):
            here = 1 + letter * longest + run
            following[here] = first
            following[here, letter] = here + 1 if run + 1 < longest else end
    accepts = np.ones((1, end + 1), dtype=bool)
    accepts[0, end] = False
    return Automaton(following, accepts)


def in_frame(words: Bools, frame: int) -> Automaton:
    """Allows sequences none of whose words of equal length, read one after another, is excluded.

    Args:
        words: Which are excluded: ``bool[letters, ..., letters]``.
        frame: Letters before the first word.
    """
    size, letters = words.ndim, words.shape[0]
    # Letters to skip, then what has been read of a word, then the end.
    read: list[tuple[int, ...]] = [()]
    for n in range(1, size):
        read += [(*before, c) for before in read if len(before) == n - 1 for c in range(letters)]
    place = {word: frame + i for i, word in enumerate(read)}
    end = frame + len(read)
    following = np.full((end + 1, letters), end, dtype=np.int64)
    for skipped in range(frame):
        following[skipped] = skipped + 1
    for word, here in place.items():
        for letter in range(letters):
            longer = (*word, letter)
            if len(longer) < size:
                following[here, letter] = place[longer]
            else:
                following[here, letter] = end if words[longer] else place[()]
    accepts = np.ones((1, end + 1), dtype=bool)
    accepts[0, end] = False
    return Automaton(following, accepts)


def ending_in(pattern: Bools, n_letters: int) -> Automaton:
    """Allows sequences that end with what fits a pattern, ``bool[places, letters]``."""
    whole, masks = 1 << len(pattern), [0] * n_letters
    for k, letter in zip(*pattern.nonzero(), strict=True):
        masks[int(letter)] |= 1 << int(k)
    place, todo, rows = {1: 0}, [1], list[list[int]]()
    for state in todo:  # grows as it is walked
        row = []
        for mask in masks:
            after = (state & mask) << 1 | 1
            if after not in place:
                place[after] = len(place)
                todo.append(after)
            row.append(place[after])
        rows.append(row)
    accepts = np.array([[bool(state & whole) for state in todo]])
    return minimised(Automaton(np.array(rows, dtype=np.int64), accepts))
