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

    Attributes:
        width: Letters of a window.
        lowest: The smallest value that a window can have.
        highest: The largest.
    """

    width: int
    lowest: float
    highest: float

    @abstractmethod
    def of_windows(self, windows: Tensor) -> Tensor:
        """The value of windows ``int64[..., width]`` of letters: ``float64[...]``."""

    @abstractmethod
    def words_from(self, least: float) -> tuple[Ints, Floats]:
        """All words whose value is not below `least`, ``int64[n, width]``, and their values."""

    def forward(self, objects: Tensor) -> Tensor:
        """The value of each sequence, ``float64[batch]``; -inf if it is shorter than a window.

        Args:
            objects: ``int64[batch, length]``, -1 after the last letter.
        """
        windows = objects.unfold(1, self.width, 1)
        values = self.of_windows(windows.clamp(min=0))
        return values.masked_fill((windows < 0).any(-1), -torch.inf).amax(1)


class TableWindow(BestWindow):
    """Windows of a table of k-mers.

    Args:
        scores: ``float64[letters ** width]``, in the order of their letters.
        n_letters: Of the alphabet.
        both_strands: The other strand of a window counts as well; letters are A, C, G, T.
    """

    scores: Tensor
    places: Tensor

    def __init__(self, scores: Floats, n_letters: int, both_strands: bool) -> None:
        super().__init__()
        self.width = round(np.log(len(scores)) / np.log(n_letters))
        self.n_letters = n_letters
        places = n_letters ** np.arange(self.width)[::-1].copy()
        if both_strands:
            digits = np.arange(len(scores))[:, None] // places % n_letters
            scores = np.maximum(scores, scores[((n_letters - 1 - digits[:, ::-1]) * places).sum(1)])
        self.lowest, self.highest = float(scores.min()), float(scores.max())
        self.register_buffer("scores", torch.from_numpy(scores), persistent=False)
        self.register_buffer("places", torch.from_numpy(places), persistent=False)

    def of_windows(self, windows: Tensor) -> Tensor:
        return self.scores[(windows * self.places).sum(-1)]

    def words_from(self, least: float) -> tuple[Ints, Floats]:
        scores, places = self.scores.numpy(force=True), self.places.numpy(force=True)
        codes = (scores >= least).nonzero()[0]
        return codes[:, None] // places % self.n_letters, scores[codes]


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
        super().__init__()
        counts = motif.counts + pseudocount
        odds = np.log(counts / counts.sum(0) / np.array(background)[:, None]).T
        self.width, self.lowest, self.highest = len(odds), 0.0, 1.0
        odds = odds - odds.min(1, keepdims=True)
        odds = odds / odds.max(1).sum()
        strands = [odds, odds[::-1, ::-1]] if both_strands else [odds]
        self.register_buffer("odds", torch.from_numpy(np.stack(strands).copy()), persistent=False)

    def of_windows(self, windows: Tensor) -> Tensor:
        values = [
            sum(strand[place][windows[..., place]] for place in range(self.width))
            for strand in self.odds
        ]
        return torch.stack(values).amax(0)

    def words_from(self, least: float) -> tuple[Ints, Floats]:
        found = [_words(strand, least) for strand in self.odds.numpy(force=True)]
        words = np.unique(np.concatenate(found), axis=0)
        return words, self.of_windows(torch.from_numpy(words).to(self.odds.device)).numpy(
            force=True
        )


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
