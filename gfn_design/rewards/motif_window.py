"""The best window of a sequence by a position weight matrix."""

import math

import numpy as np
import torch
from torch import Tensor

from gfn_design.environments.sequences.words import TooManyStatesError
from gfn_design.rewards.jaspar import Motif
from gfn_design.rewards.windows import BestWindow, Floats, Ints, twins

MAX_WORDS = 300_000  # above the lowest level of a motif
UNITS = ("relative", "bits", "p")
BINS = 20_000  # of the relative scale, by which p-values are found
EVENLY = (0.25, 0.25, 0.25, 0.25)


class MotifWindow(BestWindow):
    """Windows of a position weight matrix: log-odds, in one of several units.

    Args:
        motif: The factor's matrix.
        both_strands: The other strand counts as well.
        units: ``relative``, from the worst (0) to the best word (1), as scanners of motifs count;
            ``bits``, the log-odds themselves; ``p``, -log10 of the probability that a random word
            on the strand that is read is as good.
        background: Shares of A, C, G and T where there is no site.
        pseudocount: Added to every count, so that a letter never seen is not impossible.
    """

    odds: Tensor
    log_p: Tensor

    def __init__(
        self,
        motif: Motif,
        both_strands: bool,
        units: str = "relative",
        background: tuple[float, ...] = EVENLY,
        pseudocount: float = 1.0,
    ) -> None:
        counts = motif.counts + pseudocount
        bits = np.log2(counts / counts.sum(0) / np.array(background)[:, None]).T
        worst, best = bits.min(1).sum(), bits.max(1).sum()
        odds = (bits - bits.min(1, keepdims=True)) / (best - worst)
        log_p = _log_p(odds, np.array(background))
        ends = {"relative": (0.0, 1.0), "bits": (worst, best), "p": (0.0, float(log_p[-1]))}
        lowest, highest = (round(float(end), 12) for end in ends[units])
        super().__init__(len(odds), lowest, highest, both_strands)
        self.motif, self.units = motif, units
        self.worst, self.best = float(worst), float(best)
        self.register_buffer("odds", torch.from_numpy(odds.copy()), persistent=False)
        self.register_buffer("log_p", torch.from_numpy(log_p), persistent=False)

    def of_words(self, words: Tensor) -> Tensor:
        values = torch.zeros(words.shape[:-1], dtype=self.odds.dtype, device=words.device)
        for place, letter in zip(self.odds, words.unbind(-1), strict=True):
            values = values + place[letter]
        values = values.round(decimals=12)  # or the best word might be a hair below 1
        if self.units == "bits":
            return (self.worst + (self.best - self.worst) * values).round(decimals=12)
        if self.units == "p":
            return self.log_p[(values * BINS + 0.5).long().clamp(max=BINS)].round(decimals=12)
        return values

    def words_from(self, least: float) -> tuple[Ints, Floats]:
        if self.units == "bits":
            relative = (least - self.worst) / (self.best - self.worst)
        elif self.units == "p":
            place = int(torch.searchsorted(self.log_p, torch.tensor(least, dtype=torch.float64)))
            relative = (place - 1) / BINS
        else:
            relative = least
        words = torch.from_numpy(_words(self.odds.numpy(force=True), relative))
        words = torch.cat([words, twins(words)]).unique(dim=0) if self.both_strands else words
        values = self.of_windows(words.to(self.odds.device))
        reach = values >= least
        return words[reach.cpu()].numpy(), values[reach].numpy(force=True)


def _log_p(odds: Floats, background: Floats) -> Floats:
    """-log10 of the probability of a value, rounded to bins, or more: ``float64[BINS + 1]``."""
    share = np.zeros(BINS + 1 + len(odds))
    share[0] = 1.0
    for place in odds:
        after = np.zeros_like(share)
        for letter, step in enumerate((place * BINS).round().astype(int)):
            after[step:] += background[letter] * share[: len(share) - step]
        share = after
    share[BINS] += share[BINS + 1 :].sum()
    tail: Floats = share[: BINS + 1][::-1].cumsum()[::-1].clip(min=math.ldexp(1, -1000))
    # Rounding must not make the best word impossible.
    return np.maximum.accumulate(-np.log10(np.maximum(tail, background.min() ** len(odds))))


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
            raise TooManyStatesError(
                f"more than {MAX_WORDS:,} words reach the lowest level that is wanted of a motif; "
                "ask for more of it, as in want: 'maximise 0.7..1'"
            )
    return words
