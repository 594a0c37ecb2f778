"""The best window of a sequence: by a table of k-mers, or by a motif."""

from abc import abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gfn_design.errors import InputError
from gfn_design.rewards.jaspar import Motif

MAX_WORDS = 300_000  # above the lowest level of a motif

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class BestWindow(nn.Module):
    """The largest value of all windows of a sequence, on the strands that are read.

    Args:
        width: Letters of a window.
        lowest: The smallest value that a window can have.
        highest: The largest.
        both_strands: The other strand of a window counts as well; letters are A, C, G, T.
    """

    def __init__(self, width: int, lowest: float, highest: float, both_strands: bool) -> None:
        super().__init__()
        self.width, self.lowest, self.highest = width, lowest, highest
        self.both_strands = both_strands

    @abstractmethod
    def of_words(self, words: Tensor) -> Tensor:
        """The value of words ``int64[..., width]`` as they are written: ``float64[...]``."""

    @abstractmethod
    def words_from(self, least: float) -> tuple[Ints, Floats]:
        """All words whose value is not below `least`, ``int64[n, width]``, and their values."""

    def of_windows(self, windows: Tensor) -> Tensor:
        """The value of windows ``int64[..., width]`` on the strands that are read."""
        values = self.of_words(windows)
        return values.maximum(self.of_words(twins(windows))) if self.both_strands else values

    def forward(self, objects: Tensor) -> Tensor:
        """The value of each sequence, ``float64[batch]``; -inf if it is shorter than a window.

        Args:
            objects: ``int64[batch, length]``, -1 after the last letter.
        """
        windows = objects.unfold(1, self.width, 1)
        values = self.of_windows(windows.clamp(min=0))
        return values.masked_fill((windows < 0).any(-1), -torch.inf).amax(1)

    def best_windows(self, objects: Tensor) -> Tensor:
        """The window that the value of a sequence is of, as its strand reads: ``[batch, width]``.

        Args:
            objects: ``int64[batch, length]``, none shorter than a window.
        """
        windows = objects.unfold(1, self.width, 1)
        written = (windows >= 0).all(-1)
        words = windows.clamp(min=0)
        if self.both_strands:
            words, written = torch.cat([words, twins(words)], 1), written.repeat(1, 2)
        values = self.of_words(words).masked_fill(~written, -torch.inf)
        return words[torch.arange(len(objects)), values.argmax(1)]


def twins(words: Tensor) -> Tensor:
    """The other strand of words ``int64[..., width]`` of A, C, G and T."""
    return 3 - words.flip(-1)


class TableWindow(BestWindow):
    """Windows of a table of k-mers.

    Args:
        scores: ``float64[letters ** width]``, in the order of their letters.
        n_letters: Of the alphabet.
        both_strands: The other strand of a window counts as well.
    """

    scores: Tensor
    places: Tensor

    def __init__(self, scores: Floats, n_letters: int, both_strands: bool) -> None:
        width = round(np.log(len(scores)) / np.log(n_letters))
        super().__init__(width, float(scores.min()), float(scores.max()), both_strands)
        self.n_letters = n_letters
        places = n_letters ** np.arange(width)[::-1].copy()
        self.register_buffer("scores", torch.from_numpy(scores), persistent=False)
        self.register_buffer("places", torch.from_numpy(places), persistent=False)

    def of_words(self, words: Tensor) -> Tensor:
        return self.scores[(words * self.places).sum(-1)]

    def words_from(self, least: float) -> tuple[Ints, Floats]:
        codes = torch.arange(len(self.scores), device=self.scores.device)
        words = codes[:, None] // self.places % self.n_letters
        values = self.of_windows(words)
        reach = values >= least
        return words[reach].numpy(force=True), values[reach].numpy(force=True)


class MotifWindow(BestWindow):
    """Windows of a position weight matrix: log-odds, in units from the worst to the best word.

    So a value of 0.8 is at 80 % of what the matrix can say, as scanners of motifs count.

    Args:
        motif: The factor's matrix.
        both_strands: The other strand counts as well.
        background: Shares of A, C, G and T where there is no site.
        pseudocount: Added to every count, so that a letter never seen is not impossible.
    """

    odds: Tensor

    def __init__(
        self,
        motif: Motif,
        both_strands: bool,
        background: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25),
        pseudocount: float = 1.0,
    ) -> None:
        counts = motif.counts + pseudocount
        odds = np.log(counts / counts.sum(0) / np.array(background)[:, None]).T
        super().__init__(len(odds), 0.0, 1.0, both_strands)
        odds = odds - odds.min(1, keepdims=True)
        odds = odds / odds.max(1).sum()
        self.register_buffer("odds", torch.from_numpy(odds.copy()), persistent=False)

    def of_words(self, words: Tensor) -> Tensor:
        values = torch.zeros(words.shape[:-1], dtype=self.odds.dtype, device=words.device)
        for place, letter in zip(self.odds, words.unbind(-1), strict=True):
            values = values + place[letter]
        return values

    def words_from(self, least: float) -> tuple[Ints, Floats]:
        words = torch.from_numpy(_words(self.odds.numpy(force=True), least))
        words = torch.cat([words, twins(words)]).unique(dim=0) if self.both_strands else words
        return words.numpy(), self.of_windows(words.to(self.odds.device)).numpy(force=True)


def _words(odds: Floats, least: float) -> Ints:
    """The words that a matrix ``float64[width, letters]`` gives `least` or more."""
    best_rest = np.append(odds.max(1)[::-1].cumsum()[::-1], 0.0)
    words, values = np.zeros((1, 0), dtype=np.int64), np.zeros(1)
    for place, column in enumerate(odds):
        longer = values[:, None] + column
        row, letter = (longer + best_rest[place + 1] >= least - 1e-9).nonzero()
        words = np.concatenate([words[row], letter[:, None]], 1)
        values = longer[row, letter]
        if len(words) > MAX_WORDS:
            raise InputError(
                f"more than {MAX_WORDS:,} words reach the lowest level of the motif; ask for more "
                "of it, as in want: '>= 0.9'"
            )
    return words
