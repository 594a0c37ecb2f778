"""The best window of a sequence: by a table of k-mers, or by a motif."""

from abc import abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

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

    def words(self) -> Tensor:
        """All words, in the order of their scores: ``int64[words, width]``."""
        codes = torch.arange(len(self.scores), device=self.scores.device)
        return codes[:, None] // self.places % self.n_letters

    def words_from(self, least: float) -> tuple[Ints, Floats]:
        words = self.words()
        values = self.of_windows(words)
        reach = values >= least
        return words[reach].numpy(force=True), values[reach].numpy(force=True)


class MeanWindow(nn.Module):
    """The mean value of all windows of a sequence, on the strands that are read.

    Args:
        window: What a window is worth.
    """

    def __init__(self, window: BestWindow) -> None:
        super().__init__()
        self.window = window

    def forward(self, objects: Tensor) -> Tensor:
        """The value of each sequence, ``float64[batch]``; NaN if it is shorter than a window.

        Args:
            objects: ``int64[batch, length]``, -1 after the last letter.
        """
        windows = objects.unfold(1, self.window.width, 1)
        written = (windows >= 0).all(-1)
        values = self.window.of_windows(windows.clamp(min=0)).where(written, 0)
        return values.sum(1) / written.sum(1)
