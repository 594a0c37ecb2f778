"""Which words of a list have been read, and the best of them: an automaton over letters."""

from typing import NamedTuple

import numpy as np

from gfn_design.environments.sequences.automaton import Bools, Ints, explored
from gfn_design.errors import InputError

MAX_NODES = 1_000_000


class TooManyStatesError(InputError):
    """An exact target would take too much memory."""


class WordMachine(NamedTuple):
    """Reads letters, and tells with each the level of the word that ends there (Aho-Corasick).

    Attributes:
        following: ``int64[nodes, letters]``; it begins in node 0.
        level: ``int64[machines, nodes, letters]``, of the word that a letter ends; 0 of none.
    """

    following: Ints
    level: Ints


def word_machine(words: Ints, levels: Ints, n_letters: int) -> WordMachine:
    """A machine for words of one length.

    Args:
        words: ``int64[n, length]``, different ones.
        levels: ``int64[n]``, above 0.
        n_letters: Of the alphabet.

    Raises:
        TooManyStatesError: There are too many words.
    """
    n, length = words.shape
    places = n_letters ** np.arange(length + 1)
    codes = [np.zeros(n, dtype=np.int64)]  # of the first letters of each word
    for letter in words.T:
        codes.append(codes[-1] * n_letters + letter)
    # A node for each beginning of a word that is not all of it.
    beginnings = [np.unique(code) for code in codes[:-1]] if n else [np.zeros(1, dtype=np.int64)]
    offsets = np.cumsum([0, *map(len, beginnings)])
    if offsets[-1] > MAX_NODES:
        raise TooManyStatesError(
            f"{n:,} words take more than {MAX_NODES:,} nodes of an automaton; ask for fewer levels"
        )
    order = np.argsort(codes[-1])
    whole, level_of = codes[-1][order], levels[order]
    letters, following, level = np.arange(n_letters), [], []
    for depth, code in enumerate(beginnings):
        read = code[:, None] * n_letters + letters
        after = np.full(read.shape, -1)
        for size in range(min(depth + 1, len(beginnings) - 1), -1, -1):
            suffix = read % places[size]
            place = np.searchsorted(beginnings[size], suffix).clip(max=len(beginnings[size]) - 1)
            fits = (beginnings[size][place] == suffix) & (after < 0)
            after[fits] = offsets[size] + place[fits]
        following.append(after)
        found = np.zeros(read.shape, dtype=np.int64)
        if n and depth == length - 1:
            place = np.searchsorted(whole, read).clip(max=n - 1)
            found = np.where(whole[place] == read, level_of[place], 0)
        level.append(found)
    return WordMachine(np.concatenate(following), np.concatenate(level)[None])


def together(
    first: WordMachine, second: WordMachine, dead: Bools | None = None
) -> tuple[WordMachine, Ints, Ints]:
    """Both machines at once; of the pairs of nodes, those that some text leads to.

    Args:
        first: One machine.
        second: The other.
        dead: ``bool[nodes]`` of the second, which nothing leads out of; they count as one pair.

    Returns:
        The machine, and which node of the first and of the second each of its nodes is.
    """
    n, letters = second.following.shape

    def pairs_after(pairs: Ints) -> Ints:
        a, b = np.divmod(pairs, n)
        after = second.following[b]
        children: Ints = first.following[a] * n + after
        return children if dead is None else np.where(dead[after], dead.argmax(), children)

    too_many = TooManyStatesError(
        f"terms and constraints take more than {MAX_NODES:,} nodes of an automaton; leave "
        "a constraint such as GC out, or set fewer levels"
    )
    pairs, following = explored(pairs_after, letters, MAX_NODES, too_many)
    a, b = np.divmod(pairs, n)
    level = np.concatenate([first.level[:, a], second.level[:, b]])
    return WordMachine(following, level), a, b
