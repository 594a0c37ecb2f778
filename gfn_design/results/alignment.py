"""Lining up sequences that share a motif: by shifts, and by strands where there are two."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

GAP = "-"
ROUNDS = 20
PSEUDOCOUNT = 0.5
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def other_strand(text: str, symbols: tuple[str, ...]) -> str:
    """The reverse complement.

    Args:
        text: DNA or RNA.
        symbols: Its alphabet, in which the first pairs with the last, and so on.
    """
    return text.translate(str.maketrans("".join(symbols), "".join(symbols[::-1])))[::-1]


def merged(texts: Sequence[str], symbols: tuple[str, ...]) -> list[str]:
    """The same without those that are the other strand of one before, which are one design.

    Args:
        texts: DNA or RNA.
        symbols: Their alphabet.
    """
    kept: list[str] = []
    seen: set[str] = set()
    for text in texts:
        if text not in seen:
            kept.append(text)
            seen |= {text, other_strand(text, symbols)}
    return kept


def aligned(
    texts: Sequence[str], symbols: tuple[str, ...], strands: bool, farthest: int | None = None
) -> list[str]:
    """Texts of one length or several, one under the other, with gaps at their ends.

    Each is moved, and turned round if there are two strands, to where it agrees best with all
    others, again and again until none moves: a motif that they share ends up in the same columns.
    It begins with the first, which is the best.

    Args:
        texts: One at least.
        symbols: Their letters.
        strands: Whether a text may be shown as its reverse complement.
        farthest: Places that a text may be moved; None is half the length of the longest.

    Returns:
        Texts of one length, with `GAP` where there is nothing; columns in which fewer than half
        have a letter are left out at both ends, unless all are.
    """
    longest = max(map(len, texts))
    shift = longest // 2 if farthest is None else farthest
    width = longest + 2 * shift
    ways = [_ways(text, symbols, strands) for text in texts]
    at = [(0, shift)] * len(texts)  # strand, and place of the first letter
    counts = np.zeros((width, len(symbols)))
    _add(counts, ways[0], at[0], 1)
    for turn in range(ROUNDS):
        moved = 0
        for i, letters in enumerate(ways[1:], 1):  # the first stays, or all could wander off
            if turn:
                _add(counts, letters, at[i], -1)
            best = _best(counts, letters, width)
            moved += best != at[i]
            at[i] = best
            _add(counts, letters, best, 1)
        if turn and not moved:
            break
    lines = []
    for text, (strand, place) in zip(texts, at, strict=True):
        shown = other_strand(text, symbols) if strand else text
        lines.append(GAP * place + shown + GAP * (width - place - len(shown)))
    filled = np.array([[letter != GAP for letter in line] for line in lines]).mean(0)
    filled = filled >= min(0.5, filled.max())
    first, last = np.flatnonzero(filled)[[0, -1]]
    return [line[first : last + 1] for line in lines]


def _ways(text: str, symbols: tuple[str, ...], strands: bool) -> list[Ints]:
    """The letters of a text as numbers, and of its other strand if that counts."""
    shown = [text, other_strand(text, symbols)] if strands else [text]
    return [np.array([symbols.index(letter) for letter in way]) for way in shown]


def _add(counts: Floats, ways: list[Ints], at: tuple[int, int], sign: int) -> None:
    strand, place = at
    letters = ways[strand]
    counts[place + np.arange(len(letters)), letters] += sign


def _best(counts: Floats, ways: list[Ints], width: int) -> tuple[int, int]:
    """The strand and place at which a text fits what is there best; at first its own."""
    total = counts.sum(1, keepdims=True)
    size = counts.shape[1]
    odds = np.log((counts + PSEUDOCOUNT) / (total + PSEUDOCOUNT * size) * size)
    best, found = -np.inf, (0, 0)
    places = width - len(ways[0]) + 1
    middle = places // 2
    for place in sorted(range(places), key=lambda x: abs(x - middle)):
        for strand, letters in enumerate(ways):
            score = odds[place + np.arange(len(letters)), letters].sum()
            if score > best + 1e-9:
                best, found = score, (strand, place)
    return found
